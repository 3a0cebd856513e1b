"""Which price held when: the periods that were set for a pool, and the configuration's price outside of them.

Stands in the contracts because the data plane bills by it, the admin process decides by it what may be set, and
reports name its versions. A moment is milliseconds since 1970, UTC. Pure but for `PriceBook.__getitem__`, which
asks the clock.

A pool's own price is the configuration's, which always held, or that of a pool made while the platform runs, which
may have changed: a timeline, newest first, whose last entry holds since the beginning of time. A period goes before
it.

A period has a beginning and may have an end. One without an end lasts until the next one begins; between periods,
and before the first, the price of the configuration holds, which is version 0. No moment has two prices.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import AwareDatetime

from pointsman.contracts.config import Config
from pointsman.contracts.config_pools import Pool, Prices
from pointsman.contracts.config_types import Name, Strict
from pointsman.contracts.pricing import PriceList

CONFIGURED = 0
"""The version of the price that stands in the configuration."""

FURTHEST = 10 * 366 * 86_400_000
"""Milliseconds ahead that a price may be set at most: what lies beyond is a slip of the pen."""


class PriceDocument(Strict):
    """A price that is to hold for a pool, and for all pools that answer its model in one of its modes."""

    pool: Name
    """Name of the pool."""
    effective_from: AwareDatetime | None = None
    """When it begins, with its offset from UTC: `2026-01-01T00:00:00Z`. Default: at once, in a few seconds."""
    effective_until: AwareDatetime | None = None
    """When it ends. Default: when the next one begins."""
    prices: Prices
    """What holds then."""


class PricePeriod(NamedTuple):
    """One version of a pool's price. It holds from `since` on, no longer at `until`; empty where they are equal."""

    pool: str
    version: int
    since: int
    until: int | None
    prices: Prices

    @property
    def empty(self) -> bool:
        """Whether it was taken back before it began."""
        return self.until is not None and self.until <= self.since


class Priced(NamedTuple):
    """What holds at a moment, and which version that is."""

    prices: PriceList
    version: int


class Overlap(Exception):
    """A period would share moments with another one of its pool. `field` is what to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def check_overlap(since: int, until: int | None, others: Iterable[PricePeriod]) -> None:
    """
    Raises `Overlap` where a new period from `since` to `until` shares a moment with one of `others`, of its pool.

    A new period without an end may begin while another one without an end holds: it takes that one's place.
    """
    for other, end in spans(others):
        if since == other.since:
            raise Overlap("effective_from", f"version {other.version} begins at the same moment")
        if since < other.since:
            if until is not None and until > other.since:
                raise Overlap("effective_until", f"version {other.version} begins at {_spelled(other.since)}")
        elif end is not None and since >= end:
            continue
        elif other.until is not None:
            raise Overlap("effective_from", f"version {other.version} holds until {_spelled(other.until)}")
        elif until is not None:
            raise Overlap(
                "effective_until",
                f"version {other.version} holds then and has no end: give this one none either, or end that first",
            )


def spans(periods: Iterable[PricePeriod]) -> list[tuple[PricePeriod, int | None]]:
    """`periods` that are not empty, by their beginning, each with its end: its own, or the next one's beginning."""
    ordered = sorted((period for period in periods if not period.empty), key=lambda period: period.since)
    following = [period.since for period in ordered[1:]]
    return [
        (period, period.until if period.until is not None else begins)
        for period, begins in zip(ordered, (*following, None), strict=False)
    ]


EVER = -(2**63)
"""The beginning of time, as a moment."""

Timeline = tuple[tuple[int, PriceList], ...]
"""Prices with the moments from which on they hold, newest first; the last one's is `EVER`."""


