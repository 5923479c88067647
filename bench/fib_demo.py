#!/usr/bin/env python3
"""The demonstration of David Beazley's PyCon 2015 talk, on several fib servers.

    bench/fib_demo.py --build build/bench        (or: ./dev bench fib_demo)

One connection asks for fib(1) in a closed loop, alone and then beside others that keep asking for
fib(40). How much do they slow it down? Every phase has a server of its own; each round runs all
phases, in an order that turns round from one round to the next. The tables give medians over the
rounds, the ratios are medians of what each round measured.

The clients are one thread, on the second usable core. All servers get the same of two placements,
because where the kernel puts a server decides more than what the server does:

    free     on any core. Their long work may use the clients' core while the clients wait. A server
             that the kernel puts on the clients' core wakes them without an interrupt to another
             core, and is several times as fast as one that it puts elsewhere: on two cores a ratio
             to `alone` compares placements as much as servers.
    apart    all of the server on the first core, so that both sides of a ratio are placed alike.

A ratio above 1 is real and no merit: alone, both cores fall asleep between requests, and waking one
takes long; long work beside it keeps them awake.
"""

import argparse
import collections
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time

import harness

LONG_CLIENTS = (0, 1, 2, 4)
LONG_N = 40
PLACEMENTS = ("free", "apart")

CHUNKS = ("--framing", "chunk")
RONDO = (
    harness.Server("rondo io_uring", ("examples/fib_server", *CHUNKS, "--reactor", "io_uring")),
    harness.Server("rondo epoll", ("examples/fib_server", *CHUNKS, "--reactor", "epoll")),
)
GO = harness.Server("Go", ("bench/fib_go",))
SERVERS = (
    *RONDO,
    harness.Server("generators and select", ("examples/select_scheduler",)),
    harness.Server("Asio coroutines, thread_pool", ("bench/fib_asio",)),
    GO,
)

AT_ONCE = 5
AT_ONCE_N = 35

# What is promised of ours.
LEAST_RATIO = 0.8
MOST_P99_US = 1000

# Of one core. From here on others have disturbed a phase too much.
MOST_OTHERS_PERCENT = 10


