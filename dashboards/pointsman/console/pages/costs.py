"""What was used and what it cost: by tenant, model, mode, pool or key, over time, down to one of each.

Every number is the ledger's own, by the same reports as `pointsman costs` and `pointsman usage`: exact to the
nano-dollar. What is shown stands in the page's address, so that it can be sent to somebody and gone back to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from nicegui import ui

from pointsman.console.page import Page
from pointsman.console.parts.charts import Line, bar_options, bars, colour_of
from pointsman.console.parts.figures import count, dollars, percent
from pointsman.console.parts.markup import (
    MODE_NAMES,
    Markup,
    joined,
    link,
    mode_pill,
    replace,
    show,
    stat,
    stats,
    table,
    tag,
)
from pointsman.console.visit import Visit

PATH = "/costs"

SPANS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
MEASURES = {
    "cost": "Dollars",
    "requests": "Requests",
    "input": "Input",
    "cached_input": "Cached input",
    "reasoning": "Thinking",
    "answer": "Answer",
}
DIMENSIONS = {"tenant": "Tenant", "model": "Model", "mode": "Mode", "pool": "Pool", "key": "Key"}

COURSES = 7
"""Courses in the chart at most; what is left is added up."""

ROWS = 50
"""Rows on one page of the table."""

REFRESHED = 10.0
"""Seconds between two looks at the table; the chart is looked at half as often."""

_NANO = 1e9


class Asked(NamedTuple):
    """What the page's address asks for; `only` are the values that everything shown has."""

    span: str
    by: str
    measure: str
    page: int
    only: Mapping[str, str]

    @classmethod
    def of(cls, query: Mapping[str, str], dimensions: Sequence[str]) -> Asked:
        """As the address says; what it says wrongly is left out."""
        only = {name: query[name] for name in dimensions if query.get(name)}
        free = [name for name in dimensions if name not in only] or list(dimensions)
        by = query.get("by", "")
        page = query.get("page", "1")
        return cls(
            query.get("span", "") if query.get("span") in SPANS else "7d",
            by if by in dimensions else free[0],
            query.get("measure", "") if query.get("measure") in MEASURES else "cost",
            int(page) if page.isdecimal() and len(page) < 7 and int(page) else 1,
            only,
        )

    def at(self, **changes: Any) -> str:
        """The address of the same with some changes."""
        other = self._replace(**{"page": 1, **changes})
        words = {"span": other.span, "by": other.by, "measure": other.measure, **other.only}
        if other.page > 1:
            words["page"] = str(other.page)
        return f"{PATH}?{urlencode(words)}"

    def into(self, value: str, dimensions: Sequence[str]) -> str:
        """The address of what has `value` alone, split by what it is not split by yet."""
        only = {**self.only, self.by: value}
        return self.at(only=only, by=next((name for name in dimensions if name not in only), self.by))

    @property
    def params(self) -> dict[str, str]:
        """What the router's reports are asked for."""
        return {"by": self.by, "since": self.span, **self.only}


async def build(visit: Visit) -> None:
    """The page."""
    dimensions = [name for name in DIMENSIONS if visit.who.is_admin or name != "tenant"]
    asked = Asked.of(visit.query, dimensions)
    prefix = "/admin/v1" if visit.who.is_admin else "/v1"
    course: dict[str, str | int] = {**asked.params, "measure": asked.measure, "limit": COURSES}
    course["step"] = "hour" if asked.span == "24h" else "day"
    report = await visit.get(f"{prefix}/usage", asked.params, max_age=REFRESHED)
    courses = await visit.get(f"{prefix}/timeseries", course, max_age=REFRESHED)

    show(_choices(asked, dimensions))
    totals = show(_totals(report))
    with ui.element("section").classes("pm-card"):
        head = show(_chart_head(asked, courses), class_="pm-card-head")
        unit = " $" if asked.measure == "cost" else ""
        label = f"{MEASURES[asked.measure]} by {DIMENSIONS[asked.by].lower()} over {SPANS[asked.span]}"

        def deeper(_: int, name: str) -> None:
            if any(_name(one["of"][asked.by]) == name for one in courses["data"]):
                value = next(one["of"][asked.by] for one in courses["data"] if _name(one["of"][asked.by]) == name)
                ui.navigate.to(asked.into(value, dimensions))

        chart = bars(visit.scheme, _steps(courses), _lines(asked, courses), unit=unit, on_click=deeper, label=label)
    with ui.element("section").classes("pm-card"):
        rows = show(_rows(asked, report, dimensions))

    def told(report: dict[str, Any]) -> None:
        replace(totals, _totals(report))
        replace(rows, _rows(asked, report, dimensions))

    def told_course(new: dict[str, Any]) -> None:
        nonlocal courses
        if new["data"] == courses["data"] and new["moments"] == courses["moments"]:
            return
        courses = new
        fresh = bar_options(visit.scheme, _steps(new), _lines(asked, new), unit=unit)
        chart.options.update(fresh)
        chart.update()
        replace(head, _chart_head(asked, new))

    visit.live(f"{prefix}/usage", told, every=REFRESHED, params=asked.params)
    visit.live(f"{prefix}/timeseries", told_course, every=2 * REFRESHED, params=course)


