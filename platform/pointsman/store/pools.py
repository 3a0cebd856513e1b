"""Pools that were made while the platform runs: the truth, of which routers read the copy in Redis.

One row for each pool, whose version grows by one with each change; who wrote what stands in the audit log. The row
of one that was deleted stays, since bills and prices go by names; another pool may be made under that name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from pointsman.contracts.config import Pool
from pointsman.store.audit import AuditLog
from pointsman.store.counted_projection import Change
from pointsman.store.database import Database, metadata
from pointsman.store.pool_projection import encoded_pool
from pointsman.store.prices import inherit, withdraw_prices
from pointsman.store.tenant_changes import counters

pools = sa.Table(
    "pools",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("document", sa.Text),
    sa.Column("traffic", sa.Text, nullable=False),
    sa.Column("prices", sa.Text, nullable=False),
    sa.Column("managed_by", sa.String(63), nullable=False),
    sa.Column("origin", sa.String(320)),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("updated_by", sa.String(80), nullable=False),
)

LEAD = 2_000
"""Milliseconds from a change of a pool's prices to the moment at which they begin, which routers know by then."""

MOST_PRICES = 50
"""Changes of its own prices that are remembered of a pool."""

_COUNTER = "pool_changes"


@dataclass(frozen=True, slots=True)
class PoolRow:
    """
    A pool as it was last written, by change `number` of all pools. `document`: its JSON with the fields that were
    set; None: it was deleted. `traffic`: JSON of weights by revision; `prices`: JSON of pairs of a moment and the
    prices that hold from then on, newest first. `managed_by`: who alone may change it; `origin`: of which of his
    objects it was made, where he says so. Times in milliseconds since 1970.
    """

    name: str
    number: int
    version: int
    document: str | None
    traffic: str
    prices: str
    managed_by: str
    origin: str | None
    created_at: int
    updated_at: int
    updated_by: str

    def change(self) -> Change:
        """What routers shall read of it."""
        return Change(self.name, self.number, encoded_pool(self.number, self.document, self.traffic, self.prices))


def encoded(pool: Pool) -> str:
    """`pool` as it is kept: fields at their default only where they were set."""
    return pool.model_dump_json(exclude_unset=True)


def decoded(document: str | bytes) -> Pool:
    """What `encoded` made of a pool. Raises pydantic's `ValidationError` where the schema refuses it."""
    return Pool.model_validate_json(document)


class PoolStore:
    """Reads and writes pools. Every method raises `DatabaseUnavailable` where the database fails."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def newest(self) -> int:
        """The number of the newest change; 0: there never was one."""
        value = sa.select(counters.c.value).where(counters.c.name == _COUNTER)
        with self._database.reading() as connection:
            return connection.scalar(value) or 0

    def get(self, name: str) -> PoolRow | None:
        """The pool `name`, a deleted one too; None where there never was one."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(pools).where(pools.c.name == name)).one_or_none()
        return None if row is None else PoolRow(*row)

    def all(self) -> tuple[int, list[PoolRow]]:
        """The number of the newest change, and all rows by name, those of deleted pools too."""
        with self._database.reading() as connection:
            newest = connection.scalar(sa.select(counters.c.value).where(counters.c.name == _COUNTER)) or 0
            return newest, _rows(connection)

    @contextlib.contextmanager
    def changing(self) -> Iterator[Changing]:
        """All rows, and what changes them: all of it is written at the end, or none where an exception leaves."""
        with self._database.writing() as connection:
            mine = counters.c.name == _COUNTER
            # First: whoever else makes a change waits here, so that what is read now stays so.
            connection.execute(sa.update(counters).where(mine).values(value=counters.c.value + 1))
            number: int = connection.execute(sa.select(counters.c.value).where(mine)).scalar_one()
            yield Changing(connection, number, {row.name: row for row in _rows(connection)}, self._audit)


