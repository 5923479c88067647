#!/usr/bin/env python3
"""Checks that the compiler says what a user needs to hear about each mistake in mistakes.cpp.

    mistakes.py <mistakes.cpp> <include folder> <compiler> [argument...]

Compiles the file once. The first complaint about a line that ends in `// says: TEXT`, or stands
below such a comment, must contain that text. Then pretends to be a compiler that is too old, which
must be said in one sentence.
Prints a line for each fault and exits with 1 if there is any.
"""

import pathlib
import re
import subprocess
import sys

MARK = re.compile(r"//\s*says(?: \((?P<only>[^)]+)\))?: (?P<text>.*)$")
COMPLAINT = re.compile(r"(error|warning): ")


def compile_only(command, source, more=(), text=None):
    command = [*command, "-std=c++20", "-fsyntax-only", "-Wno-unused", "-Wunused-result", *more]
    run = subprocess.run([*command, source], input=text, text=True, stderr=subprocess.PIPE)
    return run.stderr.splitlines()


def macros(command):
    run = subprocess.run(
        [*command, "-dM", "-E", "-x", "c++", "/dev/null"], text=True, stdout=subprocess.PIPE
    )
    return dict(re.findall(r"#define (\w+) (.*)", run.stdout))


def complaints(said, file, is_clang):
    """(line numbers of the file that it concerns, text) of each complaint, in order.

    g++ tells where an instantiation was asked for before it complains, clang afterwards.
    """
    here = re.compile(re.escape(file) + r":(\d+):")
    found, before = [], set()
    for line in said:
        lines = {int(number) for number in here.findall(line)}
        if COMPLAINT.search(line):
            found.append([lines if is_clang else lines | before, line])
            before = set()
        elif is_clang and found:
            found[-1][0] |= lines
        else:
            before |= lines
    return found


def main():
    source, include, *compiler = sys.argv[1:]
    defined = macros(compiler)
    is_clang = "__clang__" in defined
    command = [*compiler, f"-I{include}", *(["-ferror-limit=0"] if is_clang else [])]
    names = {"clang"} if is_clang else {"g++ " + defined["__GNUC__"]}

    faults = []
    heard = complaints(compile_only(command, source), pathlib.Path(source).name, is_clang)
    checked = 0
    for number, line in enumerate(pathlib.Path(source).read_text().splitlines(), 1):
        mark = MARK.search(line)
        if not mark or mark["only"] not in {None, *names}:
            continue
        checked += 1
        number += line.lstrip().startswith("//")
        first = next((text for lines, text in heard if number in lines), "nothing")
        if mark["text"].replace("'", "") not in first.replace("'", ""):
            faults.append(f"line {number} should say '{mark['text']}' and says: {first}")

    age = "-D__clang_major__=14" if is_clang else "-D__GNUC__=11"
    old = compile_only(
        command, "-", ["-w", age, "-x", "c++"], text="#include <rondo/rondo.hpp>\n"
    )
    errors = [line for line in old if "error:" in line]
    if not errors or "rondo needs" not in errors[0] or (is_clang and len(errors) != 1):
        faults.append(f"a compiler that is too old says: {errors[:2]}")

    print("\n".join(faults) or f"{checked} mistakes are told in a sentence each")
    return 1 if faults else 0


sys.exit(main())