def _choices(asked: Asked, dimensions: Sequence[str]) -> Markup:
    def tabs(name: str, label: str, options: Mapping[str, str]) -> Markup:
        chosen = getattr(asked, name)
        links = (
            tag("a", text, href=asked.at(**{name: value}), aria_current="true" if value == chosen else None)
            for value, text in options.items()
        )
        return tag("div", *links, class_="pm-tabs", role="group", aria_label=label)

    chips = (
        tag(
            "a",
            f"{DIMENSIONS[name]}: {_name(value)}",
            tag("span", "×", aria_hidden="true"),
            href=asked.at(only={other: one for other, one in asked.only.items() if other != name}, by=name),
            class_="pm-chip",
            aria_label=f"{DIMENSIONS[name]} {_name(value)}: show all again",
        )
        for name, value in asked.only.items()
    )
    split = {name: DIMENSIONS[name] for name in dimensions if name not in asked.only or name == asked.by}
    download = tag(
        "a", "CSV", href=f"/download/usage.csv?{urlencode(asked.params)}", class_="pm-chip", download=True
    )
    return tag(
        "div",
        tag("div", tabs("span", "Period", SPANS), tabs("by", "Split by", split), download, class_="pm-row"),
        tag("div", tabs("measure", "Measure of the chart", MEASURES), *chips, class_="pm-row"),
        class_="pm-section pm-choices",
    )


def _totals(report: Mapping[str, Any]) -> Markup:
    rows = report["data"]

    def used(name: str) -> int:
        return sum(row["usage"][name] for row in rows)

    total = sum(row["cost"] for row in rows)
    thinking = sum(row["costs"]["reasoning"] for row in rows)
    requests = sum(row["requests"] for row in rows)
    return stats(
        stat("Cost", dollars(total), f"{_share(thinking, total)} of it thinking"),
        stat("Requests", count(requests), f"{dollars(round(total / requests))} each" if requests else None),
        stat("Prompt tokens", count(used("input") + used("cached_input")), f"{count(used('cached_input'))} cached"),
        stat("Thinking tokens", count(used("reasoning"))),
        stat("Answer tokens", count(used("answer"))),
    )


def _chart_head(asked: Asked, courses: Mapping[str, Any]) -> Markup:
    legend = (
        tag(
            "span",
            tag("i", class_="pm-dot", style=f"background:{line.colour}"),
            line.name,
        )
        for line in _lines(asked, courses)
    )
    step = "an hour" if asked.span == "24h" else "a day"
    return tag("h2", f"{MEASURES[asked.measure]} {step}, UTC") + tag("span", *legend, class_="pm-legend")


def _steps(courses: Mapping[str, Any]) -> list[str]:
    form = "%H:%M" if courses["step"] == "hour" else "%b %d"
    return [datetime.fromisoformat(moment).strftime(form) for moment in courses["moments"]]


def _lines(asked: Asked, courses: Mapping[str, Any]) -> list[Line]:
    scale = _NANO if asked.measure == "cost" else 1
    lines = [
        Line(
            _name(one["of"][asked.by]),
            [value / scale for value in one["values"]],
            colour_of(one["of"][asked.by], place),
        )
        for place, one in enumerate(courses["data"])
    ]
    if courses["others"] is not None:
        lines.append(Line("all others", [value / scale for value in courses["others"]["values"]], "#8b8f9c"))
    return lines


def _rows(asked: Asked, report: Mapping[str, Any], dimensions: Sequence[str]) -> Markup:
    rows = sorted(report["data"], key=lambda row: (-row["cost"], row[asked.by]))
    title = tag("h2", f"By {DIMENSIONS[asked.by].lower()}")
    if not rows:
        hint = "Nothing was used in this period. Another one may hold something; a request is here within seconds."
        return title + tag("p", hint, class_="pm-dim")
    total = sum(row["cost"] for row in rows)
    first = (asked.page - 1) * ROWS
    shown = rows[first : first + ROWS]
    body = table(
        (
            *(DIMENSIONS[asked.by], "Requests", "Input", "Cached", "Thinking", "Answer"),
            *("Dollars", "Share"),
        ),
        [
            (
                _cell(asked, row[asked.by], dimensions),
                count(row["requests"]),
                *(count(row["usage"][name]) for name in ("input", "cached_input", "reasoning", "answer")),
                dollars(row["cost"]),
                _share(row["cost"], total),
            )
            for row in shown
        ],
        numeric=range(1, 8),
        caption=f"Costs by {DIMENSIONS[asked.by].lower()}",
    )
    return title + body + _pages(asked, len(rows))


def _pages(asked: Asked, rows: int) -> Markup:
    if rows <= ROWS:
        return Markup("")
    last = -(-rows // ROWS)
    return tag(
        "nav",
        tag("span", f"Page {asked.page} of {count(last)}, {count(rows)} rows"),
        link("Previous", asked.at(page=asked.page - 1), class_="pm-chip") if asked.page > 1 else None,
        link("Next", asked.at(page=asked.page + 1), class_="pm-chip") if asked.page < last else None,
        class_="pm-more",
        aria_label="Pages of the table",
    )


def _cell(asked: Asked, value: str, dimensions: Sequence[str]) -> Markup:
    name = mode_pill(value) if asked.by == "mode" else _name(value)
    if not value or all(one in asked.only or one == asked.by for one in dimensions):
        return joined((name,))
    return link(name, asked.into(value, dimensions))


def _name(value: str) -> str:
    return MODE_NAMES.get(value, value) or "none"


def _share(some: int, whole: int) -> str:
    return percent(some / whole) if whole else "–"


PAGE = Page(PATH, "Costs", build, icon="M4 19V9m5 10V5m5 14v-7m5 7V8")
