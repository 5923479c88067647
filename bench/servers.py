"""The servers side by side under load: rondo, raw loops, and other foundations."""

import collections
import dataclasses
import random
import re
import statistics
import subprocess

import harness
from harness import Server

RAW_EPOLL = "raw epoll"
RAW_IO_URING = "raw io_uring"
RAW = (RAW_IO_URING, RAW_EPOLL)

SERVERS = (
    Server("rondo io_uring", ("examples/echo_server", "--reactor", "io_uring"), RAW_IO_URING),
    Server("rondo epoll", ("examples/echo_server", "--reactor", "epoll"), RAW_EPOLL),
    Server("rondo io_uring, receive()", ("examples/echo_server", "--reactor", "io_uring"),
           RAW_IO_URING, own_buffers=False),
    Server("rondo epoll, receive()", ("examples/echo_server", "--reactor", "epoll"), RAW_EPOLL,
           own_buffers=False),
    Server(RAW_IO_URING, ("bench/echo_io_uring",), RAW_IO_URING),
    Server(RAW_EPOLL, ("bench/echo_epoll",), RAW_EPOLL),
    Server("Asio coroutines", ("bench/echo_asio",), RAW_EPOLL),
    Server("Asio callbacks", ("bench/echo_asio_callbacks",), RAW_EPOLL),
    Server("libuv", ("bench/echo_libuv",), RAW_EPOLL),
    Server("tokio", ("bench/echo_tokio",), RAW_EPOLL, "cargo"),
    Server("Go", ("bench/echo_go",), RAW_EPOLL, "go", (("GOMAXPROCS", "1"),)),
)

SPINNING = tuple(
    Server(f"rondo {kind}, spin", ("examples/echo_server", "--reactor", kind, "--spin", "200"), raw)
    for kind, raw in (("io_uring", RAW_IO_URING), ("epoll", RAW_EPOLL)))


SPIN_REMARK = (
    'Servers named "spin" look for work for up to 200 us before they sleep '
    "(`runtime_options::spin`):\nthat saves waking an idle core, which costs the waker as much as the "
    "woken, and keeps a core busy.\nOf the others only Go looks around for a while.")


def rondo_on(reactor, reactors):
    count = "1 reactor" if reactors == 1 else f"{reactors} reactors"
    command = ("examples/echo_server", "--reactor", reactor, "--reactors", str(reactors))
    return Server(f"rondo {reactor}, {count}", command)


REACTORS = tuple(rondo_on(kind, count) for kind in ("io_uring", "epoll") for count in (1, 2))


@dataclasses.dataclass(frozen=True)
class Point:
    """One kind of load: what it is, the load generator's arguments, how much a server reads at once,
    what is counted, and what is to be said of the table."""

    about: str
    load: tuple
    buffer: int = 4096
    servers: tuple = SERVERS
    pinned: bool = True
    server_arguments: tuple = ()
    rate: str = "requests/s"
    cost: str = "server us/request"
    remark: str = ""


def echo(connections, size, *more):
    return ("echo_load", "--connections", str(connections), "--bytes", str(size), *more)


POINTS = {
    "echo-1x64": Point(
        "1 connection, 64 bytes, closed loop", echo(1, 64), servers=SERVERS + SPINNING,
        remark=SPIN_REMARK),
    "echo-64x64": Point("64 connections, 64 bytes, closed loop", echo(64, 64)),
    "echo-1000x64": Point("1000 connections, 64 bytes, closed loop", echo(1000, 64)),
    "echo-64x16k": Point("64 connections, 16 KiB, closed loop", echo(64, 16384), buffer=16384),
    "echo-pipelined": Point(
        "64 connections, 16 requests of 64 bytes sent at once, the next 16 when all are answered "
        "(latencies are those of the 16 together)", echo(64, 64, "--pipeline", "16")),
    "churn": Point(
        "64 at a time connect, send 64 bytes, read the answer, and close with a reset (SO_LINGER 0: "
        "else TIME_WAIT would use up the ports, and one server's leavings slow the next one down)",
        ("churn_load", "--connections", "64", "--bytes", "64"),
        servers=SERVERS + SPINNING, rate="connections/s", cost="server us/connection",
        remark=SPIN_REMARK),
    "stream": Point(
        "4 connections, the client sends 256 KiB at a time, the server reads up to 64 KiB and "
        "discards it; MB is 1,000,000 bytes", ("stream_load", "--connections", "4"), buffer=65536,
        server_arguments=("--discard",), rate="MB/s", cost="server ms/GB"),
    "echo-reactors": Point("64 connections, 64 bytes, closed loop", echo(64, 64),
                           servers=REACTORS, pinned=False),
}


