"""A report of costs as a picture: bars over time, or one bar for each value of what it is split by first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pointsman.cli.reports.shapes import MOMENTS
from pointsman.contracts.pricing import NANO

BARS = 25
"""Bars at most where they are no moments; the smaller ones are drawn as one."""

COLOURS = 9
"""Colours at most; the smaller ones are drawn as one."""

OTHERS = "others"


def draw_costs(file: Any, by: Sequence[str], rows: Iterable[dict[str, Any]], *, title: str) -> int:
    """Write a PNG to the open binary `file`; returns the number of rows that were drawn."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    time = next((name for name in by if name in MOMENTS), None)
    along = time or (by[0] if by else None)
    apart = [name for name in by if name != along]
    amounts: dict[tuple[str, str], int] = {}
    count = 0
    for row in rows:
        place = ("" if along is None else row[along] or "-", ", ".join(row[name] or "-" for name in apart))
        amounts[place] = amounts.get(place, 0) + row["cost"]
        count += 1
    series = _largest({name for _, name in amounts}, 1, amounts, COLOURS)
    bars = sorted({bar for bar, _ in amounts}) if time else _largest({bar for bar, _ in amounts}, 0, amounts, BARS)
    drawn: dict[tuple[str, str], float] = {}
    for (bar, name), nano in amounts.items():
        place = (bar if bar in bars else OTHERS, name if name in series else OTHERS)
        drawn[place] = drawn.get(place, 0.0) + nano / NANO
    figure, axes = pyplot.subplots(figsize=(11, 5.5 if time else max(2.5, 1 + 0.35 * len(bars))), dpi=110)
    ends = dict.fromkeys(bars, 0.0)
    moments: list[Any] = [datetime.fromisoformat(bar) for bar in bars] if time else []
    for name in series:
        heights = [drawn.get((bar, name), 0.0) for bar in bars]
        base = [ends[bar] for bar in bars]
        if time:
            axes.bar(moments, heights, bottom=base, width=0.8 / (24 if time == "hour" else 1), label=name or None)
        else:
            axes.barh(bars, heights, left=base, label=name or None)
        ends = {bar: ends[bar] + height for bar, height in zip(bars, heights, strict=True)}
    if time:
        figure.autofmt_xdate()
        axes.set_ylabel("US dollars")
    else:
        axes.invert_yaxis()
        axes.set_xlabel("US dollars")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    if any(series):
        axes.legend(title=", ".join(apart), frameon=False)
    figure.tight_layout()
    figure.savefig(file, format="png")
    pyplot.close(figure)
    return count


def _largest(names: set[str], at: int, amounts: dict[tuple[str, str], int], most: int) -> list[str]:
    """The `most` of `names` that cost the most, in that order; the last stands for the rest, if any is left."""
    totals = dict.fromkeys(names, 0)
    for place, nano in amounts.items():
        totals[place[at]] += nano
    ordered = sorted(names, key=lambda name: (-totals[name], name))
    return ordered if len(ordered) <= most else [*ordered[: most - 1], OTHERS]
