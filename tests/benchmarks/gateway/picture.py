"""Draw a run: `python picture.py gateway.json gateway.png`, with matplotlib in an environment of its own.

A script apart, because nothing else of the project needs matplotlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {
    "pointsman": "#1f6f8b",
    "floor": "#cfd5da",
    "kernel-floor": "#e6e9ec",
    "smg": "#d98c5f",
    "vllm-router": "#c2a83e",
    "sglang-router": "#8f86b5",
    "litellm": "#a65b6b",
}
"""The floors are yardsticks and no gateways, so they are pale."""


def at(rows: list[dict[str, Any]], kind: str, connections: int, size: int) -> list[dict[str, Any]]:
    return [
        row
        for row in rows
        if (row["kind"], row["connections"], row["size"]) == (kind, connections, size) and row["throughput"]
    ]


def bars(axes: Axes, title: str, rows: list[dict[str, Any]], name: str, unit: str, scale: float, form: str) -> None:
    """One bar a subject, with the spread of the repeats."""
    rows = [row for row in rows if row[name]]
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    places = range(len(rows))
    values = [row[name]["median"] / scale for row in rows]
    low = [max(0.0, value - row[name]["low"] / scale) for value, row in zip(values, rows, strict=True)]
    high = [max(0.0, row[name]["high"] / scale - value) for value, row in zip(values, rows, strict=True)]
    axes.barh(places, values, xerr=[low, high], color=[COLOURS[row["subject"]] for row in rows], ecolor="#555")
    axes.set_yticks(places, [row["subject"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(unit, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    room = max((value + more for value, more in zip(values, high, strict=True)), default=1)
    axes.set_xlim(0, room * 1.35)
    for place, value, more, row in zip(places, values, high, rows, strict=True):
        note = form.format(value) + (" merged" if row["merged"] else "") + (" errors" if row["errors"] else "")
        axes.text(value + more + room * 0.02, place, note, va="center", fontsize=8)


def main(source: Path, target: Path) -> None:
    run = json.loads(source.read_text())
    # The direct connection is no gateway, and shares its one core with the load: it has no bar of its own.
    rows = [row for row in run["rows"] if row["subject"] != "direct"]
    unary, stream = at(rows, "unary", 32, 512), at(rows, "stream", 32, 512)
    # LiteLLM is two orders of magnitude away: beside its times the others could not be told apart.
    lean = [row for row in unary if row["subject"] != "litellm"]
    latency = [row for row in at(rows, "unary", 1, 512) if row["subject"] != "litellm"]
    figure, places = plt.subplots(3, 2, figsize=(12, 11), layout="constrained")
    bars(places[0][0], "Unary, 0.5 KB, 32 connections", unary, "throughput", "requests/s", 1, "{:,.0f}")
    bars(places[0][1], "Streams of 64 tokens, 32 connections", stream, "throughput", "streams/s", 1, "{:,.0f}")
    bars(
        places[1][0], "Added latency, median, 1 connection", latency, "added_p50", "ms over direct", 1000, "{:.3f}"
    )
    bars(places[1][1], "Added latency, p99, 1 connection", latency, "added_p99", "ms over direct", 1000, "{:.3f}")
    bars(places[2][0], "CPU of the gateway, unary, 32 connections", lean, "cpu", "us a request", 1, "{:,.0f}")
    sizes(places[2][1], rows)
    machine = run["machine"]
    figure.suptitle(
        f"One core of {machine['cpu']}; upstream and load on another. "
        "Bars are medians of the repeats, lines go from the lowest to the highest.",
        fontsize=9,
    )
    figure.savefig(target, dpi=110)


def sizes(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Throughput by the size of the body."""
    axes.set_title("Unary by body size, 32 connections", loc="left", fontsize=10, fontweight="bold")
    there = [row for row in rows if row["kind"] == "unary" and row["connections"] == 32]
    there = [row for row in there if row["throughput"] and row["throughput"]["median"]]
    for name in dict.fromkeys(row["subject"] for row in there):
        points = sorted(
            (row["size"] / 1024, row["throughput"]["median"]) for row in there if row["subject"] == name
        )
        width = 3 if name == "pointsman" else 1.5
        axes.plot(*zip(*points, strict=True), marker="o", label=name, linewidth=width, color=COLOURS[name])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    measured = sorted({row["size"] / 1024 for row in there})
    axes.set_xticks(measured, [f"{size:g}" for size in measured])
    axes.set_xlabel("KB", fontsize=8)
    axes.set_ylabel("requests/s", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center", bbox_to_anchor=(0.5, 0.27), ncols=2, fontsize=7, frameon=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
