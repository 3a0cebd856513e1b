"""What one tenant may still use here: leases of its limits and budgets, as plain numbers.

Stands between the step `admit`, which takes from it for each request, and the lease book, which tells Redis what
was used and brings more. Pure: told the time, it touches no clock and no socket. What is not limited is a number
that never runs out, so that a request costs a handful of comparisons and no question whether there is a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from pointsman.contracts.limits import AtSoftMark, Budget, Budgets, Limits
from pointsman.contracts.names import Header
from pointsman.contracts.pricing import NANO, Usage
from pointsman.store.leases import LEASE, Ask, Grant, Money, MoneyGrant, PlacesGrant, Rate, RateGrant

BOUNDLESS = 1 << 62
"""What is not limited; so much that what is taken of it is never missed."""

SPENDABLE = LEASE - 1.0
"""Seconds from when a lease was asked for until nothing more is taken from it here."""

LIMIT_NAMES = (
    "requests_per_minute",
    "tokens_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
)

FIRST_SHARE = 2.0
"""Seconds' worth of its limits that a tenant gets at once where Redis is away."""

_FORGOTTEN = 2 * 86_400
"""Seconds after its end for which Redis keeps a period's money."""


class Need(NamedTuple):
    """What a request uses at most: tokens of prompt and output, and nano-dollars."""

    input: int
    output: int
    nano: int


class Shortage(NamedTuple):
    """What a request lacks: a limit by its name, or money (`daily`, `monthly`); and seconds until there is more."""

    limit: str
    seconds: float
    spent: bool = False
    """Whether it is money, and spent for good."""


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