def busy_seconds():
    """Processor time that the whole machine has spent, on anything."""
    user, nice, system, _, _, irq, softirq, *_ = (
        int(each) for each in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def used_seconds(process):
    """The same of one process, and of our children that have ended."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + ended.ru_utime + ended.ru_stime


def ask(server, arguments, cores, server_core, load):
    """Starts the server, runs fib_demo_load on it, returns what that printed, as numbers."""
    with harness.RunningServer(server, arguments.build, server_core) as running:
        command = [str(arguments.build / "bench/fib_demo_load"), "--port", str(running.port), *load]
        machine, ours, begin = busy_seconds(), used_seconds(running.process.pid), time.monotonic()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True,
                timeout=arguments.seconds + arguments.warmup + 90, **cores.pinned(cores.client),
            )
        except subprocess.TimeoutExpired:
            raise harness.Failure(f"{server.name}: fib_demo_load did not end in time") from None
        if done.returncode != 0:
            raise harness.Failure(f"{server.name}: {done.stderr.strip()}")
        wall = time.monotonic() - begin
        others = busy_seconds() - machine - (used_seconds(running.process.pid) - ours)
        results = {key: float(value) for key, value in re.findall(r"(\w+)=(\S+)", done.stdout)}
        return results | {"others_percent": 100 * max(others, 0) / wall}


def measure(servers, placements, arguments, cores):
    """For each placement, server and number of long clients the list of its runs, one a round."""
    runs = collections.defaultdict(list)
    phases = [(placement, server, clients)
              for server in servers for placement in placements for clients in LONG_CLIENTS]
    missing = set()
    for number in range(arguments.rounds):
        for placement, server, clients in phases if number % 2 == 0 else phases[::-1]:
            if server.name in missing:
                continue
            load = ["--long-clients", str(clients), "--long-n", str(LONG_N),
                    "--seconds", str(arguments.seconds), "--warmup", str(arguments.warmup)]
            core = cores.server if placement == "apart" else None
            try:
                result = ask(server, arguments, cores, core, load)
                runs[placement, server.name, clients].append(result)
            except harness.Unavailable as reason:
                print(f"skipped: {reason}\n")
                missing.add(server.name)
    return [server for server in servers if server.name not in missing], runs


def median(runs, key):
    return statistics.median(each[key] for each in runs)


def ratio_to_alone(runs, placement, server, clients):
    rates = zip(runs[placement, server.name, clients], runs[placement, server.name, 0])
    return statistics.median(
        busy["requests_per_second"] / alone["requests_per_second"] for busy, alone in rates
    )


def print_table(server, placement, runs):
    print(f"### {server.name}, {placement}\n")
    print("| long clients | requests/s | of alone | p50 us | p99 us | max us | long answers/s |"
          " others' CPU |")
    print("|" + " ---: |" * 8)
    for clients in LONG_CLIENTS:
        mine = runs[placement, server.name, clients]
        cells = [
            str(clients),
            f"{median(mine, 'requests_per_second'):,.0f}",
            f"{ratio_to_alone(runs, placement, server, clients):.3f}",
            f"{median(mine, 'p50_us'):,.0f}",
            f"{median(mine, 'p99_us'):,.0f}",
            f"{median(mine, 'max_us'):,.0f}",
            f"{median(mine, 'long_per_second'):.1f}",
            f"{median(mine, 'others_percent'):.0f} %",
        ]
        print("| " + " | ".join(cells) + " |")
    print()


def print_at_once(server, arguments, cores):
    """The same server with all cores and with one, and so with one thread in its pool."""
    load = ["--at-once", str(AT_ONCE), "--long-n", str(AT_ONCE_N)]
    runs = collections.defaultdict(list)
    for _ in range(arguments.rounds):
        for core in (None, cores.server):
            runs[core].append(ask(server, arguments, cores, core, load))
    everywhere, on_one = (median(runs[core], "milliseconds") for core in (None, cores.server))
    print(f"{server.name}: {AT_ONCE} requests fib({AT_ONCE_N}) at once: "
          f"{on_one:.0f} ms on one core, {everywhere:.0f} ms on all: "
          f"{on_one / everywhere:.2f} times as fast (others' CPU meanwhile "
          f"{median(runs[cores.server], 'others_percent'):.0f} % and "
          f"{median(runs[None], 'others_percent'):.0f} %)")


def print_targets(server, placement, runs):
    for clients in LONG_CLIENTS[1:]:
        mine = runs[placement, server.name, clients]
        long_rate = median(mine, "long_per_second")

        others = max(median(runs[placement, server.name, each], "others_percent")
                     for each in (0, clients))

        def verdict(holds):
            if others > MOST_OTHERS_PERCENT:
                return f"says nothing: others used {others:.0f} % of a core"
            if long_rate == 0:
                return "says nothing: not one long request was answered"
            return "held" if holds else "MISSED"

        who = f"{server.name}, {placement}, long clients: {clients}"
        if clients == 1:
            ratio = ratio_to_alone(runs, placement, server, clients)
            print(f"{who}: {ratio:.2f} of alone, "
                  f"target {LEAST_RATIO} or more: {verdict(ratio >= LEAST_RATIO)}")
        p99 = median(mine, "p99_us")
        print(f"{who}: p99 {p99 / 1000:.3f} ms, "
              f"target below {MOST_P99_US / 1000:.0f} ms: {verdict(p99 < MOST_P99_US)}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson's build directory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--placement", choices=PLACEMENTS, help="default: one after the other")
    parser.add_argument("--seconds", type=float, default=2, help="measured time of a phase")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds of load before it")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    cores = harness.Cores()
    go = harness.build_go("fib_go", arguments.build)
    servers = []
    for server in SERVERS:
        if (arguments.build / server.command[0]).exists() and (server is not GO or go):
            servers.append(server)
        elif server is not GO:
            print(f"skipped: {server.name}: {arguments.build / server.command[0]} is not built\n")
    # A machine with one core has one placement.
    placements = PLACEMENTS if cores.server is not None else PLACEMENTS[:1]
    if arguments.placement in placements:
        placements = (arguments.placement,)
    print("One connection asks for fib(1), others keep asking for "
          f"fib({LONG_N}). The clients: core {cores.client}.")
    print(f"The servers: free: any core; apart: core {cores.server}.\n", flush=True)

    servers, runs = measure(servers, placements, arguments, cores)
    for server in servers:
        for placement in placements:
            print_table(server, placement, runs)
    disturbed = sum(each["others_percent"] > MOST_OTHERS_PERCENT
                    for phase in runs.values() for each in phase)
    if disturbed > 0:
        print(f"In {disturbed} of {sum(map(len, runs.values()))} phases others used more than "
              f"{MOST_OTHERS_PERCENT} % of a core: measure again on a quiet machine.\n")
    ours = [server for server in RONDO if server in servers]
    if cores.server is not None:
        for server in ours:
            print_at_once(server, arguments, cores)
        print()
    for server in ours:
        for placement in placements:
            print_targets(server, placement, runs)
    print()


if __name__ == "__main__":
    try:
        main()
    except (harness.Failure, OSError, subprocess.TimeoutExpired) as failure:
        sys.exit(f"fib_demo.py: {failure}")
