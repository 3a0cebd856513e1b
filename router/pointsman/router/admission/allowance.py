"""What one tenant may still use here: leases of its limits and budgets, as plain numbers.

Stands between the step `admit`, which takes from it for each request, and the lease book, which tells Redis what
was used and brings more. Pure: told the time, it touches no clock and no socket. What is not limited is a number
that never runs out, so that a request costs a handful of comparisons and no question whether there is a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from pointsman.contracts.limits import AtSoftMark, Budget, Budgets, Limits
from pointsman.contracts.names import Header
from pointsman.router.admission.buckets import Buckets
from pointsman.router.admission.purse import Purse, periods_of
from pointsman.router.admission.reservation import Admission
from pointsman.router.admission.stock import BOUNDLESS, Aim, Need, Shortage, Waiter, kept, missing
from pointsman.store.leases import LEASE, Ask, Grant, PlacesGrant

SPENDABLE = LEASE - 1.0
"""Seconds from when a lease was asked for until nothing more is taken from it here."""


class Asked(NamedTuple):
    """What was asked, of which purses, and what these had settled then."""

    ask: Ask
    day: Purse
    month: Purse
    settled: tuple[int, int]


class View(Protocol):
    """A tenant's view, as far as it concerns limits. `allowance` and `degraded` are kept up to date here."""

    name: str
    limits: Limits
    budgets: Budgets
    gone: bool
    degraded: bool
    allowance: Allowance | None


def _nothing() -> None:
    """For an allowance that nobody waits for."""


