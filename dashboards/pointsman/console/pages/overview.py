"""The overview."""

from __future__ import annotations

from typing import Any

from pointsman.console.page import Page
from pointsman.console.parts.markup import Markup, replace, show, stat, stats
from pointsman.console.visit import Visit


async def build(visit: Visit) -> None:
    """What goes on now."""
    numbers = show(Markup(""))

    def told(now: dict[str, Any]) -> None:
        replace(numbers, stats(stat("In flight", now["in_flight"]), stat("Waiting", now["waiting"])))

    if visit.who.is_admin:
        told(await visit.get("/admin/v1/live"))
        visit.live("/admin/v1/live", told, every=1.0)


PAGE = Page("/", "Overview", build, icon="M3 17h18M3 17c8 0 8-10 18-10")
