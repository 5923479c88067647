"""Keeps what was measured: the numbers in results.json, the tables in RESULTS.md.

RESULTS.md is written by hand but for the parts between `<!-- measured: NAME -->` and `<!-- end -->`.
Measuring NAME replaces that part and leaves the rest alone, so remarks stand beside their table and
outlive it. A part that is not there yet is added at the end.
"""

import json
import re

import harness

RESULTS = harness.HERE / "RESULTS.md"
NUMBERS = harness.HERE / "results.json"


def load():
    return json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}


def rounded(value):
    """Four digits say all that a measurement knows, and keep differences readable."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def save(name, data):
    results = load() | {name: rounded(data)}
    NUMBERS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    return results


def put(name, text):
    """Replaces the measured part of that name in RESULTS.md."""
    page = RESULTS.read_text()
    part = f"<!-- measured: {name} -->\n{text.strip()}\n<!-- end -->"
    pattern = re.compile(rf"<!-- measured: {re.escape(name)} -->\n.*?<!-- end -->", re.DOTALL)
    page, replaced = pattern.subn(lambda _: part, page)
    if not replaced:
        page = f"{page.rstrip()}\n\n## {name}\n\n{part}\n"
    RESULTS.write_text(page)
