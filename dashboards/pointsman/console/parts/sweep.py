"""What a threshold would have done, drawn: how probabilities are spread, what parts them, and what it comes to.

Pure markup of the router's sweep over all thresholds, so that a page can draw every position of a slider without
asking again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointsman.console.parts.figures import NOTHING, count, dollars, percent, seconds
from pointsman.console.parts.markup import Markup, joined, stat, stats, tag

STEPS = 100
"""Thresholds lie this many to the distance from 0 to 1 apart."""


def at(swept: Mapping[str, Any], threshold: float) -> Mapping[str, Any]:
    """What `threshold`, a multiple of 1/100, would have done."""
    course: Mapping[str, Any] = swept["thresholds"][round(threshold * STEPS)]
    return course


def picture(swept: Mapping[str, Any], threshold: float) -> Markup:
    """A histogram of probabilities in the tracks' colours, the cost at each threshold, and where this one is."""
    bins = swept["histogram"]
    most = max(bins) or 1
    bars = [
        tag(
            "i",
            class_="pm-think" if (place + 0.5) / len(bins) >= threshold else "pm-no-think",
            style=f"height:{max(number / most * 100, 1.5 if number else 0):.1f}%",
        )
        for place, number in enumerate(bins)
    ]
    course = at(swept, threshold)
    words = (
        f"{count(sum(bins))} decisions by their probability. At the threshold {threshold:.2f}, "
        f"{percent(course['think_share'])} of all would think."
    )
    present = swept["present_threshold"]
    return tag(
        "figure",
        tag(
            "div",
            tag("div", *bars, class_="pm-spread-bars"),
            _line(swept),
            tag("b", class_="pm-spread-now", style=f"left:{present * 100:.2f}%", title=f"now {present:.2f}"),
            tag("b", class_="pm-spread-new", style=f"left:{threshold * 100:.2f}%"),
            class_="pm-spread-plot",
            aria_hidden="true",
        ),
        tag("figcaption", words, class_="pm-hidden"),
        class_="pm-spread",
    )


def legend() -> Markup:
    """What is what in the picture."""
    return tag(
        "div",
        tag("span", "decisions without thinking", class_="pm-pill pm-no-think"),
        tag("span", "decisions that think", class_="pm-pill pm-think"),
        tag("span", "their cost at each threshold", class_="pm-pill pm-key-line"),
        tag("span", "threshold now", class_="pm-pill pm-key-now"),
        class_="pm-legend",
    )


def outcome(swept: Mapping[str, Any], threshold: float) -> Markup:
    """What it comes to: share, cost, time, and how many would have gone another way."""
    course = at(swept, threshold)
    cost, time = course["cost"], course["seconds"]
    known = cost["decisions"] > 0
    return stats(
        stat("Think", percent(course["think_share"]), f"was {percent(swept['think_share'])}", kind="pm-think"),
        stat(
            "Cost",
            dollars(cost["simulated"]) if known else NOTHING,
            _change(cost["actual"], cost["simulated"], dollars(cost["actual"])) if known else "not known",
        ),
        stat(
            "Mean time",
            seconds(time["simulated"]),
            _change(time["actual"], time["simulated"], seconds(time["actual"])),
        ),
        stat(
            "Other track",
            count(course["to_think"] + course["to_no_think"]),
            f"{count(course['to_think'])} to think, {count(course['to_no_think'])} to no think",
        ),
    )


def reservations(swept: Mapping[str, Any]) -> Markup:
    """What was looked at, what no threshold changes, and by how much all of it may be wrong."""
    untouched = ", ".join(f"{count(number)} by {source}" for source, number in swept["untouched"].items())
    looked = f"The newest {count(swept['decisions'])} decisions" + (
        f"; not changed by any threshold: {untouched}." if untouched else "."
    )
    return tag(
        "details",
        tag("summary", "An estimate. What it rests on"),
        tag("p", looked),
        tag("ul", *(tag("li", caveat) for caveat in swept["caveats"])),
        class_="pm-details",
    )


def _line(swept: Mapping[str, Any]) -> Markup:
    """What the decisions would have cost at each threshold, as a line over the whole width."""
    costs = [course["cost"]["simulated"] for course in swept["thresholds"]]
    most = max(costs)
    if not most:
        return joined(())
    points = " ".join(f"{place},{96 - cost / most * 92:.2f}" for place, cost in enumerate(costs))
    inner = tag("polyline", points=points)
    return tag("svg", inner, viewBox="0 0 100 100", preserveAspectRatio="none", class_="pm-spread-line")


def _change(before: float | None, after: float | None, was: str) -> str:
    if before is None or after is None:
        return NOTHING
    if not before or before == after:
        return f"was {was}"
    return f"was {was}, {(after / before - 1) * 100:+.1f} %".replace("-", "−")
