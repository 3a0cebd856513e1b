"""The pools that the admin API has made, and every way in which one of them is made, changed or taken away.

Stands between the pages and the two places where these pools are kept: the database, which decides which of two
writers was first, and Redis, from which routers read. A change is first in the one, then in the other; what did not
get through to Redis is sent again until it did. Pools of the configuration file are shown and never changed. What
holds between pools is checked in the transaction that writes, so that of two writers the second one sees the first
one's pool. Needs no event loop: all of it may be called from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from pointsman.contracts.config import Config, Pool
from pointsman.contracts.config_rules import FLEET_RULES
from pointsman.contracts.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    ManagedElsewhere,
    PoolNotFound,
    PreconditionFailed,
    PreconditionRequired,
)
from pointsman.contracts.price_book import Timeline, twins_of
from pointsman.router.admin.live_prices import LivePrices
from pointsman.router.admin.managers import FILE
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.store.pool_projection import PoolProjection, timeline
from pointsman.store.pools import Changing, PoolRow, PoolStore, decoded

log = logging.getLogger(__name__)

MOST = 1000
"""Pools that the admin API makes at most: routers keep something of each, and tell of each every second."""

LOOK = 1.0
"""Seconds between two looks whether anybody has changed anything, and whether Redis holds it."""


@dataclass(frozen=True, slots=True)
class PresentPool:
    """
    A pool as it is. `version` is 0 where it is the configuration's, and `written` None; `live`: whether it is where
    routers read it.
    """

    pool: Pool
    version: int
    managed_by: str
    traffic: dict[str, float]
    written: PoolRow | None
    live: bool


class LivePools:
    """
    All pools. What touches the database raises `DatabaseUnavailable`, what names a pool `PoolNotFound`. `directory`
    and the prices' book are kept as the database is.
    """

    def __init__(self, directory: PoolDirectory, store: PoolStore, prices: LivePrices, redis: Redis) -> None:
        self.directory = directory
        self._store = store
        self._prices = prices
        self._projection = PoolProjection(redis)
        self._parsed: dict[str, tuple[int, Pool]] = {}
        self._versions: dict[str, tuple[int, str]] = {}
        self._newest = -1
        self._agreed: tuple[str, int] | None = None  # revision of Redis and change of the database that agree
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._keep, name="pools", daemon=True)

    def start(self) -> None:
        """Read what there is, and begin to keep Redis, and what this process knows, as the database is."""
        with contextlib.suppress(DatabaseUnavailable):
            self._read()
        self._thread.start()

    def stop(self) -> None:
        """Stop that, and wait until it has."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def present(self, name: str) -> PresentPool:
        """The pool `name`."""
        of_file = self.directory.of_file.get(name)
        if of_file is not None:
            return PresentPool(of_file, 0, FILE, {}, None, True)
        row = self._store.get(name)
        if row is None or row.document is None:
            raise _not_found()
        return self._present(row)

    def versions(self) -> dict[str, tuple[int, str]]:
        """
        Version and manager of each pool that the admin API has made, as `directory` has them.

        Asks nobody: what goes on in pools is to be seen while the database is away.
        """
        return self._versions

    def put(
        self,
        pool: Pool,
        *,
        expected: int | None,
        manager: str,
        by: str,
        origin: str | None = None,
        take_from: str | None = None,
        reprice: bool = False,
    ) -> tuple[PresentPool, bool]:
        """
        Let the pool of that name be `pool`, or a new one; and whether it is new.

        `expected` is the version that the writer has seen. Raises `PreconditionFailed` where it is another one by
        now, `PreconditionRequired` where the writer says nothing of one that exists, `ManagedElsewhere` where
        `manager` is not who looks after it, or where it was made of another of his objects than `origin`,
        `InvalidRequest` that names the field where it doesn't go with other pools. `take_from`: the manager who
        gives it up. `reprice`: its prices are to hold for the pools of `manager` too whose price can't differ.
        """
        self._not_of_file(pool.name)

        def unchanged(row: PoolRow | None) -> bool:
            return (
                row is not None
                and row.document is not None
                and (row.managed_by, row.origin) == (manager, origin)
                and expected in (None, row.version)
                and self._pool(row) == pool
            )

        # Who only makes sure, as the operator does with each pool every minute, holds up no writer.
        if (row := self._store.get(pool.name)) is not None and unchanged(row):
            return self._present(row), False
        with self._lock:
            try:
                with self._store.changing() as change:
                    row = change.rows.get(pool.name)
                    if row is not None and row.document is not None:
                        if row.managed_by != take_from:
                            _check_manager(row, manager, origin)
                        if unchanged(row):
                            raise _Unchanged(row)
                        _as_expected(row, expected)
                    elif expected:
                        raise PreconditionFailed("There is no such pool any more, or there never was.")
                    self._write(change, pool, manager=manager, by=by, origin=origin, reprice=reprice)
            except _Unchanged as found:
                return self._present(found.row), False
            written = change.rows[pool.name]
            log.info("pool %s: version %d by %s", pool.name, written.version, by)
            self._publish(change)
            return self._present(written), row is None or row.document is None

    def delete(self, name: str, *, expected: int | None, manager: str, by: str, origin: str | None = None) -> None:
        """Take the pool `name` away. `expected`, `origin`: as in `put`; `expected` may be left out."""
        self._not_of_file(name)
        with self._lock:
            with self._store.changing() as change:
                row = self._changeable(change, name)
                _check_manager(row, manager, origin)
                if expected is not None:
                    _as_expected(row, expected)
                change.delete(row, by=by)
            log.info("pool %s taken away by %s", name, by)
            self._publish(change)

    def direct(
        self, name: str, traffic: dict[str, float], *, expected: int | None, manager: str, by: str
    ) -> PresentPool:
        """Divide the requests of the pool `name` by `traffic`, weights by revision; an empty one: not at all."""
        self._not_of_file(name)
        with self._lock:
            try:
                with self._store.changing() as change:
                    row = self._changeable(change, name)
                    _check_manager(row, manager, row.origin)
                    if expected is not None:
                        _as_expected(row, expected)
                    if orjson.loads(row.traffic) == traffic:
                        raise _Unchanged(row)
                    written = change.direct(row, traffic, by=by)
            except _Unchanged as unchanged:
                return self._present(unchanged.row)
            log.info("pool %s: traffic %s by %s", name, written.traffic, by)
            self._publish(change)
            return self._present(written)

    # -- one change

    def _write(
        self, change: Changing, pool: Pool, *, manager: str, by: str, origin: str | None, reprice: bool
    ) -> None:
        row = change.rows.get(pool.name)
        before = None if row is None or row.document is None else self._pool(row)
        if before is None and sum(row.document is not None for row in change.rows.values()) >= MOST:
            raise InvalidRequest(f"There are {MOST:,} pools already.", code="too_many_pools")
        others = self._others(change, pool)
        if reprice:
            others = self._repriced(change, pool, others, manager=manager, by=by)
        of_file = [each for each in self.directory.of_file.values() if each.model == pool.model]
        every = [*of_file, *others.values(), pool]
        self._check(every)
        change.put(pool, manager=manager, by=by, origin=origin)
        if before is None or (before.model, set(before.modes)) != (pool.model, set(pool.modes)):
            if before is not None:
                change.leave_prices(pool.name, by=by)
            twin = next((name for name in twins_of(every, pool.name) if name != pool.name), None)
            if twin is not None:
                change.inherit_prices(pool.name, twin, by=by)

    def _repriced(
        self, change: Changing, pool: Pool, others: Mapping[str, Pool], *, manager: str, by: str
    ) -> dict[str, Pool]:
        """`others`, those among them that have to agree with `pool` at its prices, if `manager` has them."""
        after = dict(others)
        for name in twins_of([*others.values(), pool], pool.name):
            twin = others.get(name)
            if twin is None or twin.prices.price_list() == pool.prices.price_list():
                continue
            row = change.rows[name]
            if row.managed_by != manager:
                continue  # which the check tells
            after[name] = twin.model_copy(update={"prices": pool.prices})
            change.put(after[name], manager=manager, by=by, origin=row.origin)
        return after

    def _others(self, change: Changing, pool: Pool) -> dict[str, Pool]:
        """The pools of the same model that the database has beside `pool`, but for those that the file has too."""
        of_file = self.directory.of_file
        return {
            row.name: other
            for row in change.rows.values()
            if row.document is not None
            and row.name != pool.name
            and row.name not in of_file
            and (other := self._pool(row)).model == pool.model
        }

    def _check(self, pools: Iterable[Pool]) -> None:
        """Raises `InvalidRequest` that names the field of the last of `pools` which breaks a rule of fleets."""
        every = tuple(pools)
        config = Config.model_construct(pools=every)
        last = len(every) - 1
        for rule in FLEET_RULES:
            for location, message in rule(config):
                if location[:2] == ("pools", last):
                    field = ".".join(map(str, location[2:]))
                    raise InvalidRequest(f"{field}: {message}.", param=field, code="invalid_value")

    def _changeable(self, change: Changing, name: str) -> PoolRow:
        row = change.rows.get(name)
        if row is None or row.document is None:
            raise _not_found()
        return row

    def _not_of_file(self, name: str) -> None:
        if name in self.directory.of_file:
            raise ManagedElsewhere("This pool stands in the configuration file: change it there.")

    def _present(self, row: PoolRow) -> PresentPool:
        agreed = self._agreed
        live = agreed is not None and agreed[1] >= row.number
        return PresentPool(self._pool(row), row.version, row.managed_by, orjson.loads(row.traffic), row, live)

    def _pool(self, row: PoolRow) -> Pool:
        """The pool in `row`, which has one. Raises `ValidationError` where a later release wrote it."""
        known = self._parsed.get(row.name)
        if known is None or known[0] != row.number:
            assert row.document is not None
            known = self._parsed[row.name] = (row.number, decoded(row.document))
        return known[1]

    # -- what follows from it

    def _publish(self, change: Changing) -> None:
        """Let this process, and routers, know."""
        self._read()
        if change.moved_prices:
            self._prices.changed()
        try:
            revision = self._projection.put(row.change() for row in change.written)
        except RedisError as error:
            log.warning("pools are not in Redis yet (%s)", type(error).__name__)
            revision = None
        if revision is not None and self._agreed is not None and self._newest == self._agreed[1] + 1:
            self._agreed = (revision, self._newest)  # nobody else has written in between
        elif revision is None:
            self._agreed = None
        self._wake.set()

    def _read(self) -> list[PoolRow]:
        """Bring what the database has into the directory and the book; all rows."""
        with self._lock:
            newest, rows = self._store.all()
            if newest == self._newest:
                return rows
            made, own = [], {}
            for row in rows:
                if row.document is None or row.name in self.directory.of_file:
                    continue
                try:
                    made.append(self._pool(row))
                    if row.number > self._newest:
                        own[row.name] = _timeline(row)
                except (ValidationError, ValueError, TypeError):
                    log.error("version %d of the pool %s can't be read", row.version, row.name)
            if own:
                self._prices.book.configure(own)  # first: whatever pool there is has a price
            self.directory.replace(made)
            self._versions = {row.name: (row.version, row.managed_by) for row in rows if row.document is not None}
            self._newest = newest
        return rows

    def _keep(self) -> None:
        """Runs in a thread of its own until `stop`."""
        troubled = False
        while not self._stopping:
            self._wake.clear()
            try:
                newest = self._store.newest()
                if newest != self._newest:
                    self._read()  # even where Redis is away
                if self._agreed is None or (self._projection.revision(), newest) != self._agreed:
                    self._reconcile()
                troubled = False
            except Exception as error:  # a thread that ends would do so unseen
                if not troubled:
                    log.warning("pools can't be brought into Redis (%s)", type(error).__name__)
                troubled = True
                self._agreed = None
            self._wake.wait(LOOK)

    def _reconcile(self) -> None:
        """Make sure that this process and Redis have what the database has."""
        with self._lock:
            revision = self._projection.revision()
            rows = self._read()
            newest = self._newest
            projected = dict(self._projection.versions())
            there = {row.name: row for row in rows}
            strange = any(
                name not in there or not 0 <= number <= there[name].number for name, number in projected.items()
            )
            if revision is None or strange:
                live = [row.change() for row in rows if row.document is not None]
                revision = self._projection.replace(live)
            else:
                missing = [
                    row.change()
                    for row in rows
                    if projected.get(row.name, row.number if row.document is None else 0) < row.number
                ]
                if missing:
                    revision = self._projection.put(missing)
            self._agreed = None if revision is None else (revision, newest)


class _Unchanged(Exception):
    """Nothing is to be written: what is wanted is there, as `row`."""

    def __init__(self, row: PoolRow) -> None:
        super().__init__()
        self.row = row


def _timeline(row: PoolRow) -> Timeline:
    return timeline(orjson.loads(row.prices))


def _check_manager(row: PoolRow, manager: str, origin: str | None) -> None:
    if row.managed_by != manager:
        raise ManagedElsewhere(
            f"This pool is managed by {row.managed_by}: change it there, or say ?manager={row.managed_by}."
        )
    if row.origin not in (None, origin):
        raise ManagedElsewhere(f"This pool was made of {row.origin}: change it there.")


def _as_expected(row: PoolRow, expected: int | None) -> None:
    if expected is None:
        raise PreconditionRequired(
            f"This pool exists, as version {row.version}: name its ETag in the header If-Match."
        )
    if expected != row.version:
        raise PreconditionFailed("This pool has been changed since its ETag was read: look at it again.")


def _not_found() -> PoolNotFound:
    return PoolNotFound("There is no pool of this name.")
