"""The ledger in the database: entries are added, in batches and once each, and read; none is ever changed.

Stands over `database.py`; the ledger writer and the admin process call it. Each entry is written in one transaction
with the sums that reports and budgets are read from, so that bill and entries can't disagree. One transaction at a
time writes, whatever the database, so that `seq` has no gaps and no sum is added to twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pointsman.contracts.ledger import Entry, Kind, Outcome, Part
from pointsman.contracts.pricing import Cost, Usage
from pointsman.store.database import Database
from pointsman.store.ledger_tables import (
    CLASSES,
    HOUR,
    ledger,
    ledger_parts,
    ledger_runs,
    ledger_spend,
    usage_hours,
)

__all__ = ["Batch", "LedgerStore", "Totals", "Written", "ledger", "ledger_parts", "ledger_spend", "usage_hours"]

log = logging.getLogger(__name__)

_ONE_WRITER = 0x6C6564676572
"""The key of PostgreSQL's advisory lock that whoever adds entries holds; SQLite has but one writer anyway."""

_IDS_AT_ONCE = 500
_HOUR_KEY = ("hour", "tenant", "key", "model", "mode", "pool", "cache")
_SUMS = ("total", "requests", "estimated", *CLASSES, *(f"{name}_cost" for name in CLASSES))
_HIT = "hit"


class Batch(NamedTuple):
    """
    Entries of one router's spool, in its order.

    `first`: the number of the first one. `base`: the router has nothing numbered below any more. `end`: the number
    after the last one, damaged ones counted. `closed`: the router has died, and nothing comes after this.
    """

    run: str
    first: int
    base: int
    end: int
    entries: Sequence[Entry]
    closed: bool = False


@dataclass(slots=True)
class Written:
    """
    What a transaction has added: `entries`, those that were not there yet; `committed`, of each run the number of
    the first entry that is not in the database; `closed`: the runs that are wholly in it, and have ended.
    """

    entries: list[Entry] = field(default_factory=list)
    committed: dict[str, int] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)


class Totals(NamedTuple):
    """Sums over the whole ledger by tenant, model, mode and pool; amounts and nano-dollars by class."""

    amounts: tuple[int, ...]
    costs: tuple[int, ...]


