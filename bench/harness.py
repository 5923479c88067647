"""What all benchmarks stand on: cores, servers that are started and ended, peers that are built."""

import dataclasses
import functools
import os
import pathlib
import platform
import re
import select
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CRATES = pathlib.Path("/usr/share/cargo/registry")  # where Debian's librust-*-dev puts them
READY_LINE = re.compile(r"listening on (?P<host>.+):(?P<port>\d+) \((?P<kind>.+)\)")
READY_SECONDS = 10
STOP_SECONDS = 10


class Failure(Exception):
    """A benchmark went wrong; the text says which and why."""


class Unavailable(Failure):
    """Something cannot run on this machine: its rows are left out, the others go on."""


@dataclasses.dataclass(frozen=True)
class Server:
    """A server: its command below the build directory, the raw loop to hold it against, what has to
    build it where meson does not, what it finds in its environment, and whether each connection has a
    buffer of its own."""

    name: str
    command: tuple
    yardstick: str = ""
    language: str = ""
    environment: tuple = ()
    own_buffers: bool = True


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

    def __init__(self, server, build, core, more=(), wrapper=()):
        self.name = server.name
        command = [*wrapper, str(build / server.command[0]), *server.command[1:], "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, **dict(server.environment)), **Cores.pinned(core)
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


def skipped(what, why):
    print(f"skipped: {what}: {why}\n", flush=True)


@functools.cache
def build_go(name, build):
    """Builds bench/NAME/main.go into the build directory; else says why not."""
    if shutil.which("go") is None:
        skipped(name, "go is not installed")
        return False
    environment = dict(os.environ, GOCACHE=str((build / "gocache").resolve()), GOPROXY="off")
    target = (build / "bench" / name).resolve()
    done = subprocess.run(
        ["go", "build", "-o", str(target), "main.go"],
        cwd=HERE / name, env=environment, capture_output=True, text=True, timeout=600,
    )
    if done.returncode != 0:
        skipped(name, done.stderr.strip())
    return done.returncode == 0


@functools.cache
def build_cargo(name, build):
    """Builds the crate bench/NAME from Debian's crates, offline; else says why not. It is built from
    a copy, because cargo writes beside the manifest."""
    if shutil.which("cargo") is None:
        skipped(name, "cargo is not installed")
        return False
    if not list(CRATES.glob("tokio-[0-9]*")):
        skipped(name, "librust-tokio-dev is not installed")
        return False
    copy = build / "cargo" / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(HERE / name, copy, ignore=shutil.ignore_patterns("target", "Cargo.lock"))
    config = copy / "sources.toml"
    config.write_text('[source.crates-io]\nreplace-with = "debian"\n'
                      f'[source.debian]\ndirectory = "{CRATES}"\n')
    done = subprocess.run(
        ["cargo", "build", "--release", "--offline", "--quiet", "--config", "sources.toml",
         "--target-dir", str((build / "cargo/target").resolve())],
        cwd=copy, capture_output=True, text=True, timeout=600,
    )
    if done.returncode != 0:
        skipped(name, done.stderr.strip())
        return False
    shutil.copy(build / "cargo/target/release" / name, build / "bench" / name)
    return True


BUILDERS = {"go": build_go, "cargo": build_cargo}


def is_there(server, build):
    """Whether the program can be started; builds it where meson does not, and says what is missing."""
    program = build / server.command[0]
    if server.language:
        return BUILDERS[server.language](program.name, build)
    if not program.exists():
        skipped(server.name, f"{program} is not built")
    return program.exists()


# --- what was measured where ----------------------------------------------------------------------

def first_line(*command):
    """What a program says of its version; empty where it is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else ""


def asio_version():
    header = pathlib.Path("/usr/include/asio/version.hpp")
    found = re.search(r"define ASIO_VERSION (\d+)", header.read_text()) if header.exists() else None
    number = int(found[1]) if found else 0
    return f"{number // 100000}.{number // 100 % 1000}.{number % 100}" if found else ""


def versions():
    """Name and version of everything that takes part; without what is not installed."""
    distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    crates = sorted(CRATES.glob("tokio-[0-9]*"))
    found = {
        "g++": first_line("g++", "-dumpfullversion"),
        "liburing": first_line("pkg-config", "--modversion", "liburing"),
        "Asio": asio_version(),
        "libuv": first_line("pkg-config", "--modversion", "libuv"),
        "tokio": crates[-1].name.removeprefix("tokio-") if crates else "",
        "rustc": (first_line("rustc", "--version").split(" ") + ["", ""])[1],
        "Go": first_line("go", "version").replace("go version go", "").split(" ")[0],
        "valgrind": first_line("valgrind", "--version").removeprefix("valgrind-"),
    }
    named = [f"{name} {version}" for name, version in found.items() if version]
    return ", ".join([f"Linux {platform.release()}", distribution, *named])


def describe_machine(cores):
    model = platform.processor() or platform.machine()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    where = f"server on core {cores.server}, load on core {cores.client}, loopback"
    if cores.server is None:
        where = "one core for server and load together: compare nothing with other machines"
    return f"{time.strftime('%Y-%m-%d %H:%M')}. {model}, {os.cpu_count()} cores; {where}. {versions()}."
