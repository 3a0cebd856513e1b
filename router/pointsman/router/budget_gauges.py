"""What tenants may spend and have spent in the present day and month, as gauges: what alerts look at.

Stands over the lease book, whose purses know both marks and what all routers have spent, as Redis said it last. The
bill itself is the ledger's (`pointsman_ledger_cost_usd`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import time

from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import NANO
from pointsman.router.admission.allowance import Allowance
from pointsman.router.admission.lease_book import LeaseBook
from pointsman.router.admission.purse import Purse
from pointsman.router.admission.stock import BOUNDLESS
from pointsman.router.metrics import Cell, Metrics

INTERVAL = 2.0
"""Seconds between two rounds at least."""

SOME = 200
"""Tenants that are looked at in one go: the rest come next time, so that no stream waits for a hundred thousand."""


class BudgetGauges:
    """Keeps `pointsman_budget_*` of the tenants that have budgets and have asked for anything here."""

    def __init__(self, book: LeaseBook, metrics: Metrics) -> None:
        self._book = book
        self._metrics = metrics
        self._cells: dict[tuple[str, ...], Cell] = {}
        self._round: Iterator[Allowance] = iter(())
        self._next = 0.0

    def tell(self, now: float) -> None:
        """Bring the gauges up to date; `now` is in `monotonic` seconds."""
        clock = time()
        looked_at = 0
        for allowance in islice(self._round, SOME):
            looked_at += 1
            self._show(allowance.name, "daily", allowance.day, clock)
            self._show(allowance.name, "monthly", allowance.month, clock)
        if looked_at < SOME and now >= self._next:
            self._next = now + INTERVAL
            self._round = iter(self._book.priced())

    def _show(self, tenant: str, period: str, purse: Purse, clock: float) -> None:
        if not purse.matters or not self._metrics.shows(tenant):
            return
        # Of a period that is over nothing is spent in the present one, as far as this router knows.
        self._set(Metric.BUDGET_SPENT, purse.spent if clock < purse.ends else 0, tenant, period)
        if purse.hard >= 0:
            self._set(Metric.BUDGET, purse.hard, tenant, period, "hard")
        if purse.soft < BOUNDLESS:
            self._set(Metric.BUDGET, purse.soft, tenant, period, "soft")

    def _set(self, name: str, nano: int, tenant: str, period: str, mark: str = "") -> None:
        key = (name, tenant, period, mark)
        cell = self._cells.get(key)
        if cell is None:
            labels = {"tenant": tenant, "period": period, **({"mark": mark} if mark else {})}
            cell = self._cells[key] = self._metrics.tenants_gauge(name, labels)
        cell.set(nano / NANO)
