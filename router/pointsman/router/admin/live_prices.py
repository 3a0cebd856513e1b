"""The prices that hold, and every way in which one of them is changed.

Stands between the pages and the two places where prices are kept: the database, which decides, and Redis, which
routers read. A change is first in the one, then in the other; what did not get through to Redis is sent again until
it did. Needs no event loop: all of it may be called from any thread.

A price begins `LEAD` ahead of the moment at which it is set, or later, and never in the past: what was billed stays
billed, and every router knows a price before it holds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from pointsman.contracts.errors import InvalidRequest, PreconditionFailed, PriceNotFound
from pointsman.contracts.price_book import (
    FURTHEST,
    Overlap,
    PriceBook,
    Priced,
    PriceDocument,
    moment_of,
)
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.store.database import Database
from pointsman.store.price_projection import PriceProjection, PriceVersion, projected
from pointsman.store.prices import PricesChanged, PriceStore, tag_of

log = logging.getLogger(__name__)

LEAD = 2_000
"""Milliseconds from the moment at which a price is set to the earliest at which it holds."""

LOOK = 1.0
"""Seconds between two looks whether Redis holds what was written last."""

RECONCILE = 15.0
"""Seconds after which Redis is compared with the database even where nothing seems to have changed."""


class PoolPrices(NamedTuple):
    """
    The prices of one pool: what holds `now`, and all versions, oldest first. `twins`: the pools whose prices can't
    differ, itself included; `tag` changes with theirs. `live`: Redis has all of it.
    """

    pool: str
    twins: tuple[str, ...]
    now: Priced
    versions: tuple[PriceVersion, ...]
    tag: str
    live: bool


class LivePrices:
    """
    Prices of the pools in `directory`. What touches the database raises `DatabaseUnavailable`, what names a pool
    `PriceNotFound`. That Redis is away hinders no change: it is made good when it is back.

    `book` is what this process knows of them, for whoever only reads; of pools that come later it is told.
    """

    def __init__(self, directory: PoolDirectory, database: Database, redis: Redis) -> None:
        self.book = PriceBook({pool.name: pool.prices.price_list() for pool in directory.all})
        self._pools = directory
        self._store = PriceStore(database)
        self._projection = PriceProjection(redis)
        self._changing = threading.RLock()
        self._wanted: bytes | None = None
        self._sent = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="prices", daemon=True)

    def start(self) -> None:
        """Begin to keep Redis as the database is."""
        self._thread.start()

    def stop(self) -> None:
        """Stop that, and wait until it has."""
        self._stop.set()
        self._thread.join()

    def every(self) -> list[PoolPrices]:
        """The prices of all pools: the configuration's in its order, then the others by name."""
        versions = self._store.all()
        self.book.replace(version.period for version in versions)
        return [self._shown(pool.name, versions) for pool in self._pools.all]

    def one(self, pool: str) -> PoolPrices:
        """The prices of `pool`."""
        return self._shown(pool, self._store.of(self._twins(pool)))

    def set(self, document: PriceDocument, *, by: str, comment: str, expected: str | None) -> PoolPrices:
        """
        Let the price of `document` hold for its pool and that pool's twins.

        Raises `InvalidRequest` that names the field which can't be, `PreconditionFailed` where `expected` is not
        the tag any more.
        """
        if self._pools.named(document.pool) is None:
            raise InvalidRequest("'pool': there is no pool of this name.", param="pool", code="invalid_value")
        since = self._begins(document.effective_from)
        until = None if document.effective_until is None else moment_of(document.effective_until)
        if until is not None and until <= since:
            raise _refused("effective_until", "must be after the beginning")
        if until is not None and until > _now() + FURTHEST:
            raise _refused("effective_until", "must be within the next ten years")
        with self._changing:
            try:
                self._store.add(
                    self._twins(document.pool),
                    document.prices,
                    since=since,
                    until=until,
                    by=by,
                    comment=comment,
                    expected=expected,
                )
            except Overlap as overlap:
                raise _refused(overlap.field, overlap.message) from None
            except PricesChanged:
                raise _changed() from None
            log.info("price of %s from %d on by %s", document.pool, since, by)
            self._send()
            return self.one(document.pool)

    def end(self, pool: str, version: int, *, at: datetime | None, by: str, expected: str | None) -> PoolPrices:
        """
        Let `version` of the price of `pool`, and of that pool's twins, end at `at`; None: as soon as may be.

        One that has not begun is taken back where `at` is None. Raises `PriceNotFound`, `InvalidRequest` and
        `PreconditionFailed`.
        """
        with self._changing:
            versions = self.one(pool).versions
            present = next((one for one in versions if one.period.version == version), None)
            if present is None or present.period.empty:
                raise PriceNotFound("This pool has no price of this version.")
            period, soonest = present.period, _now() + LEAD
            if period.until is not None and period.until <= _now():
                raise _refused("version", "has ended already")
            until = moment_of(at) if at is not None else max(period.since, soonest)
            if at is None and period.since >= soonest:
                until = period.since
            elif until < soonest:
                raise _refused("at", f"must be at least {LEAD // 1000} seconds ahead")
            if period.until is not None and until > period.until:
                raise _refused("at", "must not be after its present end")
            try:
                self._store.end(self._twins(pool), period.since, until=until, by=by, expected=expected)
            except PricesChanged:
                raise _changed() from None
            log.info("price of %s, version %d, ends at %d by %s", pool, version, until, by)
            self._send()
            return self.one(pool)

    def changed(self) -> None:
        """The prices of pools have changed in the database otherwise than by `set` and `end`."""
        with self._changing:
            self._send()

    def _begins(self, wanted: datetime | None) -> int:
        now = _now()
        if wanted is None:
            return now + LEAD
        since = moment_of(wanted)
        if since < now + LEAD:
            raise _refused(
                "effective_from",
                f"must be at least {LEAD // 1000} seconds ahead: what was billed stays as it was billed",
            )
        if since > now + FURTHEST:
            raise _refused("effective_from", "must be within the next ten years")
        return since

    def _twins(self, pool: str) -> tuple[str, ...]:
        if self._pools.named(pool) is None:
            raise PriceNotFound("There is no pool of this name.")
        return self._pools.twins(pool)

    def _shown(self, pool: str, versions: Iterable[PriceVersion]) -> PoolPrices:
        twins = self._twins(pool)
        related = [version for version in versions if version.period.pool in twins]
        own = tuple(version for version in related if version.period.pool == pool)
        return PoolPrices(pool, twins, self.book.at(pool, _now()), own, tag_of(related), self._sent)

    def _send(self) -> None:
        """Bring what the database has into the book, and into Redis where that can be."""
        versions = self._store.all()
        self.book.replace(version.period for version in versions)
        self._wanted = projected(versions, now=_now())
        try:
            self._projection.put(self._wanted)
        except RedisError as error:
            if self._sent:
                log.warning("prices are not in Redis yet (%s)", type(error).__name__)
            self._sent = False
        else:
            self._sent = True

    def _keep(self) -> None:
        """Runs in a thread of its own until `stop`."""
        compared = -RECONCILE
        troubled = False
        while True:
            try:
                if (
                    not self._sent
                    or time.monotonic() - compared >= RECONCILE
                    or self._projection.text() != self._wanted
                ):
                    with self._changing:
                        self._send()
                    compared = time.monotonic()
                troubled = False
            except Exception as error:  # a thread that ends would do so unseen
                if not troubled:
                    log.warning("prices can't be brought into Redis (%s)", type(error).__name__)
                troubled = True
            if self._stop.wait(LOOK):
                return


def _now() -> int:
    return time.time_ns() // 1_000_000


def _refused(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"'{field}': {message}.", param=field, code="invalid_value")


def _changed() -> PreconditionFailed:
    return PreconditionFailed("Somebody else has just changed these prices: look at them again.")
