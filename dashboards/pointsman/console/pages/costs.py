"""Costs."""

from __future__ import annotations

from pointsman.console.page import Page
from pointsman.console.parts.markup import show, table
from pointsman.console.visit import Visit


async def build(visit: Visit) -> None:
    """What was used cost."""
    path = "/admin/v1/costs" if visit.who.is_admin else "/v1/costs"
    report = await visit.get(path, {"by": "mode"})
    show(table(("Mode", "Dollars"), [(row["mode"], row["cost_usd"]) for row in report["data"]], numeric=(1,)))


PAGE = Page("/costs", "Costs", build, icon="M4 19V9m5 10V5m5 14v-7m5 7V8")