class LedgerStore:
    """Adds and reads entries. Every method raises `DatabaseUnavailable` where the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- writing

    def add(self, batches: Sequence[Batch]) -> Written:
        """Add all entries of `batches` that are not there yet: all of them, or none where an exception leaves."""
        written = Written()
        with self._database.writing() as connection:
            self._lock(connection)
            written.entries = self._insert(connection, [entry for batch in batches for entry in batch.entries])
            self._advance(connection, batches, written)
        return written

    def append(self, entries: Sequence[Entry]) -> list[Entry]:
        """Add entries that come from no spool; returns those whose id was not there yet."""
        with self._database.writing() as connection:
            self._lock(connection)
            return self._insert(connection, entries)

    def _lock(self, connection: sa.Connection) -> None:
        if self._database.dialect == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_WRITER})

    def _insert(self, connection: sa.Connection, entries: Sequence[Entry]) -> list[Entry]:
        by_id = {entry.id: entry for entry in reversed(entries)}  # of two with one id the first one counts
        ids = list(by_id)
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            for (known,) in connection.execute(sa.select(ledger.c.id).where(ledger.c.id.in_(some))):
                del by_id[known]
        new = list(reversed(by_id.values()))
        if not new:
            return []
        seq = connection.execute(sa.select(sa.func.coalesce(sa.func.max(ledger.c.seq), 0))).scalar_one()
        rows, parts = [], []
        for entry in new:
            seq += 1
            rows.append(_row(seq, entry))
            for position, part in enumerate(entry.parts):
                parts.append(_part_row(seq, position, part))
        connection.execute(sa.insert(ledger), rows)
        if parts:
            connection.execute(sa.insert(ledger_parts), parts)
        self._add_up(connection, usage_hours, _HOUR_KEY, _SUMS, _hours(new))
        self._add_up(connection, ledger_spend, ("day", "tenant", "router"), ("nano",), _spend(new))
        return new

    def _add_up(
        self,
        connection: sa.Connection,
        table: sa.Table,
        key: Sequence[str],
        sums: Sequence[str],
        rows: list[dict[str, Any]],
    ) -> None:
        """Add `rows` to those of `table` with the same `key`. In the order of the key, so that pages are near."""
        rows.sort(key=lambda row: [row[name] for name in key])
        insert: Any = (sqlite if self._database.dialect == "sqlite" else postgresql).insert(table)
        added = {name: table.c[name] + insert.excluded[name] for name in sums}
        if rows:
            connection.execute(insert.on_conflict_do_update(index_elements=list(key), set_=added), rows)

    def _advance(self, connection: sa.Connection, batches: Sequence[Batch], written: Written) -> None:
        """Note how much of each run there is now without a gap."""
        runs = {batch.run for batch in batches}
        query = sa.select(ledger_runs).where(ledger_runs.c.router.in_(runs))
        known = {row.router: row for row in connection.execute(query)}
        for run in runs:
            committed = known[run].committed if run in known else 0
            closed_at = known[run].closed_at if run in known else None
            for batch in batches:
                if batch.run != run:
                    continue
                if batch.base > committed:
                    log.error("run %s: entries %d to %d are gone for good", run, committed, batch.base - 1)
                    committed = batch.base
                if batch.first <= committed:
                    committed = max(committed, batch.end)
                if batch.closed and committed >= batch.end:
                    closed_at = closed_at or int(datetime.now(UTC).timestamp() * 1000)
                    written.closed.append(run)
            if closed_at is None:
                written.committed[run] = committed
            values = {"router": run, "committed": committed, "closed_at": closed_at}
            if run in known:
                connection.execute(sa.update(ledger_runs).where(ledger_runs.c.router == run).values(values))
            else:
                connection.execute(sa.insert(ledger_runs), values)

    # -- reading

    def entry(self, identity: str) -> Entry | None:
        """The entry called `identity`, or None."""
        with self._database.reading() as connection:
            found = _entries(connection, sa.select(ledger).where(ledger.c.id == identity))
        return found[0][1] if found else None

    def corrections_of(self, identity: str) -> list[Entry]:
        """The corrections of the entry called `identity`, oldest first."""
        query = sa.select(ledger).where(ledger.c.corrects == identity, ledger.c.corrects != "")
        with self._database.reading() as connection:
            return [entry for _, entry in _entries(connection, query.order_by(ledger.c.seq))]

    def entries(
        self,
        *,
        since: int | None = None,
        until: int | None = None,
        tenant: str | None = None,
        after: int = 0,
        limit: int = 1000,
    ) -> list[tuple[int, Entry]]:
        """
        At most `limit` entries with their `seq`, in its order, beginning behind `after`.

        `since`, `until`: milliseconds since 1970 between which they came, the first included, the second not.
        """
        query = sa.select(ledger).where(ledger.c.seq > after)
        if since is not None:
            query = query.where(ledger.c.at >= since)
        if until is not None:
            query = query.where(ledger.c.at < until)
        if tenant is not None:
            query = query.where(ledger.c.tenant == tenant)
        with self._database.reading() as connection:
            return _entries(connection, query.order_by(ledger.c.seq).limit(limit))

    def totals(self) -> dict[tuple[str, str, str, str], Totals]:
        """What all adds up to by tenant, model, mode and pool; hits of the response cache have used nothing."""
        columns = usage_hours.c
        fresh = sa.case((columns.cache == _HIT, 0), else_=1)
        key = (columns.tenant, columns.model, columns.mode, columns.pool)
        query = sa.select(
            *key,
            *(sa.func.sum(columns[name] * fresh) for name in CLASSES),
            *(sa.func.sum(columns[f"{name}_cost"]) for name in CLASSES),
        ).group_by(*key)
        count = len(CLASSES)
        with self._database.reading() as connection:
            return {
                (row[0], row[1], row[2], row[3]): Totals(
                    tuple(int(each) for each in row[4 : 4 + count]), tuple(int(each) for each in row[4 + count :])
                )
                for row in connection.execute(query)
            }

    def costs_since(self, since: int) -> dict[tuple[str, str, str], tuple[int, ...]]:
        """Nano-dollars by `CLASSES` since `since`, the beginning of an hour; by tenant, model and mode."""
        columns = usage_hours.c
        key = (columns.tenant, columns.model, columns.mode)
        costs = (sa.func.sum(columns[f"{name}_cost"]) for name in CLASSES)
        query = sa.select(*key, *costs).where(columns.hour >= since).group_by(*key)
        with self._database.reading() as connection:
            return {
                (row[0], row[1], row[2]): tuple(int(each) for each in row[3:]) for row in connection.execute(query)
            }

    def counts(self) -> dict[tuple[str, str], int]:
        """How many entries there are by kind and outcome."""
        query = sa.select(ledger.c.kind, ledger.c.outcome, sa.func.count()).group_by(
            ledger.c.kind, ledger.c.outcome
        )
        with self._database.reading() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def spent_by_run(self, run: str) -> dict[tuple[str, str], int]:
        """Nano-dollars that the entries of `run` cost, by tenant and day (YYYY-MM-DD, UTC)."""
        columns = ledger_spend.c
        query = sa.select(columns.tenant, columns.day, columns.nano).where(columns.router == run)
        with self._database.reading() as connection:
            return {(row.tenant, row.day): row.nano for row in connection.execute(query)}

    def spent_by(self, run: str, tenants: Sequence[str], since: str) -> dict[tuple[str, str], int]:
        """The same for some `tenants`, since a day."""
        columns = ledger_spend.c
        query = sa.select(columns.tenant, columns.day, columns.nano).where(
            columns.router == run, columns.day >= since
        )
        found: dict[tuple[str, str], int] = {}
        with self._database.reading() as connection:
            for start in range(0, len(tenants), _IDS_AT_ONCE):
                some = query.where(columns.tenant.in_(tenants[start : start + _IDS_AT_ONCE]))
                found.update({(row.tenant, row.day): row.nano for row in connection.execute(some)})
        return found

    def has_open_runs(self) -> bool:
        """Whether there is a router that is not known to have ended."""
        query = sa.select(ledger_runs.c.router).where(ledger_runs.c.closed_at.is_(None)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def spent_since(self, day: str) -> Iterator[tuple[str, str, str, int]]:
        """Tenant, run (empty for corrections and charges), day (YYYY-MM-DD) and nano-dollars, since `day`."""
        columns = ledger_spend.c
        query = sa.select(columns.tenant, columns.router, columns.day, columns.nano).where(columns.day >= day)
        with self._database.reading() as connection:
            for row in connection.execution_options(yield_per=1000).execute(query):
                yield row.tenant, row.router, row.day, row.nano

    def spent_by_day(self, since: str) -> Iterator[tuple[str, str, int]]:
        """Tenant, day (YYYY-MM-DD, UTC) and nano-dollars of every day since `since` that has any entry."""
        columns = ledger_spend.c
        query = (
            sa.select(columns.tenant, columns.day, sa.func.sum(columns.nano))
            .where(columns.day >= since)
            .group_by(columns.tenant, columns.day)
        )
        with self._database.reading() as connection:
            for tenant, day, nano in connection.execution_options(yield_per=1000).execute(query):
                yield tenant, day, int(nano)


def day_of(at: int) -> str:
    """The UTC day (YYYY-MM-DD) of `at` milliseconds since 1970."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")