def measure_once(server, point, arguments, cores):
    """One run of one server; returns what the load generator printed, as a dictionary of numbers."""
    server_core, client_core = (cores.server, cores.client) if point.pinned else (None, None)
    more = point.server_arguments
    if server.own_buffers:
        more = (*more, "--buffer", str(point.buffer))
    with harness.RunningServer(server, arguments.build, server_core, more) as running:
        command = [
            str(arguments.build / "bench" / point.load[0]), *point.load[1:],
            "--port", str(running.port),
            "--seconds", str(arguments.seconds),
            "--warmup", str(arguments.warmup),
            "--server-pid", str(running.process.pid),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True,
                timeout=arguments.seconds + arguments.warmup + 60,
                **cores.pinned(client_core),
            )
        except subprocess.TimeoutExpired:
            raise harness.Failure(f"{server.name}: {point.load[0]} did not end in time") from None
        if done.returncode != 0:
            raise harness.Failure(f"{server.name}: {done.stderr.strip()}")
        numbers = re.findall(r"(\w+)=([\d.]+)(?=\s|$)", done.stdout)
        return {key: float(value) for key, value in numbers}


def measure(point, servers, arguments, cores):
    """All rounds of one point: for each server the list of its runs, one a round; and of those that
    failed, why: that must not cost the others their evening. The order is shuffled anew each round,
    so that nobody always comes after the same server, and is the same every time."""
    shuffle = random.Random(0).sample
    runs = collections.defaultdict(list)
    missing = {}
    remaining = list(servers)
    for _ in range(arguments.rounds):
        for server in shuffle(remaining, len(remaining)):
            try:
                runs[server.name].append(measure_once(server, point, arguments, cores))
            except harness.Failure as reason:
                harness.skipped(server.name, reason)
                runs.pop(server.name, None)
                missing[server.name] = str(reason)
                remaining = [each for each in remaining if each is not server]
    return runs, missing


def column(runs, name, key):
    return [run[key] for run in runs[name]]


def median(runs, name, key):
    return statistics.median(column(runs, name, key))


def ratio(runs, name, other, key):
    """Median over the rounds of one server's figure divided by another's of the same round."""
    if not runs.get(name) or not runs.get(other):
        return None
    pairs = zip(column(runs, name, key), column(runs, other, key))
    return statistics.median(mine / theirs if theirs else 0 for mine, theirs in pairs)


def quartiles(values):
    """Between which two the middle half lies."""
    if len(values) < 2:
        return values[0], values[0]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def summarise(runs, servers):
    """Of each server a row of plain numbers; ratios are above 1 where the server is the better."""
    raw = [name for name in RAW if runs.get(name)]
    fastest = max(raw, key=lambda name: median(runs, name, "per_second"), default=None)
    cheapest = min(raw, key=lambda name: median(runs, name, "server_us_each"), default=None)
    others = [name for name in runs if not name.startswith(("rondo", "raw"))]
    best_other = max(others, key=lambda name: median(runs, name, "per_second"), default=None)
    rows = {}
    for server in servers:
        if not runs.get(server.name):
            continue
        rates = column(runs, server.name, "per_second")
        middle = statistics.median(rates)
        lower, upper = quartiles(rates)
        keys = ("p50_us", "p99_us", "server_us_each", "server_cpu_percent", "cpu_percent")
        rows[server.name] = {
            "per_second": middle,
            "lower_quartile": lower / middle - 1,
            "upper_quartile": upper / middle - 1,
            **{key: median(runs, server.name, key) for key in keys},
            "rate_of_same": ratio(runs, server.name, server.yardstick, "per_second"),
            "rate_of_best": ratio(runs, server.name, fastest, "per_second"),
            "rate_of_other": ratio(runs, server.name, best_other, "per_second"),
            "cost_of_same": ratio(runs, server.yardstick, server.name, "server_us_each"),
            "cost_of_best": ratio(runs, cheapest, server.name, "server_us_each"),
        }
    busy = any(run["cpu_percent"] > 90 for each in runs.values() for run in each)
    return {"rows": rows, "load_was_busy": busy, "best_other": best_other}


