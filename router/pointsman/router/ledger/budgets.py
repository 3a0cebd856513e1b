"""What tenants have spent, from the ledger to the budgets that routers share.

Stands behind `writing.py`. Routers tell Redis themselves what they have settled; here is what they can't tell: what
those that died had settled, what was corrected or charged, and everything once Redis was emptied. Until that is
there again no router is given any money to spend.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic

from pointsman.store.leases import LEASE, BudgetKeeper
from pointsman.store.ledger import LedgerStore, Written

log = logging.getLogger(__name__)

TELL = 3.0
"""Seconds between two times that what was written, corrected and charged is told."""


class BudgetReconciliation:
    """Keeps the budgets in Redis true to the ledger."""

    def __init__(self, store: LedgerStore, keeper: BudgetKeeper) -> None:
        self._store = store
        self._keeper = keeper
        self._touched: dict[str, set[str]] = {}
        self._seen_ready = False
        self._ready_at: float | None = None
        self._tell_at = 0.0

    def written(self, written: Written, dead: set[str]) -> None:
        for entry in written.entries:
            if entry.router and entry.total:
                self._touched.setdefault(entry.router, set()).add(entry.tenant)
        for run in written.closed:
            self._keeper.ended(run, by_period(self._store.spent_by_run(run)))
            self._touched.pop(run, None)
        if any(run in self._touched for run in dead):
            self._tell()  # who died tells it no more

    def tick(self) -> None:
        now = monotonic()
        if not self._keeper.ready():
            self._rebuild(now)
        else:
            self._seen_ready = True
            self._ready_at = None
        if now >= self._tell_at:
            self._tell_at = now + TELL
            self._tell()
            self._charge()

    def _rebuild(self, now: float) -> None:
        """Write down all that was spent, and let money be leased once every router has told what it holds."""
        if self._ready_at is None or not self._keeper.rebuilding():
            log.warning("budgets are rebuilt from the ledger")
            self._keeper.rebuild()
            runs: dict[str, dict[tuple[str, str], int]] = {}
            for tenant, run, day, nano in self._store.spent_since(_month()):
                if run:
                    runs.setdefault(run, {})[tenant, day] = nano
            for run, spent in runs.items():
                self._keeper.settled(run, by_period(spent))
            self._charge()
            self._ready_at = now + LEASE
        held = self._seen_ready or self._store.has_open_runs()  # a router may hold money that it was leased before
        if (now >= self._ready_at or not held) and self._keeper.mark_ready():
            log.info("budgets are whole: money is leased")
            self._ready_at = None

    def _tell(self) -> None:
        """
        What was written of the runs since the last time: they have told it themselves, but for tenants that had no
        budget then.
        """
        month = _month()
        while self._touched:
            run, tenants = next(iter(self._touched.items()))
            self._keeper.settled(run, by_period(self._store.spent_by(run, sorted(tenants), month)))
            del self._touched[run]

    def _charge(self) -> None:
        month = _month()
        spent = {key: nano for key, nano in self._store.spent_by_run("").items() if key[1] >= month}
        for (tenant, period), nano in by_period(spent).items():
            self._keeper.charged(tenant, period, nano)


def by_period(spent: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """`spent` by tenant and day, and by tenant and month."""
    found = dict(spent)
    for (tenant, day), nano in spent.items():
        key = (tenant, day[:7])
        found[key] = found.get(key, 0) + nano
    return found


def _month() -> str:
    """The first day of the running month in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-01")
