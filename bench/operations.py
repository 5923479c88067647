"""What single operations cost: nanoseconds beside tokio, Go and Asio, and instructions."""

import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

import harness
import servers

# Programs that print lines of "name  value unit", and whether each is kept on one core. One that is
# not built is skipped.
MEASURING = {"cross_reactor": False, "asio_await": False}

MICRO_ROUNDS = 3

LINE = re.compile(r"^(.+?) {2,}(\S+) (.+)$", re.MULTILINE)

# Of the table in DESIGN.md's words: what must be undercut.
TARGETS = {
    "spawn and join one task": "under 20",
    "spawn and join, in batches of 1000, a task": "under 20",
    "await a task that returns at once": "under 8",
    "yield between two tasks": "under 3.8",
    "channel round trip, one thread": "under 40",
    "lock and unlock a free mutex": "under 9",
    "arm and cancel a timer": "under 25",
    "arm and cancel a timer among a million": "under 25",
    "channel round trip, two threads": "under 8,500; spinning 1,500",
    "go to another thread and back": "under 8,500; spinning 1,500",
    "resident memory per sleeping task": "under 200",
}

# The same operations elsewhere: the program, what builds it, and what it is told. Sleeping tasks
# have a process of their own, because memory once used would be used again.
PEERS = (
    ("rondo", harness.Server("micro", ("bench/micro",)), ((),)),
    ("tokio", harness.Server("micro_tokio", ("bench/micro_tokio",), language="cargo"),
     (("sleepers",), ())),
    ("Go", harness.Server("micro_go", ("bench/micro_go",), language="go"), (("sleepers",), ())),
    ("Asio", harness.Server("micro_asio", ("bench/micro_asio",)), (("sleepers",), ())),
)


def lines_of(program, words, core):
    """What a measuring program printed, as name -> (value, unit)."""
    done = subprocess.run([str(program), *words], stdout=subprocess.PIPE, text=True, timeout=900,
                          **harness.Cores.pinned(core))
    if done.returncode != 0:
        raise harness.Failure(f"{program.name} ended with status {done.returncode}")
    return {name: (float(value), unit) for name, value, unit in LINE.findall(done.stdout)}


def run_micro(arguments, cores):
    """name -> {unit, runtime -> value} of everything that rondo or a peer measures: the least of a
    few rounds, in which everybody has his turn. Whatever else a machine does only adds to a loop
    that stays in the cache, and on a virtual one that can be half as much again for seconds."""
    rows = {}
    present = [each for each in PEERS if harness.is_there(each[1], arguments.build)]
    for _ in range(MICRO_ROUNDS):
        for runtime, server, calls in present:
            for words in calls:
                # Those that need two threads undo the pin themselves, or are started without one.
                core = cores.server if runtime == "rondo" or words else None
                found = lines_of(arguments.build / server.command[0], words, core)
                for name, (value, unit) in found.items():
                    row = rows.setdefault(name, {"unit": unit})
                    row[runtime] = min(value, row.get(runtime, value))
    return {"rows": rows}


def micro_table(data):
    runtimes = [runtime for runtime, _, _ in PEERS]
    lines = ["| operation | " + " | ".join(runtimes) + " | unit | target |",
             "| --- |" + " ---: |" * len(runtimes) + " --- | --- |"]
    for name, row in data["rows"].items():
        cells = [f"{row[each]:,.1f}" if each in row else "-" for each in runtimes]
        lines.append(f"| {name} | " + " | ".join(cells)
                     + f" | {row['unit']} | {TARGETS.get(name, '')} |")
    return "\n".join(lines + ["", f"The least of {MICRO_ROUNDS} rounds."])


def run_measuring(name, arguments, cores):
    program = arguments.build / "bench" / name
    if not program.exists():
        harness.skipped(name, f"{program} is not built")
        return None
    found = lines_of(program, (), cores.server if MEASURING[name] else None)
    return {"rows": {each: {"unit": unit, "value": value}
                     for each, (value, unit) in found.items()}}


def measuring_table(data):
    lines = ["| operation | value | unit |", "| --- | ---: | --- |"]
    lines += [f"| {name} | {row['value']:,.2f} | {row['unit']} |"
              for name, row in data["rows"].items()]
    return "\n".join(lines)


