"""A chart that goes on while one looks: the last hour, second by second, never more.

The browser keeps a ring of points of its own and is sent one point at a time; what came before is sent once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import nicegui.elements.echart  # noqa: F401 # registers the module that the component imports
from nicegui.element import Element

from pointsman.console.parts.charts import FONT
from pointsman.console.theme import Scheme

POINTS = 3600
"""Points of a course at most."""

GAP = 5.0
"""Seconds without a point after which a line is broken."""

Point = tuple[float, tuple[float, ...]]
"""When, in seconds since 1970, and the value of each course."""


class Ring:
    """The last `POINTS` points that were seen, each once."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=POINTS)

    def add(self, at: float, values: tuple[float, ...]) -> None:
        """One more point; one that is no later than the last is left out."""
        if not self._points or at > self._points[-1][0]:
            self._points.append((at, values))

    @property
    def points(self) -> Sequence[Point]:
        """Oldest first."""
        return tuple(self._points)


class LiveChart(Element, component="live_chart.js"):
    """Lines over time, one for each of `names`; `label` says in words what is to be seen."""

    def __init__(
        self,
        scheme: Scheme,
        names: Sequence[str],
        colours: Sequence[str],
        *,
        label: str,
        unit: str = "",
        past: Iterable[tuple[float, Sequence[float]]] = (),
        gap: float = GAP,
    ) -> None:
        super().__init__()
        self._props["lines"] = [
            {"name": name, "colour": colour} for name, colour in zip(names, colours, strict=True)
        ]
        self._props["look"] = {
            "text": scheme.text,
            "dim": scheme.dim,
            "line": scheme.line,
            "strong": scheme.line_strong,
            "surface": scheme.surface,
            "font": FONT,
        }
        self._props["unit"] = unit
        self._props["points"] = POINTS
        self._props["gap"] = gap
        self._props["past"] = [[round(at, 1), *(round(value, 7) for value in values)] for at, values in past]
        self._props["role"] = "img"
        self._props["aria-label"] = label
        self.classes("pm-chart pm-low")

    def push(self, at: float, values: Sequence[float]) -> None:
        """One more point, at `at` seconds since 1970."""
        self.run_method("push", round(at, 1), [round(value, 7) for value in values])
