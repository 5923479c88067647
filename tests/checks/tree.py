#!/usr/bin/env python3
"""Checks the tree: what the build does not name, and what stands on the wrong floor.

    tree.py <source root>

Prints one line for each fault and exits with 1 if there is any.
"""

import pathlib
import re
import sys

LIBRARY = ("runtime", "sync", "io", "net", "asio", "testing")
PROGRAMS = ("examples", "tests", "bench")

# What a floor may include besides itself. A folder inside a floor's may be a floor of its own.
RUNTIME = ("runtime/core", "runtime/reactor", "runtime/threads", "runtime")
FLOORS = {
    "runtime/core": (),
    "runtime/reactor": ("runtime/core",),
    "runtime/threads": ("runtime/core",),
    "runtime": ("runtime/core", "runtime/reactor", "runtime/threads"),
    "sync": (*RUNTIME,),
    "io": (*RUNTIME,),
    "net": (*RUNTIME, "io"),
    "asio": (*RUNTIME, "io", "net"),
    "testing": (*RUNTIME, "sync", "io", "net"),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def files(root, folders, suffix):
    for folder in folders:
        yield from sorted((root / folder).rglob("*" + suffix))


def unnamed(root):
    """A file that no list names is neither built nor tested nor installed, and nobody notices."""
    library = (root / "meson.build").read_text()
    for suffix in (".hpp", ".cpp"):
        for file in files(root, LIBRARY, suffix):
            name = str(file.relative_to(root))
            if f"'{name}'" not in library:
                yield f"{name}: meson.build does not name it"
    for file in files(root, PROGRAMS, ".cpp"):
        folder, name = file.relative_to(root).as_posix().split("/", 1)
        if folder == "tests" and name.startswith("consumer/"):
            continue
        build = (root / folder / "meson.build").read_text()
        if f"'{name}'" not in build and f"'{name.removesuffix('.cpp')}'" not in build:
            yield f"{folder}/{name}: {folder}/meson.build does not name it"


def not_in_everything(root):
    everything = INCLUDE.findall((root / "rondo.hpp").read_text())
    for file in files(root, LIBRARY, ".hpp"):
        name = file.relative_to(root)
        # Not everybody has Asio.
        if name == pathlib.Path("net/asio.hpp") or name.parts[0] == "asio":
            continue
        if "detail" not in name.parts and f"rondo/{name}" not in everything:
            yield f"{name}: rondo.hpp does not include it"


def floor_of(name):
    """The floor with the longest name that the path begins with."""
    return max((floor for floor in FLOORS if name.startswith(floor + "/")), key=len, default=name)


def going_up(root):
    for suffix in (".hpp", ".cpp"):
        for file in files(root, LIBRARY, suffix):
            name = file.relative_to(root).as_posix()
            if name == "net/asio.hpp":  # another name of asio.hpp
                continue
            floor = floor_of(name)
            for include in INCLUDE.findall(file.read_text()):
                if not include.startswith("rondo/"):
                    continue
                target = floor_of(include.removeprefix("rondo/"))
                if target != floor and target not in FLOORS[floor]:
                    yield f"{name}: {floor} does not stand on {target} and includes <{include}>"


PRIVATE = re.compile(r"^namespace \{\n(.*?)^\}  // namespace\n", re.MULTILINE | re.DOTALL)
PRIVATE_NAME = re.compile(
    r"^(?:(?:class|struct|enum class|enum) (\w+)|\S.*?\b(\w+\(.*?)\)|constexpr .*?(\w+)(?: =|\{))",
    re.MULTILINE,
)


def private_twice(root):
    """Sources that are joined (-Djoined=true) share what each of them keeps to itself."""
    first = {}
    for file in files(root, LIBRARY, ".cpp"):
        name = file.relative_to(root)
        for part in PRIVATE.findall(file.read_text()):
            for found in PRIVATE_NAME.findall(part):
                what = "".join(found)
                if first.setdefault(what, name) != name:
                    yield f"{name}: {what.split('(')[0]} stands in {first[what]} as well"


def without_pragma_once(root):
    for file in files(root, LIBRARY, ".hpp"):
        if not file.read_text().startswith("#pragma once\n"):
            yield f"{file.relative_to(root)}: does not begin with #pragma once"


def main():
    root = pathlib.Path(sys.argv[1])
    faults = [
        fault
        for check in (unnamed, not_in_everything, going_up, private_twice, without_pragma_once)
        for fault in check(root)
    ]
    print("\n".join(faults) or "every file is named, on its floor, and in rondo.hpp")
    return 1 if faults else 0


sys.exit(main())