class Allowance:
    """
    What one tenant may still use here. `requests`, `tokens`, `input`, `output` and `places` are left of its limits;
    below 0 where more was used than was set aside. `waiting` are the requests that wait for a lease, `on_return` is
    called when something comes back that they may want.
    """

    __slots__ = (
        "_aim_of_places",
        "_known_places",
        "begun",
        "buckets",
        "budgets",
        "concurrency",
        "day",
        "deadline",
        "held_to",
        "input",
        "month",
        "moved",
        "moved_at",
        "name",
        "old",
        "on_return",
        "output",
        "places",
        "priced",
        "requests",
        "running",
        "sharers",
        "soft",
        "tokens",
        "told_at",
        "turn",
        "view",
        "waiting",
    )

    def __init__(self, name: str, view: View) -> None:
        self.name = name
        self.view = view
        self.held_to = Limits()
        self.budgets = Budgets()
        self.buckets = Buckets()
        self.requests = self.tokens = self.input = self.output = self.places = BOUNDLESS
        self.concurrency: int | None = None
        self.running = 0
        self.priced = False
        self.day = self.month = Purse("", datetime.fromtimestamp(0, UTC))
        self.old: list[Purse] = []
        self.begun = self.turn = 0
        self.deadline = 0.0
        self.waiting: dict[Waiter, None] = {}
        self.on_return = _nothing
        self.moved = False
        self.moved_at = 0.0
        self.told_at = 0.0
        self.soft = False
        self.sharers = 1
        self._known_places: PlacesGrant | None = None
        self._aim_of_places = Aim()

    def hold_to(self, limits: Limits, budgets: Budgets) -> None:
        """Let `limits` and `budgets` hold from now on; what is held of leases stays."""
        self._set_left(self.buckets.hold_to(limits, self._left()))
        if (limits.concurrency is None) != (self.concurrency is None):
            self.places = BOUNDLESS if limits.concurrency is None else 0
        self.concurrency = limits.concurrency
        self.held_to, self.budgets = limits, budgets
        self.day.hold_to(budgets.daily)
        self.month.hold_to(budgets.monthly)
        self.priced = budgets != Budgets()
        self.deadline = 0.0  # what holds now was never leased
        self._judge_softness()

    @property
    def hard(self) -> bool:
        """Whether there is money that must not be exceeded."""
        return self.budgets.daily.hard_usd is not None or self.budgets.monthly.hard_usd is not None

    # -- a request

    def take(self, need: Need, at: int, now: float) -> Admission | None:
        """
        Set `need` aside for a request that came at `at` (milliseconds since 1970); None where there is not enough
        of a lease that still holds at `now`, or others wait.
        """
        if now >= self.deadline or self.waiting:
            return None
        return self.grab(need, at)

    def grab(self, need: Need, at: int) -> Admission | None:
        """The same, whoever waits, and however old the lease."""
        if not self.begun <= at < self.turn:
            self._turn(at)
        tokens_in, tokens_out, nano = need
        tokens = tokens_in + tokens_out
        _, most, most_in, most_out = self.buckets.most
        if tokens > most:
            tokens = most
        if tokens_in > most_in:
            tokens_in = most_in
        if tokens_out > most_out:
            tokens_out = most_out
        day, month = self.day, self.month
        if (
            self.requests < 1
            or self.places < 1
            or self.tokens < tokens
            or self.input < tokens_in
            or self.output < tokens_out
            or day.free < nano
            or month.free < nano
        ):
            return None
        self.moved = True
        self.running += 1
        self.requests -= 1
        self.places -= 1
        self.tokens -= tokens
        self.input -= tokens_in
        self.output -= tokens_out
        day.free -= nano
        day.reserved += nano
        month.free -= nano
        month.reserved += nano
        return Admission(self, day, month, nano, tokens_in, tokens_out, tokens)

    def starve(self, need: Need) -> None:
        """Remember that `need` was not there: more of it will be leased from now on."""
        self.buckets.starve(need, self._left())
        if self.places < 1:
            self._aim_of_places.starved = True
        for purse in (self.day, self.month):
            purse.aim.unit = max(1, need.nano)
            if purse.free < need.nano:
                purse.aim.starved = True

    def shortage(self, need: Need, now: float) -> Shortage | None:
        """What there is too little of for `need`, wherever it is held; None where others might give some back."""
        lacking = self.buckets.shortage(need, self._left(), now)
        if lacking is not None:
            return lacking
        used = None if self._known_places is None else self._known_places.used
        if self.concurrency is not None and used is not None and self.concurrency - used - self.running < 1:
            return Shortage("concurrency", 1.0)
        for purse, name in ((self.day, "daily"), (self.month, "monthly")):
            if purse.hard >= 0 and purse.base is not None and purse.hard - purse.spent < need.nano:
                return Shortage(name, 0.0, spent=True)
        return None

    def blockage(self, need: Need) -> Shortage:
        """What there is too little of for `need` here, though others may hold some."""
        if (blocked := self.buckets.blockage(need, self._left())) is not None:
            return blocked
        if self.places < 1:
            return Shortage("concurrency", 1.0)
        return Shortage("daily" if self.day.free < need.nano else "monthly", 1.0)

    def soften(self) -> None:
        """A soft mark was reached."""
        self.soft = True
        self.view.degraded = self.budgets.at_soft_mark is AtSoftMark.DEGRADE

    def _judge_softness(self) -> None:
        if self.day.spent >= self.day.soft or self.month.spent >= self.month.soft:
            self.soften()
        else:
            self.soft = False
            self.view.degraded = False

    # -- leases

    @property
    def hoards(self) -> bool:
        """Whether money is held here for no request, though there is little of it left anywhere."""
        return not self.waiting and any(
            purse.scarce and purse.hard >= 0 and purse.free > 0 for purse in (self.day, self.month)
        )

    @property
    def low(self) -> bool:
        """Whether a lease should be filled up before it runs out."""
        places = self.concurrency is not None and 2 * self.places < self._aim_of_places.goal
        return places or self.buckets.low(self._left()) or self.day.low or self.month.low

    @property
    def empty(self) -> bool:
        """Whether nothing is held, set aside or untold, so that nobody needs to hear of it."""
        holds = any(0 < amount < BOUNDLESS // 2 for amount in (*self._left(), self.places))
        money = any(purse.matters and (purse.open or purse.untold) for purse in (self.day, self.month, *self.old))
        return not (holds or money or self.running or self.waiting)

    def ask(self, number: int, at: int, now: float, *, hoards: bool) -> Asked:
        """
        What to tell Redis now, `at` by the calendar, with the run's word of this `number`.

        `hoards` is False where all that no request needs shall be given back. What is given back is gone from here
        at once: it is not taken twice, whether Redis hears of it or not.
        """
        if not self.begun <= at < self.turn:
            self._turn(at)
        needs = [waiter.need for waiter in self.waiting]
        if self.moved:
            self.moved_at = now
        self.moved = False
        self.told_at = now
        rates, left = self.buckets.ask(self._left(), needs, now, hoards=hoards)
        self._set_left(left)
        places = None
        if self.concurrency is not None:
            target = self._aim_of_places.adjusted(self.concurrency) if hoards else 0
            ones = [1] * len(needs)
            keep = kept(self.places, ones, target)
            self.places = min(self.places, keep)
            places = (self.concurrency, self.running, keep, *missing(keep, ones, target))
        nanos = [need.nano for need in needs]
        day, month = (
            purse.ask(nanos, hoards=hoards) if purse.matters else None for purse in (self.day, self.month)
        )
        ask = Ask(self.name, number, rates, places, self.day.period, day, self.month.period, month)
        return Asked(ask, self.day, self.month, (self.day.settled, self.month.settled))

    def asks_of_old(self, number: int) -> list[Asked]:
        """What to tell Redis of periods that are over, with words from this `number` on."""
        self.old = [purse for purse in self.old if purse.matters and (purse.open or purse.untold)]
        asks = []
        for word, purse in enumerate(self.old, number):
            money = purse.ask([], hoards=False)
            asks.append(
                Asked(
                    Ask(self.name, word, None, None, purse.period, money, "-", None),
                    purse,
                    purse,
                    (purse.settled, 0),
                )
            )
        return asks

    def granted(self, grant: Grant, asked: Asked, sent_at: float) -> None:
        """Take what Redis gave when it was `asked`, at `sent_at`."""
        for purse, money, then in zip(asked[1:3], (grant.day, grant.month), asked.settled, strict=True):
            if money is not None:
                purse.granted(money, then)
        if asked.day is asked.month:
            return  # a period that is over
        self._set_left(self.buckets.granted(grant.rates, self._left(), sent_at))
        self._known_places = grant.places
        if grant.places is not None and self.concurrency is not None:
            self.places = max(0, self.places) + grant.places.given
            # Others have some of them where the limit was lowered, or nothing was told for longer than a lease.
            self.places -= max(0, grant.places.others + self.running + self.places - self.concurrency)
        self.sharers = grant.sharers
        self.deadline = sent_at + SPENDABLE
        self._judge_softness()

    def leave(self) -> None:
        """Nobody will take from it any more: at the next word to Redis all is given back that no request needs."""
        self.moved = False
        self.moved_at = -1e9

    def unheard(self, asked: Asked) -> None:
        """Whether Redis heard what was `asked` is not known: it will be told again."""
        asked.day.told = asked.month.told = -1
        self.moved = True

    def alone(self, now: float) -> None:
        """
        Redis is away: add a careful share of the limits to what is left here, and let it be taken.

        Half of what would be each router's if all got the same, as others may have come since.
        """
        share = 1 / (2 * max(1, self.sharers))
        self._set_left(self.buckets.alone(share, self._left(), now))
        if self.concurrency is not None:
            self.places = max(1, int(self.concurrency * share)) - self.running

    def header_lines(self, now: float) -> bytes:
        """The header lines that tell how much is left of the limits, and whether a soft mark was reached."""
        lines = self.buckets.header_lines((self.requests, self.tokens, self.input, self.output), now)
        return lines + _SOFT if self.soft else lines

    # -- within

    def _left(self) -> list[int]:
        return [self.requests, self.tokens, self.input, self.output]

    def _set_left(self, left: Sequence[int]) -> None:
        self.requests, self.tokens, self.input, self.output = left

    def _turn(self, at: int) -> None:
        """Another day has begun by the calendar, or an earlier one again where the clock was put right."""
        day, day_ends, month, month_ends, self.begun, self.turn = periods_of(at)
        self.day = self._purse(self.day, day, day_ends, self.budgets.daily)
        self.month = self._purse(self.month, month, month_ends, self.budgets.monthly)
        self._judge_softness()

    def _purse(self, present: Purse, period: str, ends: datetime, budget: Budget) -> Purse:
        if present.period == period:
            return present
        found = next((purse for purse in self.old if purse.period == period), None)
        if found is not None:
            self.old.remove(found)
        if present.period:
            self.old.append(present)
        purse = found or Purse(period, ends)
        purse.aim = present.aim
        purse.hold_to(budget)
        return purse


_SOFT = b"%b: soft\r\n" % Header.BUDGET.encode()
