"""What the ledger adds up to, as gauges: dashboards show the very sums that bills are made of.

Stands behind `writing.py`, which tells what has been committed. The sums are read from the database once, and kept
up with what is written; other writers' work, corrections say, is read anew from time to time.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from redis import Redis

from pointsman.contracts.ledger import Entry, Kind, Outcome
from pointsman.contracts.names import Metric, RedisKey
from pointsman.contracts.pricing import NANO, TokenClass
from pointsman.router.ledger.spending import Spending
from pointsman.router.metrics import Cell, Metrics
from pointsman.store.ledger import LedgerStore, Totals, Written
from pointsman.store.ledger_tables import CLASSES

log = logging.getLogger(__name__)

REREAD = 60.0
"""Seconds between two readings of all sums, or twenty times as long as the last one took, if that is more."""

MOST_TENANTS = 1000
"""Tenants that have labels of their own; the others' sums are shown together."""

OTHERS = "(others)"
"""Which is no tenant's name."""

_HIT = "hit"
_TOKENS = [(token_class.value, CLASSES.index(token_class.value)) for token_class in TokenClass]

_STREAM = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
return {redis.call('XLEN', KEYS[1]), first[1] and first[1][1] or false, redis.call('TIME')[1]}
"""

Key = tuple[str, str, str, str]


class LedgerGauges:
    """Keeps `pointsman_ledger_*`, but for those of the routers' spools."""

    def __init__(self, store: LedgerStore, redis: Redis, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._stream = redis.register_script(_STREAM)
        self._totals: dict[Key, list[int]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._cells: dict[tuple[str, ...], Cell] = {}
        self._tenants: set[str] = set()
        self._spending = Spending(store, self._label, self._set)
        self._read_at = 0.0
        self._lag = metrics.gauge(Metric.LEDGER_LAG, {})
        self._waiting = metrics.gauge(Metric.LEDGER_STREAM, {})

    def written(self, written: Written, dead: set[str]) -> None:
        changed: set[Key] = set()
        for entry in written.entries:
            self._count(entry)
            changed.update(self._add(entry))
        for key in changed:
            self._show(key)
        self._spending.add(written.entries, datetime.now(UTC))

    def tick(self) -> None:
        today = datetime.now(UTC)
        if monotonic() >= self._read_at or self._spending.over(today):
            begun = monotonic()
            self._read()
            self._spending.read(today)
            now = monotonic()
            self._read_at = now + max(REREAD, 20 * (now - begun))
        waiting, first, now_in_redis = self._stream(keys=[RedisKey.LEDGER])
        self._waiting.set(waiting)
        self._lag.set(max(0.0, int(now_in_redis) - int(first.split(b"-")[0]) / 1000) if first else 0.0)

    def _read(self) -> None:
        """Read all sums. Those of tenants beyond the most are shown together, the latest ones to be seen."""
        self._totals = {}
        for (tenant, model, mode, pool), (amounts, costs) in self._store.totals().items():
            self._add_to((self._label(tenant), model, mode, pool), Totals(amounts, costs))
        for key in self._totals:
            self._show(key)
        # From 0 on, so that the first one of a kind is growth to whoever watches.
        self._counts = {(Kind.REQUEST.value, outcome.value): 0 for outcome in Outcome} | self._store.counts()
        for kind, outcome in self._counts:
            self._show_count(kind, outcome)

    def _add(self, entry: Entry) -> list[Key]:
        keys = []
        for part in entry.parts:
            key = (self._label(entry.tenant), entry.model, str(part.mode), part.pool)
            amounts = [0 if entry.cache == _HIT else getattr(part.usage, name) for name in CLASSES]
            self._add_to(key, Totals(tuple(amounts), tuple(part.cost)))
            keys.append(key)
        return keys

    def _add_to(self, key: Key, more: Totals) -> None:
        sums = self._totals.setdefault(key, [0] * 2 * len(CLASSES))
        for at, amount in enumerate((*more.amounts, *more.costs)):
            sums[at] += amount

    def _count(self, entry: Entry) -> None:
        key = (str(entry.kind), str(entry.outcome))
        self._counts[key] = self._counts.get(key, 0) + 1
        self._show_count(*key)

    def _label(self, tenant: str) -> str:
        if tenant not in self._tenants:
            if len(self._tenants) >= MOST_TENANTS:
                return OTHERS
            self._tenants.add(tenant)
        return tenant

    def _show(self, key: Key) -> None:
        sums = self._totals[key]
        labels = dict(zip(("tenant", "model", "mode", "pool"), key, strict=True))
        for name, at in _TOKENS:
            if sums[at]:
                self._set(Metric.LEDGER_TOKENS, {**labels, "token_class": name}, sums[at])
        for at, name in enumerate(CLASSES, len(CLASSES)):
            if sums[at] or (Metric.LEDGER_COST, *key, name) in self._cells:
                self._set(Metric.LEDGER_COST, {**labels, "token_class": name}, sums[at] / NANO)

    def _show_count(self, kind: str, outcome: str) -> None:
        labels: dict[str, Any] = {"kind": kind, "outcome": outcome if kind == Kind.REQUEST else ""}
        self._set(Metric.LEDGER_ENTRIES, labels, self._counts[kind, outcome])

    def _set(self, name: str, labels: dict[str, str], value: float) -> None:
        key = (name, *labels.values())
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._metrics.gauge(name, labels)
        cell.set(value)