def _row(seq: int, entry: Entry) -> dict[str, Any]:
    return {
        "seq": seq,
        "id": entry.id,
        "kind": entry.kind,
        "at": entry.at,
        "ended_at": entry.ended_at,
        "tenant": entry.tenant,
        "key": entry.key,
        "request_id": entry.request_id,
        "model": entry.model,
        "mode": entry.mode,
        "status": entry.status,
        "outcome": entry.outcome,
        "stream": entry.stream,
        "cache": entry.cache,
        "total": entry.total,
        "router": entry.router,
        "number": entry.number,
        "corrects": entry.corrects,
        "comment": entry.comment,
    }


_USED_AND_BILLED = tuple(
    (name, f"{name}_cost", Usage._fields.index(name), Cost._fields.index(name)) for name in CLASSES
)


def _part_row(seq: int, position: int, part: Part) -> dict[str, Any]:
    usage, cost = part.usage, part.cost
    row = {
        "seq": seq,
        "part": position,
        "pool": part.pool,
        "mode": part.mode,
        "estimated": usage.estimated,
        "price_version": part.price_version,
    }
    for name, billed, at, billed_at in _USED_AND_BILLED:
        row[name] = usage[at]
        row[billed] = cost[billed_at]
    return row


def _hours(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The sums of `entries` as rows of `usage_hours`."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        hour = entry.at - entry.at % HOUR
        cache = _HIT if entry.cache == _HIT else ""
        parts = entry.parts or (Part("", entry.mode, Usage(), Cost(), 0),)
        row: dict[str, Any] = {}
        for part in parts:
            key = (hour, entry.tenant, entry.key, entry.model, part.mode, part.pool, cache)
            if key in found:
                row = found[key]
            else:
                row = found[key] = dict.fromkeys(_SUMS, 0)
                row.update(zip(_HOUR_KEY, key, strict=True))
            usage, cost = part.usage, part.cost
            for name, billed, at, billed_at in _USED_AND_BILLED:
                row[name] += usage[at]
                row[billed] += cost[billed_at]
            row["total"] += sum(cost)
            row["estimated"] += usage.estimated
        if entry.kind is Kind.REQUEST:
            row["requests"] += 1
    return list(found.values())


def _spend(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The sums of `entries` as rows of `ledger_spend`."""
    found: dict[tuple[str, str, str], int] = {}
    days: dict[int, str] = {}
    for entry in entries:
        number = entry.at // (24 * HOUR)
        day = days.get(number)
        if day is None:
            day = days[number] = day_of(entry.at)
        key = (day, entry.tenant, entry.router)
        found[key] = found.get(key, 0) + entry.total
    return [
        {"day": day, "tenant": tenant, "router": router, "nano": nano}
        for (day, tenant, router), nano in found.items()
    ]


def _entries(connection: sa.Connection, query: sa.Select[Any]) -> list[tuple[int, Entry]]:
    rows = connection.execute(query).all()
    parts: dict[int, list[Part]] = {}
    columns = ledger_parts.c
    for start in range(0, len(rows), _IDS_AT_ONCE):
        numbers = [row.seq for row in rows[start : start + _IDS_AT_ONCE]]
        wanted = sa.select(ledger_parts).where(columns.seq.in_(numbers)).order_by(columns.seq, columns.part)
        for row in connection.execute(wanted):
            parts.setdefault(row.seq, []).append(_part_of(row._mapping))
    return [(row.seq, _entry_of(row, tuple(parts.get(row.seq, ())))) for row in rows]


def _part_of(row: Any) -> Part:
    usage = Usage(**{name: row[name] for name in CLASSES}, estimated=bool(row["estimated"]))
    cost = Cost(**{name: row[f"{name}_cost"] for name in CLASSES})
    return Part(row["pool"], row["mode"], usage, cost, row["price_version"])


def _entry_of(row: Any, parts: tuple[Part, ...]) -> Entry:
    return Entry(
        row.id,
        Kind(row.kind),
        row.at,
        row.ended_at,
        row.tenant,
        row.key,
        row.request_id,
        row.model,
        row.mode,
        row.status,
        Outcome(row.outcome),
        bool(row.stream),
        row.cache,
        parts,
        row.total,
        row.router,
        row.number,
        row.corrects,
        row.comment,
    )
