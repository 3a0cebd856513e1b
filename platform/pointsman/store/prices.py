"""Prices of pools in the database, each with the time at which it holds.

The database is the truth. A version's prices and its beginning are written once and never changed, since bills were
made by them; only its end may be set, or come earlier, while it lies ahead. What routers read is the copy of it
that `price_projection.py` keeps in Redis.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from pointsman.contracts.config_pools import Prices
from pointsman.contracts.price_book import PricePeriod, check_overlap
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database, metadata
from pointsman.store.price_projection import PriceVersion, shown

price_versions = sa.Table(
    "price_versions",
    metadata,
    sa.Column("pool", sa.String(63), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger),
    sa.Column("prices", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(80), nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("ended_by", sa.String(80)),
)


class PricesChanged(Exception):
    """Somebody else has changed the prices of these pools meanwhile; nothing was written."""


class PriceStore:
    """Reads and writes versions. Every method raises `DatabaseUnavailable` where the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._audit = AuditLog(database)

    def all(self) -> list[PriceVersion]:
        """Every version of every pool, by pool, oldest first."""
        with self._database.reading() as connection:
            return _read(connection)

    def of(self, pools: Sequence[str]) -> list[PriceVersion]:
        """Every version of `pools`, by pool, oldest first."""
        with self._database.reading() as connection:
            return _read(connection, pools)

    def add(
        self,
        pools: Sequence[str],
        prices: Prices,
        *,
        since: int,
        until: int | None,
        by: str,
        comment: str,
        expected: str | None = None,
    ) -> list[PriceVersion]:
        """
        Let `prices` hold for each of `pools` from `since` on, to `until` where that is given; for all or for none.

        `expected` is the `tag_of` what the writer has seen, where it matters to him. Raises `Overlap` where another
        period stands in the way, `PricesChanged` where somebody else was faster.
        """
        now = _now()
        written = []
        try:
            with self._database.writing() as connection:
                present = _read(connection, pools)
                _as_expected(present, expected)
                for pool in pools:
                    others = [version.period for version in present if version.period.pool == pool]
                    check_overlap(since, until, others)
                    number = max((period.version for period in others), default=0) + 1
                    period = PricePeriod(pool, number, since, until, prices)
                    version = PriceVersion(period, now, by, comment, None, None)
                    connection.execute(sa.insert(price_versions).values(_row(version)))
                    self._audit.record(
                        actor=by,
                        action="prices.set",
                        object=f"pool:{pool}",
                        after=shown(period),
                        connection=connection,
                    )
                    written.append(version)
        except IntegrityError:
            raise PricesChanged from None
        return written

    def end(
        self, pools: Sequence[str], since: int, *, until: int, by: str, expected: str | None = None
    ) -> list[PriceVersion]:
        """
        Let the periods of `pools` that began, or begin, at `since` end at `until`, all of them or none.

        An `until` that is not after the beginning takes them back. Raises `PricesChanged` where there is none, or
        one ends before `until` already.
        """
        with self._database.writing() as connection:
            present = _read(connection, pools)
            _as_expected(present, expected)
            ended = []
            for version in present:
                period = version.period
                if period.since != since or period.empty:
                    continue
                if period.until is not None and period.until < until:
                    raise PricesChanged
                changed = period._replace(until=max(until, period.since))
                ended.append(version._replace(period=changed, ended_at=_now(), ended_by=by))
                self._audit.record(
                    actor=by,
                    action="prices.end",
                    object=f"pool:{period.pool}",
                    before=shown(period),
                    after=shown(changed),
                    connection=connection,
                )
            if not ended:
                raise PricesChanged
            for version in ended:
                connection.execute(
                    sa.update(price_versions)
                    .where(
                        price_versions.c.pool == version.period.pool,
                        price_versions.c.version == version.period.version,
                    )
                    .values(until=version.period.until, ended_at=version.ended_at, ended_by=by)
                )
        return ended


def withdraw_prices(connection: sa.Connection, pool: str, *, now: int, by: str) -> bool:
    """
    Let every price that was set for `pool`, and has not ended, end at `now` (milliseconds since 1970); whether
    there was any.
    """
    standing = [
        each.period for each in _read(connection, [pool]) if each.period.until is None or each.period.until > now
    ]
    for period in standing:
        connection.execute(
            sa.update(price_versions)
            .where(price_versions.c.pool == pool, price_versions.c.version == period.version)
            .values(until=max(now, period.since), ended_at=now, ended_by=by)
        )
    return bool(standing)


def inherit(connection: sa.Connection, pool: str, twin: str, *, now: int, by: str) -> bool:
    """
    Let what was set for `twin`, as far as it has not ended at `now` (milliseconds since 1970), hold for `pool` too,
    of which no price holds or will; whether there was anything.
    """
    first = number = max((version.period.version for version in _read(connection, [pool])), default=0)
    for version in _read(connection, [twin]):
        period = version.period
        if not period.empty and (period.until is None or period.until > now):
            number += 1
            copy = period._replace(pool=pool, version=number, since=max(period.since, now))
            said = PriceVersion(copy, now, by, f"as of pool {twin}", version.ended_at, version.ended_by)
            row = {**_row(said), "ended_at": said.ended_at, "ended_by": said.ended_by}
            connection.execute(sa.insert(price_versions).values(row))
    return number > first


def tag_of(versions: Iterable[PriceVersion]) -> str:
    """A word for the state of these versions: it changes with every one that is added or ended."""
    said = [
        f"{version.period.pool}/{version.period.version}/{version.period.until}/{version.ended_at}"
        for version in versions
    ]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def _read(connection: sa.Connection, pools: Sequence[str] | None = None) -> list[PriceVersion]:
    rows = sa.select(price_versions).order_by(price_versions.c.pool, price_versions.c.version)
    if pools is not None:
        rows = rows.where(price_versions.c.pool.in_(pools))
    return [
        PriceVersion(
            PricePeriod(row.pool, row.version, row.since, row.until, Prices.model_validate_json(row.prices)),
            row.created_at,
            row.created_by,
            row.comment,
            row.ended_at,
            row.ended_by,
        )
        for row in connection.execute(rows)
    ]


def _row(version: PriceVersion) -> dict[str, object]:
    period = version.period
    return {
        "pool": period.pool,
        "version": period.version,
        "since": period.since,
        "until": period.until,
        "prices": period.prices.model_dump_json(exclude_unset=True),
        "created_at": version.created_at,
        "created_by": version.created_by,
        "comment": version.comment,
    }


def _as_expected(present: Iterable[PriceVersion], expected: str | None) -> None:
    if expected is not None and tag_of(present) != expected:
        raise PricesChanged


def _now() -> int:
    return time.time_ns() // 1_000_000
