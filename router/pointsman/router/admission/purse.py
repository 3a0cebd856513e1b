"""One period's money of one tenant, as one run of a router sees it: leased, set aside, settled.

Below the allowance, which takes from it. Pure; what it says to Redis is told by the lease book.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pointsman.contracts.limits import Budget
from pointsman.contracts.pricing import NANO
from pointsman.router.admission.stock import BOUNDLESS, Aim, kept, missing
from pointsman.store.leases import Money, MoneyGrant

_FORGOTTEN = 2 * 86_400
"""Seconds after its end for which Redis keeps a period's money."""


class Purse:
    """
    One period's money of one tenant, in nano-dollars.

    `free` is leased and set aside for nothing (below 0: what has to come back before anything is spent), `reserved`
    set aside for requests that run, `settled` what requests of this run have cost, `spent` what is known of all
    runs; `ends` is a Unix time. `base` is what the run had settled before this object began to count; None while
    Redis has not said.
    """

    __slots__ = (
        "aim",
        "base",
        "ends",
        "forgotten_at",
        "free",
        "hard",
        "period",
        "reserved",
        "scarce",
        "settled",
        "soft",
        "spent",
        "told",
    )

    def __init__(self, period: str, ends: datetime) -> None:
        self.period = period
        self.ends = int(ends.timestamp())
        self.forgotten_at = self.ends + _FORGOTTEN
        self.hard = -1
        self.soft = BOUNDLESS
        self.free = BOUNDLESS
        self.reserved = 0
        self.settled = 0
        self.spent = 0
        self.base: int | None = None
        self.told = 0
        self.scarce = False
        self.aim = Aim()

    def hold_to(self, budget: Budget) -> None:
        """Let `budget` hold from now on."""
        hard = -1 if budget.hard_usd is None else int(budget.hard_usd * NANO)
        soft = BOUNDLESS if budget.soft_usd is None else int(budget.soft_usd * NANO)
        if (hard < 0) != (self.hard < 0):
            self.free = BOUNDLESS if hard < 0 else 0
        if not self.matters and (hard >= 0 or soft < BOUNDLESS):
            self.settled, self.base = 0, None  # what was spent before is known from the ledger
        self.hard = hard
        self.soft = soft

    @property
    def matters(self) -> bool:
        """Whether there is a mark."""
        return self.hard >= 0 or self.soft < BOUNDLESS

    @property
    def open(self) -> bool:
        """Whether something is held or set aside."""
        return self.reserved > 0 or (self.hard >= 0 and self.free > 0)

    @property
    def untold(self) -> bool:
        """Whether Redis has not heard of all that was settled."""
        return self.settled > 0 and (self.base is None or self.base + self.settled > self.told)

    @property
    def low(self) -> bool:
        """Whether there should be more in stock."""
        return self.hard >= 0 and not self.scarce and 2 * self.free < self.aim.goal

    def ask(self, needs: Sequence[int], *, hoards: bool) -> Money:
        """What to tell Redis, and to ask of it for requests that wait and need `needs`."""
        settled = 0 if self.base is None else self.base + self.settled
        self.told = settled
        if self.hard < 0:
            return (-1, settled, 0, 0, 0, 0, 0, self.forgotten_at)
        target = self.aim.adjusted(self.hard)
        if self.scarce or not hoards:
            target = 0
        keep = kept(self.free, needs, target)
        self.free = min(self.free, keep)
        first, every, want = missing(keep, needs, target)
        unit = self.aim.unit
        return self.hard, settled, self.reserved + keep, first, every, want, unit, self.forgotten_at

    def granted(self, grant: MoneyGrant, settled_then: int) -> None:
        """Take what Redis has given; `settled_then` is what `settled` was when it was asked."""
        if self.base is None:
            self.base = self.told = grant.settled
            self.spent = grant.spent + self.settled
        else:
            # The ledger may know more of this run by now: what it spent before there was a mark to tell it of.
            self.base = max(self.base, grant.settled - settled_then)
            self.spent = grant.spent + self.settled - settled_then
        self.scarce = grant.scarce
        if self.hard >= 0:
            self.free = max(0, self.free) + grant.given
            # More was leased than there is where the mark was lowered: none of it is spent, nor what comes back.
            self.free -= max(0, self.spent + grant.leased + self.reserved + self.free - self.hard)


class Periods(NamedTuple):
    """A day and its month in UTC: their names, when they end, and when the day begins and ends in milliseconds."""

    day: str
    day_ends: datetime
    month: str
    month_ends: datetime
    begun: int
    turn: int


def periods_of(at: int) -> Periods:
    """The periods in which a request counts that came at `at` (milliseconds since 1970)."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    tomorrow = midnight + timedelta(days=1)
    return Periods(
        midnight.strftime("%Y-%m-%d"),
        tomorrow,
        midnight.strftime("%Y-%m"),
        (midnight.replace(day=1) + timedelta(days=32)).replace(day=1),
        int(midnight.timestamp() * 1000),
        int(tomorrow.timestamp() * 1000),
    )