# --- instructions ---------------------------------------------------------------------------------

# What micro calls them, and how they read.
COUNTED = {
    "spawn": "spawn and join one task",
    "spawn-batch": "spawn and join, in batches of 1000, a task",
    "await": "await a task that returns at once",
    "yield": "yield between two tasks",
    "channel": "channel round trip, one thread",
    "mutex": "lock and unlock a free mutex",
    "timer": "arm and cancel a timer",
}

# Go's runtime and valgrind do not get on.
COUNTED_SERVERS = tuple(each for each in servers.SERVERS if each.language != "go")

CALLGRIND = ("valgrind", "--tool=callgrind")
WARM_UP = 1000
REQUESTS = 2000


def instructions_of(program, name, times):
    done = subprocess.run([*CALLGRIND, "--callgrind-out-file=/dev/null", str(program), name,
                           str(times)], capture_output=True, text=True, timeout=300)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise harness.Failure(f"callgrind on micro {name}: {done.stderr.strip()[-300:]}")
    return int(found[1])


def per_operation(program, name):
    """By the difference of two lengths, so that start and end do not count."""
    short, long = 10_000, 30_000
    return (instructions_of(program, name, long)
            - instructions_of(program, name, short)) / (long - short)


def per_request(server, build, connections):
    """Counted from one dump of the running server to the next. Valgrind takes io_uring_enter for a
    call that does not sleep, and lets neither signals nor other threads in meanwhile. So the dump
    is asked for from outside, the server killed, and no name given that a thread would resolve."""
    with tempfile.TemporaryDirectory() as folder:
        dumps = pathlib.Path(folder, "dump")
        wrapper = (*CALLGRIND, f"--callgrind-out-file={dumps}")
        more = ("--host", "127.0.0.1", *(("--buffer", "4096") if server.own_buffers else ()))
        with harness.RunningServer(server, build, None, more, wrapper) as running:
            try:
                peers = [socket.create_connection(("127.0.0.1", running.port), timeout=20)
                         for _ in range(connections)]

                def ask(requests):
                    for _ in range(requests // connections):
                        for peer in peers:
                            peer.sendall(bytes(64))
                        for peer in peers:
                            if len(peer.recv(64, socket.MSG_WAITALL)) != 64:
                                raise harness.Failure(f"{server.name}: the connection ended")

                for requests in (WARM_UP, REQUESTS):
                    ask(requests)
                    subprocess.run(["vgdb", f"--pid={running.process.pid}", "dump"], check=True,
                                   capture_output=True, timeout=60)
                done = REQUESTS // connections * connections
            finally:
                running.process.kill()  # SIGTERM would be one of those that wait
        found = re.search(r"^summary: (\d+)", pathlib.Path(f"{dumps}.2").read_text(), re.MULTILINE)
        return int(found[1]) / done


def run_instructions(arguments):
    if shutil.which("valgrind") is None:
        harness.skipped("instructions", "valgrind is not installed")
        return None
    rows = {}
    for server in COUNTED_SERVERS:
        if not harness.is_there(server, arguments.build):
            continue
        try:
            rows[f"echo request, {server.name}"] = {
                "one": per_request(server, arguments.build, 1),
                "many": per_request(server, arguments.build, 64),
            }
        except (harness.Failure, subprocess.SubprocessError, OSError) as reason:
            harness.skipped(f"instructions, {server.name}", reason)
    program = arguments.build / "bench/micro"
    if program.exists():
        for name, reads in COUNTED.items():
            rows[reads] = {"one": per_operation(program, name)}
    return {"rows": rows}


def instructions_table(data):
    lines = ["Instructions in user space, counted by callgrind; those of the kernel are not seen. With",
             "one connection a request is a whole turn of the loop; with 64 that are asked together",
             "the turn is shared, by as many as happened to be ready (so this column varies a little).",
             "",
             "| operation | instructions | with 64 connections |", "| --- | ---: | ---: |"]
    for name, row in data["rows"].items():
        many = f"{row['many']:,.0f}" if "many" in row else ""
        lines.append(f"| {name} | {row['one']:,.0f} | {many} |")
    return "\n".join(lines)