class Changing:
    """
    One change of some pools, in one transaction. `rows` are all there are, by name; `moved_prices`: whether prices
    that were set for a time are others now.
    """

    def __init__(self, connection: sa.Connection, number: int, rows: dict[str, PoolRow], audit: AuditLog) -> None:
        self._connection = connection
        self._number = number
        self._audit = audit
        self._now = time.time_ns() // 1_000_000
        self.rows = rows
        self.written: list[PoolRow] = []
        self.moved_prices = False

    def put(self, pool: Pool, *, manager: str, by: str, origin: str | None) -> PoolRow:
        """Let the pool of that name be `pool`, or a new one."""
        row = self.rows.get(pool.name)
        there = row is not None and row.document is not None
        return self._write(
            pool.name,
            encoded(pool),
            row.traffic if row is not None and there else "{}",
            self._prices(row, pool, begins=self._now + LEAD if there else self._now),
            manager=manager,
            origin=origin,
            by=by,
            action="pools.put" if there else "pools.create",
        )

    def direct(self, row: PoolRow, traffic: dict[str, float], *, by: str) -> PoolRow:
        """Divide the requests of the pool of `row` by `traffic` from now on."""
        said = orjson.dumps(traffic, option=orjson.OPT_SORT_KEYS).decode()
        return self._write(
            row.name,
            row.document,
            said,
            row.prices,
            manager=row.managed_by,
            origin=row.origin,
            by=by,
            action="pools.traffic",
        )

    def delete(self, row: PoolRow, *, by: str) -> PoolRow:
        """Take the pool of `row` away; a price that was set for it ends, lest the next of its name have it."""
        self.leave_prices(row.name, by=by)
        return self._write(
            row.name,
            None,
            "{}",
            row.prices,
            manager=row.managed_by,
            origin=row.origin,
            by=by,
            action="pools.delete",
        )

    def leave_prices(self, name: str, *, by: str) -> None:
        """Let the prices that were set for the pool `name` end now."""
        self.moved_prices |= withdraw_prices(self._connection, name, now=self._now, by=by)

    def inherit_prices(self, name: str, twin: str, *, by: str) -> None:
        """Let the prices that were set for the pool `twin`, as far as they lie ahead, hold for `name` too."""
        self.moved_prices |= inherit(self._connection, name, twin, now=self._now, by=by)

    def _prices(self, row: PoolRow | None, pool: Pool, *, begins: int) -> str:
        stated = pool.prices.model_dump(mode="json", exclude_unset=True)
        known: list[list[Any]] = [] if row is None else orjson.loads(row.prices)
        if known:
            if pool.prices.model_validate(known[0][1]).price_list() == pool.prices.price_list():
                return row.prices if row is not None else ""
            begins = max(begins, known[0][0] + 1)
        return orjson.dumps([[begins if known else 0, stated], *known[: MOST_PRICES - 1]]).decode()

    def _write(
        self,
        name: str,
        document: str | None,
        traffic: str,
        prices: str,
        *,
        manager: str,
        origin: str | None,
        by: str,
        action: str,
    ) -> PoolRow:
        row = self.rows.get(name)
        created = self._now if row is None or row.document is None else row.created_at
        version = 1 if row is None else row.version + 1
        written = PoolRow(
            name, self._number, version, document, traffic, prices, manager, origin, created, self._now, by
        )
        values = {column: getattr(written, column) for column in written.__slots__}
        if row is None:
            self._connection.execute(sa.insert(pools).values(values))
        else:
            self._connection.execute(sa.update(pools).where(pools.c.name == name).values(values))
        self._audit.record(
            actor=by,
            action=action,
            object=f"pool:{name}",
            before=_summary(row),
            after=_summary(written),
            connection=self._connection,
        )
        self.rows[name] = written
        self.written.append(written)
        return written


def _rows(connection: sa.Connection) -> list[PoolRow]:
    return [PoolRow(*row) for row in connection.execute(sa.select(pools).order_by(pools.c.name))]


def _summary(row: PoolRow | None) -> dict[str, Any] | None:
    if row is None or row.document is None:
        return None
    return {"pool": orjson.loads(row.document), "traffic": orjson.loads(row.traffic), "managed_by": row.managed_by}