def schedule(own: Timeline, periods: Iterable[PricePeriod]) -> tuple[tuple[int, Priced], ...]:
    """What holds from which moment on, newest first; the last entry holds since the beginning of time."""
    set_apart = [
        (period.since, end, Priced(period.prices.price_list(), period.version)) for period, end in spans(periods)
    ]
    stated = [(since, Priced(prices, CONFIGURED)) for since, prices in own]
    moments = {since for since, _ in stated} | {since for since, _, _ in set_apart}
    moments |= {end for _, end, _ in set_apart if end is not None}
    changes: list[tuple[int, Priced]] = []
    for moment in sorted(moments):
        holding = [each for since, end, each in set_apart if since <= moment and (end is None or moment < end)]
        priced = holding[-1] if holding else next(each for since, each in stated if since <= moment)
        if not changes or changes[-1][1] is not priced:
            changes.append((moment, priced))
    return tuple(reversed(changes))


class PriceBook:
    """
    The prices of all pools at all times. `replace` lets other periods hold from then on, in one step, `configure`
    tells of further pools; `changes` counts how often they did.

    Raises KeyError for a pool of which it was never told. Read by one thread or by many.
    """

    __slots__ = ("_own", "_periods", "_schedules", "changes")

    def __init__(self, configured: Mapping[str, PriceList], periods: Iterable[PricePeriod] = ()) -> None:
        self._own: dict[str, Timeline] = {pool: ((EVER, prices),) for pool, prices in configured.items()}
        self._periods: dict[str, list[PricePeriod]] = {}
        self._schedules: dict[str, tuple[tuple[int, Priced], ...]] = {}
        self.changes = 0
        self.replace(periods)

    def at(self, pool: str, moment: int) -> Priced:
        """The price of `pool` that held, or will hold, at `moment`."""
        for since, priced in self._schedules[pool]:
            if moment >= since:
                return priced
        raise AssertionError("the last one has always held")

    def span(self, pool: str, moment: int) -> tuple[int, int]:
        """From when on the price of `pool` holds that holds at `moment`, and until when, if nothing changes."""
        until = -EVER
        for since, _ in self._schedules[pool]:
            if moment >= since:
                return since, until
            until = since
        raise AssertionError("the last one has always held")

    def __getitem__(self, pool: str) -> PriceList:
        """The prices of `pool` that hold now."""
        return self.at(pool, time.time_ns() // 1_000_000).prices

    def replace(self, periods: Iterable[PricePeriod]) -> None:
        """Let `periods` hold, and no others; those of unknown pools once they are known."""
        by_pool: dict[str, list[PricePeriod]] = {}
        for period in periods:
            by_pool.setdefault(period.pool, []).append(period)
        self._periods = by_pool
        self._schedules = {pool: schedule(own, by_pool.get(pool, ())) for pool, own in self._own.items()}
        self.changes += 1

    def configure(self, pools: Mapping[str, Timeline]) -> None:
        """
        Let these be the own prices of `pools`; others stay as they are, and none is ever forgotten: what ran on a
        pool when it was taken away is still to be billed.
        """
        self._own = {**self._own, **pools}
        made = {pool: schedule(own, self._periods.get(pool, ())) for pool, own in pools.items()}
        self._schedules = {**self._schedules, **made}
        self.changes += 1


def price_book(config: Config) -> PriceBook:
    """The prices that `config` states; periods come later."""
    return PriceBook({pool.name: pool.prices.price_list() for pool in config.pools})


def twins_of(pools: Collection[Pool], pool: str) -> tuple[str, ...]:
    """
    `pool` and all pools whose price can't differ from it, in the order of `pools`.

    Those are the ones that answer the same model in the same mode, and whatever those share a mode with in turn.
    """
    found = {pool}
    while True:
        answered = {(each.model, mode) for each in pools if each.name in found for mode in each.modes}
        further = {each.name for each in pools if any((each.model, mode) in answered for mode in each.modes)}
        if further <= found:
            return tuple(each.name for each in pools if each.name in found)
        found |= further


def moment_of(when: datetime) -> int:
    """`when`, which knows its offset from UTC, in milliseconds since 1970."""
    return round(when.timestamp() * 1000)


def _spelled(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
