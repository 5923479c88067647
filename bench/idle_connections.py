#!/usr/bin/env python3
"""What an idle connection costs a server in user memory, and whether one of many answers at once.

    bench/idle_connections.py --build build [--connections 50000]

Opens that many connections to each echo server, exchanges a message on every one, and reads from
/proc how much more memory of its own the server then has than before the first. Then sends one more
message on a few of them. The kernel's memory for sockets is not counted: it is the same for all.
The connections come from several loopback addresses, as one has no more than some 28,000 ports.
"""

import argparse
import pathlib
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time

SERVERS = (
    ("rondo io_uring", ("examples/echo_server", "--reactor", "io_uring")),
    ("rondo epoll", ("examples/echo_server", "--reactor", "epoll")),
    ("Asio coroutines", ("bench/echo_asio",)),
    ("tokio", ("bench/echo_tokio",)),
    ("Go", ("bench/echo_go",)),
)
PER_ADDRESS = 20_000
SPARE_DESCRIPTORS = 200
ASKED_AGAIN = 100


def raise_descriptor_limit(wanted):
    """Gives how many descriptors a process may have: `wanted` where that can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return soft
    for limits in ((wanted, max(wanted, hard)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return limits[0]
        except (ValueError, OSError):
            continue
    return soft


def own_memory(pid):
    """Bytes of memory that belong to this process alone."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = re.findall(r"^(?:Private_Clean|Private_Dirty|Swap): +(\d+) kB", text, re.MULTILINE)
    return 1024 * sum(map(int, kib))


def connect(number, port):
    one = socket.socket()
    one.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    one.bind((f"127.0.0.{2 + number // PER_ADDRESS}", 0))
    one.connect(("127.0.0.1", port))
    return one


def exchange(one, message):
    one.sendall(message)
    left = len(message)
    while left:
        left -= len(one.recv(left)) or sys.exit("a server ended a connection")


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(command, count):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    clients = []
    try:
        if not select.select([process.stdout], [], [], 10)[0]:
            sys.exit(f"{command[0]} is silent")
        port = int(re.search(r":(\d+) \(", process.stdout.readline())[1])
        # Once through everything first: what is made at the first connection is no connection's.
        with connect(0, port) as first:
            exchange(first, b"x" * 64)
        time.sleep(0.1)
        before = own_memory(process.pid)
        for number in range(count):
            clients.append(connect(number, port))
            exchange(clients[-1], b"x" * 64)
        each = (own_memory(process.pid) - before) / count
        delays = []
        for one in clients[:: max(1, count // ASKED_AGAIN)]:
            begin = time.perf_counter()
            exchange(one, b"are you there?\n")
            delays.append(1e6 * (time.perf_counter() - begin))
        return each, percentile(delays, 0.5), max(delays)
    finally:
        for one in clients:
            # A reset: no port lingers, and the next server can have them all.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson's build directory")
    parser.add_argument("--connections", type=int, default=50_000)
    arguments = parser.parse_args()
    count = arguments.connections
    limit = raise_descriptor_limit(count + SPARE_DESCRIPTORS)
    if limit < count + SPARE_DESCRIPTORS:
        count = limit - SPARE_DESCRIPTORS
        print(f"only {limit} descriptors are allowed here: {count} connections\n")
    print(f"### {count:,} idle connections\n")
    print("| server | bytes of user memory a connection | one of them answers, median us | worst us |")
    print("| --- | ---: | ---: | ---: |")
    for name, command in SERVERS:
        program = arguments.build / command[0]
        if not program.exists():
            print(f"skipped: {name}: {program} is not built", file=sys.stderr)
            continue
        each, median, worst = measure([str(program), *command[1:], "--port", "0"], count)
        print(f"| {name} | {each:,.0f} | {median:.0f} | {worst:.0f} |", flush=True)
    print()


if __name__ == "__main__":
    main()
