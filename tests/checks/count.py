#!/usr/bin/env python3
"""Counts what `meson test` ran: every doctest case, every nc case, and every other test as one.

    count.py <build directory>

Prints the whole output of each test that failed, then `<directory>: N passed, N failed`. Exits
with 1 when anything failed or nothing ran. A program that fails without saying how many cases did
(it crashed, or leaked) counts as one failure.
"""

import json
import pathlib
import re
import sys

SUMMARIES = (
    re.compile(r"\[doctest\] test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed"),
    re.compile(r"^nc: (\d+) passed, (\d+) failed$", re.MULTILINE),
)


def count(test):
    ok = test["result"] in ("OK", "EXPECTEDFAIL")
    for summary in SUMMARIES:
        if found := summary.findall(test.get("stdout", "")):
            passed, failed = map(int, found[-1])
            return passed, failed if ok else max(failed, 1)
    return (1, 0) if ok else (0, 1)


def main():
    build = pathlib.Path(sys.argv[1])
    log = build / "meson-logs" / "testlog.json"
    passed = failed = 0
    for line in log.read_text().splitlines() if log.exists() else []:
        test = json.loads(line)
        test_passed, test_failed = count(test)
        passed += test_passed
        failed += test_failed
        if test_failed:
            print(f"--- {test['name']}: {test['result']}, exit status {test['returncode']}")
            print(test.get("stdout", ""), test.get("stderr", ""), sep="\n")
    print(f"{build.name}: {passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


sys.exit(main())