class Purse:
    """
    One period's money of one tenant, in nano-dollars.

    `free` is leased and set aside for nothing (below 0: what has to come back before anything is spent), `reserved`
    set aside for requests that run, `settled` what requests of this run have cost, `spent` what is known of all
    runs; `ends` is a Unix time. `base` is what the run had settled before this object began to count; None while
    Redis has not said.
    """

    __slots__ = (
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
        "starved",
        "target",
        "told",
        "unit",
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
        self.target = 0
        self.starved = False
        self.unit = 1

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
    def low(self) -> bool:
        """Whether there should be more in stock."""
        return self.hard >= 0 and not self.scarce and 2 * self.free < self.target

    def ask(self, needs: Sequence[int], *, hoards: bool) -> Money:
        """What to tell Redis, and to ask of it for requests that wait and need `needs`."""
        settled = 0 if self.base is None else self.base + self.settled
        self.told = settled
        if self.hard < 0:
            return (-1, settled, 0, 0, 0, 0, 0, self.forgotten_at)
        if self.starved:
            self.target = min(self.hard, max(2 * self.target, 2 * self.unit))
        else:
            self.target -= self.target // 16
        self.starved = False
        target = self.target if hoards and not self.scarce else 0
        keep = _kept(self.free, needs, target)
        self.free = min(self.free, keep)
        first, every, want = _missing(keep, needs, target)
        return self.hard, settled, self.reserved + keep, first, every, want, self.unit, self.forgotten_at

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


class Admission:
    """What was set aside for one request. `reserved`: nano-dollars that it costs at most."""

    __slots__ = ("_allowance", "_day", "_input", "_month", "_output", "_tokens", "reserved")

    def __init__(
        self,
        allowance: Allowance,
        day: Purse,
        month: Purse,
        reserved: int,
        tokens_in: int,
        tokens_out: int,
        tokens: int,
    ) -> None:
        self._allowance = allowance
        self._day = day
        self._month = month
        self.reserved = reserved
        self._input = tokens_in
        self._output = tokens_out
        self._tokens = tokens

    def settle(self, usage: Usage | None, nano: int) -> None:
        """The request has ended, with `usage` (None: nothing was used) at `nano` nano-dollars. Called once."""
        allowance, day, month, reserved = self._allowance, self._day, self._month, self.reserved
        allowance.moved = True
        allowance.running -= 1
        allowance.places += 1
        if usage is None:
            allowance.input += self._input
            allowance.output += self._output
            allowance.tokens += self._tokens
        else:
            tokens_in, tokens_out = usage[0] + usage[1], usage[2] + usage[3]
            allowance.input += self._input - tokens_in
            allowance.output += self._output - tokens_out
            allowance.tokens += self._tokens - tokens_in - tokens_out
        day.reserved -= reserved
        day.free += reserved - nano
        month.reserved -= reserved
        month.free += reserved - nano
        if nano:
            day.settled += nano
            day.spent += nano
            month.settled += nano
            month.spent += nano
            if day.spent >= day.soft or month.spent >= month.soft:
                allowance.soften()
        if allowance.waiting:
            allowance.on_return()


def _nothing() -> None:
    """For an allowance that nobody waits for."""


class Allowance:
    """
    What one tenant may still use here. `requests`, `tokens`, `input`, `output` and `places` are left of its limits;
    below 0 where more was used than was set aside. `waiting` are the requests that wait for a lease.
    """

    def __init__(self, name: str, view: View) -> None:
        self.name = name
        self.view = view
        self.limits: list[int | None] = [None] * 4
        self.most = [BOUNDLESS] * 4
        self.concurrency: int | None = None
        self.held_to = Limits()
        self.budgets = Budgets()
        self.requests = self.tokens = self.input = self.output = self.places = BOUNDLESS
        self.running = 0
        self.deadline = 0.0
        self.begun = self.turn = 0
        self.day = self.month = Purse("", datetime.fromtimestamp(0, UTC))
        self.old: list[Purse] = []
        self.waiting: dict[Waiter, None] = {}
        self.on_return = _nothing
        self.moved = False
        self.moved_at = 0.0
        self.told_at = 0.0
        self.known_at = 0.0
        self.soft = False
        self._known: list[RateGrant | None] = [None] * 4
        self._elsewhere = [0] * 4
        self._known_places: PlacesGrant | None = None
        self.sharers = 1
        self._targets = [0] * 5
        self._starved = [False] * 5
        self._units = [1] * 4
        self._told_tokens: int | None = None
        self._alone_since = [0.0] * 4
        self.priced = False

    def hold_to(self, limits: Limits, budgets: Budgets) -> None:
        """Let `limits` and `budgets` hold from now on; what is held of leases stays."""
        wanted = (
            limits.requests_per_minute,
            limits.tokens_per_minute,
            limits.input_tokens_per_minute,
            limits.output_tokens_per_minute,
        )
        left = [0 if limit is not None else BOUNDLESS for limit in wanted]
        for kind, amount in enumerate(self._left()):
            if (wanted[kind] is None) == (self.limits[kind] is None):
                left[kind] = amount
        self._set_left(left)
        self.limits = list(wanted)
        self.most = [BOUNDLESS if limit is None else limit for limit in wanted]
        if (limits.concurrency is None) != (self.concurrency is None):
            self.places = BOUNDLESS if limits.concurrency is None else 0
        self.concurrency = limits.concurrency
        self.held_to, self.budgets = limits, budgets
        self.day.hold_to(budgets.daily)
        self.month.hold_to(budgets.monthly)
        self._told_tokens = next((kind for kind in (1, 2, 3) if wanted[kind] is not None), None)
        self.priced = self.day.matters or self.month.matters or budgets != Budgets()
        self.deadline = 0.0  # what holds now was never leased
        self.known_at = 0.0
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
        _, most, most_in, most_out = self.most
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
        wanted, left = self._wanted(need), self._left()
        for kind in range(4):
            self._units[kind] = max(1, wanted[kind])
            if self.limits[kind] is not None and left[kind] < wanted[kind]:
                self._starved[kind] = True
        if self.concurrency is not None and self.places < 1:
            self._starved[4] = True
        for purse in (self.day, self.month):
            purse.unit = max(1, need.nano)
            if purse.hard >= 0 and purse.free < need.nano:
                purse.starved = True

    def shortage(self, need: Need, now: float) -> Shortage | None:
        """What there is too little of for `need`, wherever it is held; None where others might give some back."""
        left, wanted = self._left(), self._wanted(need)
        for kind, limit in enumerate(self.limits):
            known = self._known[kind]
            if limit is not None and known is not None:
                level = min(limit, known.level + (now - self.known_at) * limit / 60)
                missing = wanted[kind] - left[kind] - level - known.others
                if missing > 0:
                    return Shortage(LIMIT_NAMES[kind], missing * 60 / limit)
        used = None if self._known_places is None else self._known_places.used
        if self.concurrency is not None and used is not None and self.concurrency - used - self.running < 1:
            return Shortage("concurrency", 1.0)
        for purse, name in ((self.day, "daily"), (self.month, "monthly")):
            if purse.hard >= 0 and purse.base is not None and purse.hard - purse.spent < need.nano:
                return Shortage(name, 0.0, spent=True)
        return None

    def blockage(self, need: Need) -> Shortage:
        """What there is too little of for `need` here, though others may hold some."""
        for kind, amount in enumerate(self._left()):
            if amount < self._wanted(need)[kind]:
                return Shortage(LIMIT_NAMES[kind], 1.0)
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
        for kind, amount in enumerate((*self._left(), self.places)):
            if 2 * amount < self._targets[kind] and amount < BOUNDLESS // 2:
                return True
        return self.day.low or self.month.low

    @property
    def empty(self) -> bool:
        """Whether nothing is held, set aside or untold, so that nobody needs to hear of it."""
        holds = any(0 < amount < BOUNDLESS // 2 for amount in (*self._left(), self.places))
        money = any(purse.matters and (purse.open or _untold(purse)) for purse in (self.day, self.month, *self.old))
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
        wanted = [self._wanted(need) for need in needs]
        rates: list[Rate | None] = []
        left = self._left()
        for kind, limit in enumerate(self.limits):
            if limit is None:
                rates.append(None)
                continue
            of_kind = [each[kind] for each in wanted]
            rate, left[kind] = self._ask_rate(kind, limit, left[kind], of_kind, hoards=hoards)
            rates.append(rate)
        self._set_left(left)
        places = None
        if self.concurrency is not None:
            self._aim(4, self.concurrency, 2)
            target = self._targets[4] if hoards else 0
            ones = [1] * len(needs)
            self.places = keep = _kept(self.places, ones, target)
            places = (self.concurrency, self.running, keep, *_missing(keep, ones, target))
        nanos = [need.nano for need in needs]
        day, month = (
            purse.ask(nanos, hoards=hoards) if purse.matters else None for purse in (self.day, self.month)
        )
        first_rate, second, third, fourth = rates
        all_rates = None if not any(rates) else (first_rate, second, third, fourth)
        ask = Ask(self.name, number, all_rates, places, self.day.period, day, self.month.period, month)
        return Asked(ask, self.day, self.month, (self.day.settled, self.month.settled))

    def asks_of_old(self, number: int) -> list[Asked]:
        """What to tell Redis of periods that are over, with words from this `number` on."""
        self.old = [purse for purse in self.old if purse.matters and (purse.open or _untold(purse))]
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
        left = self._left()
        for kind, rate in enumerate(grant.rates):
            self._known[kind] = rate
            self._elsewhere[kind] = 0 if rate is None else rate.level + rate.others
            if rate is not None and self.limits[kind] is not None:
                left[kind] += rate.given
        self._set_left(left)
        self._known_places = grant.places
        if grant.places is not None and self.concurrency is not None:
            self.places += grant.places.given
        self.sharers = grant.sharers
        self.known_at = sent_at
        self.deadline = sent_at + SPENDABLE
        self._alone_since = [0.0] * 4
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
        left = self._left()
        for kind, limit in enumerate(self.limits):
            if limit is None:
                continue
            since = self._alone_since[kind] or now - FIRST_SHARE
            gained = int(limit * share * min(60.0, now - since) / 60)
            if gained or self._alone_since[kind] == 0.0:
                self._alone_since[kind] = now
            most = max(self._units[kind], int(limit * share))
            left[kind] = max(left[kind], min(left[kind] + gained, most))
        self._set_left(left)
        if self.concurrency is not None:
            self.places = max(1, int(self.concurrency * share)) - self.running

    # -- what the client is told

    def header_lines(self, now: float) -> bytes:
        """The header lines that tell how much is left of the limits, and whether a soft mark was reached."""
        lines, since = b"", now - self.known_at
        limit = self.limits[0]
        if limit is not None:
            lines = _told(_OF_REQUESTS, limit, self.requests + self._elsewhere[0] + since * limit / 60)
        kind = self._told_tokens
        if kind is not None and (limit := self.limits[kind]) is not None:
            left = self.tokens if kind == 1 else self.input if kind == 2 else self.output
            lines += _told(_OF_TOKENS, limit, left + self._elsewhere[kind] + since * limit / 60)
        return lines + _SOFT if self.soft else lines

    # -- within

    def _left(self) -> list[int]:
        return [self.requests, self.tokens, self.input, self.output]

    def _set_left(self, left: Sequence[int]) -> None:
        self.requests, self.tokens, self.input, self.output = left

    def _wanted(self, need: Need) -> tuple[int, int, int, int]:
        _, most, most_in, most_out = self.most
        return 1, min(need.input + need.output, most), min(need.input, most_in), min(need.output, most_out)

    def _aim(self, kind: int, limit: int, least: int) -> None:
        """Choose how much of a kind to have in stock: twice as much as was too little, and slowly less again."""
        target = self._targets[kind]
        self._targets[kind] = min(limit, max(2 * target, least)) if self._starved[kind] else target - target // 16
        self._starved[kind] = False

    def _ask_rate(
        self, kind: int, limit: int, left: int, needs: Sequence[int], *, hoards: bool
    ) -> tuple[Rate, int]:
        """What to ask of a limit by the minute, and what is left of it here meanwhile."""
        unit = self._units[kind]
        self._aim(kind, limit, 2 * unit)
        target = self._targets[kind] if hoards else 0
        keep = _kept(left, needs, target)
        return (limit, keep, left - keep, *_missing(keep, needs, target), unit), keep

    def _turn(self, at: int) -> None:
        """Another day has begun by the calendar, or an earlier one again where the clock was put right."""
        moment = datetime.fromtimestamp(at / 1000, UTC)
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        tomorrow = midnight + timedelta(days=1)
        next_month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        self.begun, self.turn = int(midnight.timestamp() * 1000), int(tomorrow.timestamp() * 1000)
        self.day = self._purse(self.day, midnight.strftime("%Y-%m-%d"), tomorrow, self.budgets.daily)
        self.month = self._purse(self.month, midnight.strftime("%Y-%m"), next_month, self.budgets.monthly)
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
        purse.target, purse.unit = present.target, present.unit
        purse.hold_to(budget)
        return purse


class Waiter(Protocol):
    """A request that waits for a lease."""

    @property
    def need(self) -> Need:
        """What it needs."""

    def look(self, now: float) -> None:
        """Something has changed: go on or give up, where that is clear by now."""


def _kept(left: int, needs: Sequence[int], target: int) -> int:
    """
    How much of what is `left` here is kept; the rest is given back.

    Nothing where requests wait that need more: two routers that each keep a half would wait for each other. It is
    given back and asked for in one step.
    """
    if needs and left < sum(needs):
        return 0
    return max(0, min(left, max(sum(needs), 2 * target)))


def _missing(kept: int, needs: Sequence[int], target: int) -> tuple[int, int, int]:
    """What is missing for the first that waits, for all that do, and beside that for a stock of `target`."""
    every = max(0, sum(needs) - kept)
    return (needs[0] if every else 0), every, max(0, target - kept)


def _untold(purse: Purse) -> bool:
    return purse.settled > 0 and (purse.base is None or purse.base + purse.settled > purse.told)


def _told(template: bytes, limit: int, left: float) -> bytes:
    """The lines that tell of `limit` a minute, of which so many are `left`."""
    whole = 0 if left < 0.0 else limit if left > limit else int(left)
    seconds, thousandths = divmod((limit - whole) * 60_000 // limit, 1000)
    return template % (limit, whole, seconds, thousandths)


_OF_REQUESTS = b"%b: %%d\r\n%b: %%d\r\n%b: %%d.%%03ds\r\n" % (
    Header.LIMIT_REQUESTS.encode(),
    Header.REMAINING_REQUESTS.encode(),
    Header.RESET_REQUESTS.encode(),
)
_OF_TOKENS = b"%b: %%d\r\n%b: %%d\r\n%b: %%d.%%03ds\r\n" % (
    Header.LIMIT_TOKENS.encode(),
    Header.REMAINING_TOKENS.encode(),
    Header.RESET_TOKENS.encode(),
)
_SOFT = b"%b: soft\r\n" % Header.BUDGET.encode()
