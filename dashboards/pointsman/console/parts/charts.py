"""Charts: what goes over time, drawn by ECharts in the colours of the page.

Names in charts may come from anybody; ECharts draws them on a canvas and escapes them where it makes HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from pointsman.console.theme import SERIES, Scheme, mode_colour

_MODES = ("think", "no_think")

FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Line:
    """One course: its name, its values, and its colour where it has one."""

    name: str
    values: Sequence[float | None]
    colour: str | None = None


def colour_of(name: str, place: int) -> str:
    """The colour of a course called `name` that is the `place`-th: modes have theirs everywhere."""
    return mode_colour(name) if name in _MODES else SERIES[place % len(SERIES)]


def base(scheme: Scheme, *, unit: str = "") -> dict[str, Any]:
    """What all charts have in common; axes are added."""
    return {
        "animation": False,
        "textStyle": {"fontFamily": FONT, "color": scheme.dim, "fontSize": 11},
        "grid": {"left": 4, "right": 10, "top": 14, "bottom": 4, "containLabel": True},
        "tooltip": {
            "trigger": "axis",
            "backgroundColor": scheme.surface,
            "borderColor": scheme.line_strong,
            "textStyle": {"color": scheme.text, "fontSize": 12},
            "confine": True,
            ":valueFormatter": f"(v) => v == null ? '–' : Number(v.toPrecision(6)).toLocaleString('en') + {unit!r}",
        },
    }


def value_axis(scheme: Scheme) -> dict[str, Any]:
    """The axis of amounts."""
    return {
        "type": "value",
        "min": 0,
        "splitNumber": 4,
        "axisLabel": {"color": scheme.dim, "fontSize": 11},
        "splitLine": {"lineStyle": {"color": scheme.line}},
    }


def category_axis(scheme: Scheme, names: Sequence[str]) -> dict[str, Any]:
    """The axis of steps in time, or of names."""
    return {
        "type": "category",
        "data": list(names),
        "axisLabel": {"color": scheme.dim, "fontSize": 11, "hideOverlap": True},
        "axisLine": {"lineStyle": {"color": scheme.line_strong}},
        "axisTick": {"show": False},
    }


def bars(
    scheme: Scheme,
    steps: Sequence[str],
    lines: Iterable[Line],
    *,
    unit: str = "",
    on_click: Callable[[int, str], object] | None = None,
    label: str,
) -> ui.echart:
    """
    Stacked bars, one for each of `steps`. `on_click` gets the place of a step and the name of a course.

    `label` says in words what is to be seen, for who does not see it.
    """
    chart = ui.echart(
        bar_options(scheme, steps, lines, unit=unit),
        on_point_click=None
        if on_click is None
        else lambda event: on_click(int(event.data_index), str(event.series_name)),
    )
    return chart.classes("pm-chart").props(f'role="img" aria-label="{_plain(label)}"')


def bar_options(scheme: Scheme, steps: Sequence[str], lines: Iterable[Line], *, unit: str = "") -> dict[str, Any]:
    """What ECharts draws stacked bars from; for `bars`, and for a chart that is there already."""
    options = base(scheme, unit=unit)
    options["tooltip"]["axisPointer"] = {"type": "shadow"}
    options["xAxis"] = category_axis(scheme, steps)
    options["yAxis"] = value_axis(scheme)
    options["series"] = [
        {
            "type": "bar",
            "name": line.name,
            "stack": "all",
            "data": list(line.values),
            "barMaxWidth": 34,
            "itemStyle": {"color": line.colour or colour_of(line.name, place)},
        }
        for place, line in enumerate(lines)
    ]
    return options


def _plain(text: str) -> str:
    """`text` as the value of a property: the framework reads properties as a list of words."""
    return "".join(letter if letter.isalnum() or letter in " .,:$%-–/()" else " " for letter in text)
