#!/usr/bin/env python3
"""Runs rondo's benchmarks beside the same programs on other foundations.

    bench/run.py --build build                 everything
    bench/run.py --build build echo-64x64      one load point of the echo servers
    bench/run.py --build build micro           ns per operation, bytes and allocations
    bench/run.py --build build sync_go         some of the same in Go, where that is installed
    bench/run.py --build build cross_reactor   what reaching another reactor costs
    bench/run.py --build build asio_await      awaiting Asio from a task beside Asio alone
    bench/run.py --build build fib_demo        short requests beside long ones, on several servers

Every round runs each server once, in an order that turns round from one round to the next, on a
core of its own; the load generator has another. (Not in echo-reactors, whose servers want several:
there the kernel places everybody.) The tables give medians over the rounds, and the
ratios are medians of what each round measured, so that a slow minute of the machine hits both sides
of a ratio. Absolute numbers hold for one machine; ratios travel.
"""

import argparse
import collections
import dataclasses
import os
import pathlib
import platform
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time

READY_LINE = re.compile(r"listening on (?P<host>.+):(?P<port>\d+) \((?P<kind>.+)\)")
READY_SECONDS = 10
STOP_SECONDS = 10
ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Server:
    """A server: its command below the build directory, the raw loop to hold it against."""

    name: str
    command: tuple
    yardstick: str = ""


@dataclasses.dataclass(frozen=True)
class Point:
    """One kind of load, as arguments of echo_load, and the servers that get it."""

    connections: int
    bytes: int
    servers: tuple
    pinned: bool = True


RAW_EPOLL = "raw epoll"
RAW_IO_URING = "raw io_uring"
ASIO = "Asio coroutines"
RAW = (RAW_IO_URING, RAW_EPOLL)

SERVERS = (
    Server("rondo io_uring", ("examples/echo_server", "--reactor", "io_uring"), RAW_IO_URING),
    Server("rondo epoll", ("examples/echo_server", "--reactor", "epoll"), RAW_EPOLL),
    Server(RAW_IO_URING, ("bench/echo_io_uring",), RAW_IO_URING),
    Server(RAW_EPOLL, ("bench/echo_epoll",), RAW_EPOLL),
    Server(ASIO, ("bench/echo_asio",), RAW_EPOLL),
)

def rondo_on(reactor, reactors):
    count = "1 reactor" if reactors == 1 else f"{reactors} reactors"
    command = ("examples/echo_server", "--reactor", reactor, "--reactors", str(reactors))
    return Server(f"rondo {reactor}, {count}", command)


REACTORS = tuple(rondo_on(kind, count) for kind in ("io_uring", "epoll") for count in (1, 2))

POINTS = {
    "echo-64x64": Point(connections=64, bytes=64, servers=SERVERS),
    "echo-reactors": Point(connections=64, bytes=64, servers=REACTORS, pinned=False),
}

# Programs that print lines of "name  value unit", and whether each is kept on one core.
MEASURING = {"micro": True, "sync_go": False, "cross_reactor": False, "asio_await": False}


class Failure(Exception):
    """A benchmark went wrong; the text says which and why."""


class Unavailable(Failure):
    """A server cannot run on this machine: its rows are left out, the others go on."""


class Cores:
    """One core for the server, another for whoever asks it; both None on a one-core machine."""

    def __init__(self):
        usable = sorted(os.sched_getaffinity(0))
        self.server, self.client = usable[:2] if len(usable) > 1 else (None, None)

    @staticmethod
    def pinned(core):
        """Arguments for subprocess that keep the child on `core`."""
        if core is None:
            return {}
        return {"preexec_fn": lambda: os.sched_setaffinity(0, {core})}


