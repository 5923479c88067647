#!/usr/bin/env python3
"""Draws the README's charts from bench/results.json into bench/charts/.

    bench/charts.py        needs matplotlib (Debian: python3-matplotlib, and Debian's python3)

The same numbers give the same bytes. Text stays text and the background is left out, in greys and
colours that can be read on white and on black.
"""

import json
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend has to be chosen first)

HERE = pathlib.Path(__file__).resolve().parent
CHARTS = HERE / "charts"

TEXT = "#808080"
OURS = "#d9730d"
RAW = "#3b82c4"
OTHERS = "#8a8f98"

plt.rcParams.update({
    "svg.hashsalt": "rondo", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
    "text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": TEXT, "xtick.color": TEXT,
    "ytick.color": TEXT, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlelocation": "left", "axes.titlesize": 11, "legend.frameon": False,
})


def colour(name):
    return OURS if name.startswith("rondo") else RAW if name.startswith("raw") else OTHERS


def save(figure, name):
    CHARTS.mkdir(exist_ok=True)
    figure.savefig(CHARTS / f"{name}.svg", transparent=True, bbox_inches="tight",
                   metadata={"Date": None, "Creator": None})
    plt.close(figure)
    print(f"drawn: {(CHARTS / name).relative_to(HERE.parent)}.svg")


def throughput(results):
    """Requests a second of each server, the usual point."""
    rows = results["echo-64x64"]["rows"]
    names = sorted(rows, key=lambda name: rows[name]["per_second"])
    rates = [rows[name]["per_second"] / 1000 for name in names]
    figure, axes = plt.subplots(figsize=(7, 0.35 * len(names) + 0.8))
    bars = axes.barh(names, rates, color=[colour(name) for name in names])
    axes.bar_label(bars, fmt="%.0f", padding=3, color=TEXT)
    axes.set_title("Echo, 64 connections, 64 bytes: thousand requests/s on one core")
    save(figure, "throughput")


def server_cpu(results):
    """What a request costs the server, as a multiple of the cheapest raw loop's."""
    # No "stream": how it goes is chance (RESULTS.md tells), and its scale would flatten the others.
    points = [name for name in ("echo-64x64", "echo-1000x64", "echo-64x16k", "echo-pipelined",
                                "churn") if name in results]
    series = ["raw io_uring", "rondo io_uring", "rondo epoll", "Asio coroutines", "libuv", "tokio",
              "Go"]
    shades = [RAW, OURS, "#f0a860", "#5f6670", "#7f8791", "#a2a9b2", "#c3c8ce"]
    figure, axes = plt.subplots(figsize=(7.5, 3.6))
    width = 0.8 / len(series)
    for index, (name, shade) in enumerate(zip(series, shades)):
        heights = []
        for point in points:
            rows = results[point]["rows"]
            raw = [rows[each]["server_us_each"] for each in ("raw io_uring", "raw epoll")
                   if each in rows]
            known = name in rows and raw and min(raw) > 0
            heights.append(rows[name]["server_us_each"] / min(raw) if known else 0)
        places = [place + (index - len(series) / 2 + 0.5) * width for place in range(len(points))]
        axes.bar(places, heights, width * 0.92, color=shade, label=name)
    axes.axhline(1, color=TEXT, linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(points)), [name.removeprefix("echo-") for name in points])
    axes.set_title("Server CPU for the same work, cheapest raw loop = 1 (lower is better)")
    axes.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1),
                labelcolor=TEXT)
    save(figure, "server_cpu")


def operations(results):
    """Nanoseconds of single operations, ours and the best of the others."""
    rows = results["micro"]["rows"]
    names = [name for name, row in rows.items()
             if row["unit"] == "ns" and "rondo" in row and len(row) > 2 and "thread" not in
             name.replace("one thread", "")]
    names.sort(key=lambda name: rows[name]["rondo"], reverse=True)
    figure, axes = plt.subplots(figsize=(7, 0.45 * len(names) + 1))
    for place, name in enumerate(names):
        row = rows[name]
        peer = min((each for each in row if each not in ("rondo", "unit")), key=row.get)
        ours, theirs = axes.barh([place + 0.2, place - 0.2], [row["rondo"], row[peer]], 0.38,
                                 color=[OURS, OTHERS])
        for bar, text in ((ours, f"{row['rondo']:.1f}"), (theirs, f"{row[peer]:.1f} {peer}")):
            axes.text(bar.get_width() * 1.06, bar.get_y() + bar.get_height() / 2, text, va="center",
                      fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(left=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_title("Nanoseconds an operation: rondo, and the best of tokio, Go and Asio")
    save(figure, "operations")


def main():
    results = json.loads((HERE / "results.json").read_text())
    for needed, draw in (("echo-64x64", throughput), ("echo-64x64", server_cpu),
                         ("micro", operations)):
        if needed in results:
            draw(results)


if __name__ == "__main__":
    main()
