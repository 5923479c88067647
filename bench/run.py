#!/usr/bin/env python3
"""Runs rondo's benchmarks beside the same programs on other foundations.

    bench/run.py --build build                 everything, and the charts
    bench/run.py --build build echo            all loads of the servers
    bench/run.py --build build echo-64x64      one of them
    bench/run.py --build build instructions    instructions an operation, under callgrind
    bench/run.py --build build micro           ns an operation, bytes and allocations
    bench/run.py --build build cross_reactor   what reaching another reactor costs
    bench/run.py --build build asio_await      awaiting Asio from a task beside Asio alone
    bench/run.py --build build connections     what idle connections cost
    bench/run.py --build build fib_demo        short requests beside long ones; prints only
    bench/run.py --build build charts          draws them again from the numbers kept

What is measured replaces its part of bench/RESULTS.md and of bench/results.json, which the charts
are drawn from; with --no-write it is only printed.

Every round runs each server once, in an order that is shuffled anew, on a core of its own; the load
generator has another. (Not in echo-reactors, whose servers want several: there the kernel places
everybody.) The tables give medians over the rounds, and the ratios are medians of what each round
measured. Rounds are many and short, because the speed of a virtual machine's network changes within
seconds: so a slow one hits both sides of a ratio. Absolute numbers hold for one machine; ratios
travel.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import time

import harness
import operations
import report
import servers

# How a server is measured. fib_demo, a program of its own, has its own habits.
USUAL = {"rounds": 15, "seconds": 0.3, "warmup": 0.1}


def keep(name, data, text, arguments):
    """Prints a table, and puts it and its numbers where they are kept."""
    if data is None or text is None:
        return
    length = "" if name not in servers.POINTS else (
        f", rounds: {arguments.rounds} of {arguments.seconds:g} s each")
    text = f"{text}\n\n*{time.strftime('%Y-%m-%d %H:%M')}{length}*"
    print(f"### {name}\n\n{text}\n", flush=True)
    if arguments.write:
        report.put(name, text)
        report.save(name, data)


def run_points(arguments, cores):
    for name, point in servers.POINTS.items():
        if arguments.name in (None, "echo", name):
            data = servers.run_point(name, arguments, cores)
            keep(name, data, data and servers.table(point, data), arguments)
    text = servers.overview(report.load())
    if text and arguments.write and arguments.name in (None, "echo", *servers.POINTS):
        report.put("overview", text)


def run_operations(arguments, cores):
    if arguments.name in (None, "micro"):
        data = operations.run_micro(arguments, cores)
        keep("micro", data, operations.micro_table(data), arguments)
    if arguments.name in (None, "instructions"):
        data = operations.run_instructions(arguments)
        keep("instructions", data, data and operations.instructions_table(data), arguments)
    for name in operations.MEASURING:
        if arguments.name in (None, name):
            data = operations.run_measuring(name, arguments, cores)
            keep(name, data, data and operations.measuring_table(data), arguments)


def run_fib_demo(arguments):
    """A program of its own; how long it measures unless told is its own decision too."""
    command = [sys.executable, str(harness.HERE / "fib_demo.py"), "--build", str(arguments.build)]
    for option, value in arguments.asked_for.items():
        command += [f"--{option}", str(value)]
    if subprocess.run(command).returncode != 0:
        raise harness.Failure("fib_demo failed")


def run_connections(arguments):
    """A program of its own too; what it prints is kept."""
    done = subprocess.run([sys.executable, str(harness.HERE / "idle_connections.py"), "--build",
                           str(arguments.build)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise harness.Failure("idle_connections failed")
    text = f"{done.stdout.strip()}\n\n*{time.strftime('%Y-%m-%d %H:%M')}*"
    print(f"### connections\n\n{text}\n", flush=True)
    if arguments.write:
        report.put("connections", text)


def draw_charts():
    """With whichever python has matplotlib: Debian's package serves Debian's python only."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([python, "-c", "import matplotlib"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        if subprocess.run([python, str(harness.HERE / "charts.py")]).returncode != 0:
            raise harness.Failure("charts.py failed")
        return
    harness.skipped("charts", "python3-matplotlib is not installed")


def parse_arguments():
    usual = ", ".join(f"--{option} {value}" for option, value in USUAL.items())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     epilog=f"Usual for servers: {usual}.")
    names = ["echo", *servers.POINTS, "micro", "instructions", *operations.MEASURING, "connections",
             "fib_demo", "charts"]
    parser.add_argument("name", nargs="?", choices=names, help="default: all")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson's build directory")
    parser.add_argument("--rounds", type=int, help="how often each server is measured")
    parser.add_argument("--seconds", type=float, help="measured time of a run")
    parser.add_argument("--warmup", type=float, help="seconds of load before it")
    parser.add_argument("--no-write", dest="write", action="store_false",
                        help="leave RESULTS.md, results.json and the charts alone")
    given = {option: value for option, value in vars(parser.parse_args()).items()
             if option not in USUAL or value is not None}
    arguments = argparse.Namespace(**(USUAL | given))
    arguments.asked_for = {option: given[option] for option in USUAL if option in given}
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for a thousand connections and more
    cores = harness.Cores()
    machine = harness.describe_machine(cores)
    print(machine, end="\n\n", flush=True)
    try:
        if arguments.write and arguments.name in (None, "echo"):
            report.put("machine", machine)
        run_points(arguments, cores)
        run_operations(arguments, cores)
        if arguments.name in (None, "connections"):
            run_connections(arguments)
        if arguments.name in (None, "fib_demo"):
            run_fib_demo(arguments)
        if arguments.write and arguments.name != "fib_demo":
            draw_charts()
    except (harness.Failure, OSError, subprocess.TimeoutExpired) as failure:
        sys.exit(f"run.py: {failure}")


if __name__ == "__main__":
    main()
