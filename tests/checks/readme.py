#!/usr/bin/env python3
"""Checks that the code in README.md is the code that the build compiles.

    readme.py <source root>          prints a line for each that differs, exits with 1 if any does
    readme.py <source root> --fix    writes the files' text into README.md

A snippet is a ```cpp block below a line `<!-- snippet: examples/name.cpp -->`. It must equal that
file without the comment the file opens with and the empty lines that follow.
"""

import pathlib
import re
import sys

SNIPPET = re.compile(r"(<!-- snippet: (\S+) -->\n+```cpp\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)


def below_the_opening_comment(text):
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith("//"):
        del lines[0]
    return "".join(lines).lstrip("\n")


def main():
    root = pathlib.Path(sys.argv[1])
    readme = root / "README.md"
    text = readme.read_text()

    def current(path):
        return below_the_opening_comment((root / path).read_text())

    if sys.argv[2:] == ["--fix"]:
        readme.write_text(SNIPPET.sub(lambda m: m[1] + current(m[2]) + m[4], text))
        return 0

    snippets = SNIPPET.findall(text)
    faults = [
        f"README.md differs from {path}" for _, path, code, _ in snippets if code != current(path)
    ]
    if len(snippets) != text.count("<!-- snippet:"):
        faults.append("README.md: a snippet comment without a ```cpp block below it")
    if not snippets:
        faults.append("README.md: no snippet at all")
    print("\n".join(faults) or f"{len(snippets)} of {len(snippets)} snippets are what is compiled")
    return 1 if faults else 0


sys.exit(main())