class RunningServer:
    """Starts a server and waits for its ready line; ends it when the block is left."""

    def __init__(self, server, build, core):
        self.name = server.name
        command = [str(build / server.command[0]), *server.command[1:], "--port", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **Cores.pinned(core)
        )
        try:
            self.port = self._wait_until_ready()
        except BaseException:
            self._stop()
            raise

    def _wait_until_ready(self):
        readable, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
        line = self.process.stdout.readline().strip() if readable else ""
        ready = READY_LINE.fullmatch(line)
        if ready is None:
            if self.process.poll() is None:
                self.process.kill()
            reason = self.process.stderr.read().strip().replace("\n", "; ")
            raise Unavailable(f"{self.name}: not ready: {reason or line or 'silent'}")
        return int(ready["port"])

    def _stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            print(f"{self.name}: did not end within {STOP_SECONDS} s of SIGTERM", file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()


def measure_once(server, point, arguments, cores):
    """One run of one server; returns what echo_load printed, as a dictionary of numbers."""
    server_core, client_core = (cores.server, cores.client) if point.pinned else (None, None)
    with RunningServer(server, arguments.build, server_core) as running:
        command = [
            str(arguments.build / "bench/echo_load"),
            "--port", str(running.port),
            "--connections", str(point.connections),
            "--bytes", str(point.bytes),
            "--seconds", str(arguments.seconds),
            "--warmup", str(arguments.warmup),
            "--server-pid", str(running.process.pid),
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=arguments.seconds + arguments.warmup + 60,
                **Cores.pinned(client_core),
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"{server.name}: echo_load did not end in time") from None
        if done.returncode != 0:
            raise Failure(f"{server.name}: {done.stderr.strip()}")
        return dict(re.findall(r"(\w+)=(\S+)", done.stdout))


def measure(point, servers, arguments, cores):
    """All rounds of one point: for each server the list of its runs, one a round."""
    runs = collections.defaultdict(list)
    remaining = list(servers)
    for number in range(arguments.rounds or ROUNDS):
        for server in remaining if number % 2 == 0 else remaining[::-1]:
            try:
                runs[server.name].append(measure_once(server, point, arguments, cores))
            except Unavailable as reason:
                print(f"skipped: {reason}\n")
                runs.pop(server.name, None)
                remaining = [each for each in remaining if each is not server]
    return runs


def column(runs, name, key="requests_per_second"):
    return [float(run[key]) for run in runs[name]]


def ratio(runs, name, other):
    """Median over the rounds of this server's throughput divided by the other's."""
    if not runs.get(other):
        return "-"
    pairs = zip(column(runs, name), column(runs, other))
    return f"{statistics.median(mine / theirs for mine, theirs in pairs):.2f}"


def print_table(title, point, runs, servers):
    raw = [name for name in RAW if runs.get(name)]
    best_raw = max(raw, key=lambda name: statistics.median(column(runs, name)), default=None)
    headings = ["server", "requests/s", "spread", "p50 us", "p99 us", "server us/request",
                "server CPU", "load CPU"]
    if raw:
        headings += ["of raw, same kind", "of best raw", "of Asio"]
    print(f"### {title}: {point.connections} connections, {point.bytes} bytes, closed loop\n")
    if not point.pinned:
        print(f"Nobody is pinned, and the load generator competes for the {os.cpu_count()} cores.")
        print("Where there are two, this does not tell what a second reactor brings.\n")
    print("| " + " | ".join(headings) + " |")
    print("| --- |" + " ---: |" * (len(headings) - 1))
    for server in servers:
        if not runs.get(server.name):
            continue
        rates = column(runs, server.name)

        def median(key, name=server.name):
            return statistics.median(column(runs, name, key))

        middle = statistics.median(rates)
        cells = [
            server.name,
            f"{middle:,.0f}",
            f"{100 * (min(rates) / middle - 1):+.1f} % to {100 * (max(rates) / middle - 1):+.1f} %",
            f"{median('p50_us'):.0f}",
            f"{median('p99_us'):.0f}",
            f"{median('server_us_per_request'):.2f}",
            f"{median('server_cpu_percent'):.0f} %",
            f"{median('cpu_percent'):.0f} %",
        ]
        if raw:
            cells += [ratio(runs, server.name, each) for each in (server.yardstick, best_raw, ASIO)]
        print("| " + " | ".join(cells) + " |")
    print()
    if any(float(run["cpu_percent"]) > 90 for each in runs.values() for run in each):
        print("In some rounds the load generator used more than 90 % of its core: it may have")
        print("limited the result, and ratios of requests/s are then too close to 1. Where server")
        print("CPU and load CPU add up to much less than 200 %, others were using the machine.\n")


def run_point(title, arguments, cores):
    present = []
    for server in POINTS[title].servers:
        program = arguments.build / server.command[0]
        if program.exists():
            present.append(server)
        else:
            print(f"skipped: {server.name}: {program} is not built\n")
    if not (arguments.build / "bench/echo_load").exists():
        raise Failure(f"{arguments.build / 'bench/echo_load'} is not built")
    runs = measure(POINTS[title], present, arguments, cores)
    if runs:
        print_table(title, POINTS[title], runs, present)


def build_go(name, build):
    """Builds bench/NAME/main.go into the build directory; else says why not."""
    source = pathlib.Path(__file__).resolve().parent / name / "main.go"
    if shutil.which("go") is None:
        print(f"skipped: {name}: go is not installed\n")
        return False
    environment = dict(os.environ, GOCACHE=str((build / "gocache").resolve()), GOPROXY="off")
    target = (build / "bench" / name).resolve()
    done = subprocess.run(
        ["go", "build", "-o", str(target), source.name],
        cwd=source.parent, env=environment, capture_output=True, text=True, timeout=600,
    )
    if done.returncode != 0:
        print(f"skipped: {name}: {done.stderr.strip()}\n")
    return done.returncode == 0


def run_measuring(name, arguments, cores):
    if name.endswith("_go") and not build_go(name, arguments.build):
        return
    program = arguments.build / "bench" / name
    if not program.exists():
        print(f"skipped: {name}: {program} is not built\n")
        return
    print(f"### {name}\n", flush=True)
    core = cores.server if MEASURING[name] else None
    done = subprocess.run(
        [str(program)], stdout=subprocess.PIPE, text=True, timeout=600, **Cores.pinned(core)
    )
    print("| operation | value | unit |\n| --- | ---: | --- |")
    for operation, value, unit in re.findall(r"^(.+?) {2,}(\S+) (.+)$", done.stdout, re.MULTILINE):
        print(f"| {operation} | {value} | {unit} |")
    print()
    if done.returncode != 0:
        raise Failure(f"{name} ended with status {done.returncode}")


def run_fib_demo(arguments):
    """A program of its own; how many rounds it runs by default is its own decision too."""
    command = [sys.executable, str(pathlib.Path(__file__).with_name("fib_demo.py")),
               "--build", str(arguments.build), "--seconds", str(arguments.seconds),
               "--warmup", str(arguments.warmup)]
    if arguments.rounds is not None:
        command += ["--rounds", str(arguments.rounds)]
    if subprocess.run(command).returncode != 0:
        raise Failure("fib_demo failed")


def describe_machine(cores):
    model = platform.processor() or platform.machine()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    where = f"server on core {cores.server}, load on core {cores.client}"
    if cores.server is None:
        where = "one core for server and load together: compare nothing with other machines"
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, Linux {platform.release()}, {model}; {where}\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["echo", *POINTS, *MEASURING, "fib_demo"]
    parser.add_argument("name", nargs="?", choices=names, help="default: all")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson's build directory")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}; of fib_demo 3")
    parser.add_argument("--seconds", type=float, default=2, help="measured time of a run")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds of load before it")
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def main():
    arguments = parse_arguments()
    cores = Cores()
    describe_machine(cores)
    try:
        for title in POINTS:
            if arguments.name in (None, "echo", title):
                run_point(title, arguments, cores)
        for name in MEASURING:
            if arguments.name in (None, name):
                run_measuring(name, arguments, cores)
        if arguments.name in (None, "fib_demo"):
            run_fib_demo(arguments)
    except (Failure, OSError, subprocess.TimeoutExpired) as failure:
        sys.exit(f"run.py: {failure}")


if __name__ == "__main__":
    main()