def table(point, data):
    """The markdown of what summarise() gave."""
    rows = data["rows"]
    with_raw = any(row["rate_of_best"] is not None for row in rows.values())
    headings = ["server", point.rate, "spread", "p50 us", "p99 us", point.cost, "server CPU",
                "load CPU"]
    if with_raw:
        headings += ["rate of same raw", "rate of best raw", "CPU of same raw", "CPU of best raw"]
    lines = [point.about[0].upper() + point.about[1:] + ".", ""]
    if not point.pinned:
        lines += ["Nobody is pinned, and the load generator competes for the same cores: where there",
                  "are two, this does not tell what a second reactor brings.", ""]
    lines += ["| " + " | ".join(headings) + " |", "| --- |" + " ---: |" * (len(headings) - 1)]
    for name, row in rows.items():
        cells = [
            name,
            f"{row['per_second']:,.0f}",
            f"{100 * row['lower_quartile']:+.1f} % to {100 * row['upper_quartile']:+.1f} %",
            f"{row['p50_us']:,.0f}",
            f"{row['p99_us']:,.0f}",
            f"{row['server_us_each']:.2f}",
            f"{row['server_cpu_percent']:.0f} %",
            f"{row['cpu_percent']:.0f} %",
        ]
        if with_raw:
            ratios = ("rate_of_same", "rate_of_best", "cost_of_same", "cost_of_best")
            cells += ["-" if row[key] is None else f"{row[key]:.2f}" for key in ratios]
        lines.append("| " + " | ".join(cells) + " |")
    if point.remark:
        lines += ["", point.remark]
    for reason in data["missing"].values():
        lines += ["", f"Not measured: {reason}"]
    if data["load_was_busy"] and with_raw:
        lines += ["", "The load generator used more than 90 % of its core in some rounds and may have "
                  "limited the rates:", "ratios of rates are then too close to 1, those of the "
                  "server's own CPU are not."]
    return "\n".join(lines)


def run_point(name, arguments, cores):
    """Measures one point; what summarise() gives, or None where no server could run."""
    point = POINTS[name]
    if not (arguments.build / "bench" / point.load[0]).exists():
        raise harness.Failure(f"{arguments.build / 'bench' / point.load[0]} is not built")
    present = [each for each in point.servers if harness.is_there(each, arguments.build)]
    runs, missing = measure(point, present, arguments, cores)
    return summarise(runs, present) | {"missing": missing} if runs else None


def overview(results):
    """One row a point: how rondo stands to the raw loops and to the best of the others; one more
    where it was measured spinning, too."""
    lines = ["| point | io_uring: rate of raw io_uring | CPU of raw io_uring | rate of best raw |"
             " epoll: rate of raw epoll | CPU of raw epoll | best other server, requests |"
             " io_uring to it | epoll to it |",
             "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |"]
    for name in POINTS:
        for suffix in ("", ", spin"):
            rows = results.get(name, {}).get("rows", {})
            uring, epoll = (rows.get(f"rondo {kind}{suffix}") for kind in ("io_uring", "epoll"))
            best = results.get(name, {}).get("best_other")
            if not uring or not epoll or uring["rate_of_best"] is None or best is None:
                continue
            figures = (uring["rate_of_same"], uring["cost_of_same"], uring["rate_of_best"],
                       epoll["rate_of_same"], epoll["cost_of_same"])
            to_best = (uring["rate_of_other"], epoll["rate_of_other"])
            lines.append(f"| {name}{suffix} | "
                         + " | ".join("-" if each is None else f"{each:.2f}" for each in figures)
                         + f" | {best} | " + " | ".join(f"{each:.2f}" for each in to_best) + " |")
    return "\n".join(lines) if len(lines) > 2 else None
