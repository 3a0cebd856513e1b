"""What is left of a tenant's limits here: whatever is leased, lost or told late, no more is spent than there is."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pointsman.contracts.limits import Budgets, Limits
from pointsman.contracts.pricing import Usage
from pointsman.router.admission.allowance import Allowance, Asked
from pointsman.router.admission.lease_book import SLOW, TELL, TICK
from pointsman.router.admission.reservation import Admission
from pointsman.router.admission.stock import BOUNDLESS, Need, Shortage
from pointsman.store.leases import Ask, Grant, MoneyGrant, PlacesGrant, RateGrant
from support.leasing import View

HARD = 1000
"""Nano-dollars of the budget."""
DAY = 86_400_000
AT = 20_000 * DAY
BUDGETS = Budgets.model_validate({"daily": {"hard_usd": "0.000001"}})


def allowance(limits: Limits | None = None, budgets: Budgets | None = None) -> Allowance:
    view = View("t", limits or Limits(), budgets or Budgets())
    made = Allowance("t", view)
    made.hold_to(view.limits, view.budgets)
    return made


@dataclass
class Redis:
    """One budget, as the script in `store/leases.py` keeps it."""

    settled: dict[int, int] = field(default_factory=dict)
    leased: dict[int, int] = field(default_factory=dict)
    heard: dict[int, int] = field(default_factory=dict)

    def hear(self, run: int, ask: Ask) -> Grant | None:
        assert ask.day is not None
        hard, settled, held, first, every, want, _, _ = ask.day
        if self.heard.get(run, 0) >= ask.number:
            return None
        self.heard[run] = ask.number
        self.settled[run] = max(settled, self.settled.get(run, 0))
        others = sum(amount for other, amount in self.leased.items() if other != run)
        left = hard - sum(self.settled.values()) - others - held
        given = 0 if left < first or left <= 0 else min(left, every + want)
        self.leased[run] = held + given
        money = MoneyGrant(given, sum(self.settled.values()), others, self.settled[run], scarce=left - given < 100)
        return Grant((), None, 1, money, None)


class Leasing(RuleBasedStateMachine):
    """Three runs; words get lost, answers get lost, and words arrive late."""

    @initialize()
    def begin(self) -> None:
        self.redis = Redis()
        self.runs = [allowance(budgets=BUDGETS) for _ in range(3)]
        self.running: list[tuple[Admission, int]] = []
        self.late: list[tuple[int, Ask]] = []
        self.number = 0
        self.spent = 0

    @rule(run=st.integers(0, 2), nano=st.integers(0, 400))
    def request(self, run: int, nano: int) -> None:
        admission = self.runs[run].grab(Need(1, 1, nano), AT)
        if admission is not None:
            self.running.append((admission, nano))
        else:
            self.runs[run].starve(Need(1, 1, nano))

    @rule(which=st.integers(0, 99), share=st.floats(0, 1))
    def end(self, which: int, share: float) -> None:
        if self.running:
            admission, most = self.running.pop(which % len(self.running))
            self.spent += int(most * share)
            admission.settle(Usage(answer=1), int(most * share))

    @rule(run=st.integers(0, 2), hoards=st.booleans())
    def exchange(self, run: int, hoards: bool) -> None:
        asked = self.ask(run, hoards=hoards)
        grant = self.redis.hear(run, asked.ask)
        assert grant is not None
        self.runs[run].granted(grant, asked, 0.0)

    @rule(run=st.integers(0, 2), between=st.integers(0, 3), nano=st.integers(0, 200))
    def exchange_while_requests_come_and_go(self, run: int, between: int, nano: int) -> None:
        asked = self.ask(run, hoards=True)
        grant = self.redis.hear(run, asked.ask)
        assert grant is not None
        for _ in range(between):
            self.request(run, nano)
            self.end(run, 0.5)
        self.runs[run].granted(grant, asked, 0.0)

    @rule(run=st.integers(0, 2), heard=st.booleans(), late=st.booleans())
    def lose(self, run: int, heard: bool, late: bool) -> None:
        asked = self.ask(run, hoards=True)
        if heard:
            self.redis.hear(run, asked.ask)
        elif late:
            self.late.append((run, asked.ask))
        self.runs[run].unheard(asked)

    @rule()
    def hear_late(self) -> None:
        while self.late:
            self.redis.hear(*self.late.pop())

    def ask(self, run: int, *, hoards: bool) -> Asked:
        self.number += 1
        return self.runs[run].ask(self.number, AT, 0.0, hoards=hoards)

    @invariant()
    def nobody_spends_more_than_there_is(self) -> None:
        if not hasattr(self, "runs"):
            return
        promised = self.spent + sum(admission.reserved for admission, _ in self.running)
        assert promised <= HARD
        assert promised + sum(run.day.free for run in self.runs if run.begun) <= HARD
        for run, here in enumerate(self.runs):
            if here.begun:
                told = self.redis.settled.get(run, 0)
                assert here.day.reserved + here.day.free <= self.redis.leased.get(run, 0) + told - here.day.settled


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_what_is_not_limited_costs_no_question_and_never_runs_out() -> None:
    free = allowance(Limits(requests_per_minute=1))
    free.requests = 5
    admission = free.grab(Need(10**9, 10**9, 0), AT)
    assert admission is not None
    admission.settle(Usage(input=10**9, answer=10**9), 10**15)
    assert min(free.tokens, free.input, free.output, free.places) > BOUNDLESS // 2
    assert not free.priced


def test_a_request_larger_than_the_whole_limit_takes_all_of_it_and_what_it_used_more_is_owed() -> None:
    here = allowance(Limits(tokens_per_minute=100))
    asked = here.ask(1, AT, 0.0, hoards=True)
    here.granted(Grant((None, RateGrant(99, 0, 0), None, None), None, 1, None, None), asked, 0.0)
    assert here.grab(Need(500, 500, 0), AT) is None
    here.tokens += 1
    admission = here.grab(Need(500, 500, 0), AT)
    assert admission is not None
    admission.settle(Usage(input=70, answer=80), 0)
    assert here.tokens == -50
    rates = here.ask(2, AT, 1.0, hoards=True).ask.rates
    assert rates is not None
    assert rates[1] is not None
    assert rates[1][1:3] == (0, -50)  # nothing is kept, and the bucket is told what it is owed


def test_what_is_missing_is_named_with_the_time_until_it_is_there() -> None:
    here = allowance(Limits(requests_per_minute=60, output_tokens_per_minute=600, concurrency=2), BUDGETS)
    asked = here.ask(1, AT, 0.0, hoards=True)
    rates = (RateGrant(0, 3, 0), None, None, RateGrant(0, 100, 50))
    money = MoneyGrant(0, 900, 100, 0, scarce=True)
    here.granted(Grant(rates, PlacesGrant(1, 1, 1), 2, money, None), asked, 0.0)
    assert here.shortage(Need(0, 120, 100), 0.0) is None  # others may give some back
    assert here.shortage(Need(0, 200, 100), 0.0) == Shortage("output_tokens_per_minute", 5.0)
    assert here.shortage(Need(0, 200, 100), 5.0) is None
    assert here.shortage(Need(0, 1, 101), 0.0) == Shortage("daily", 0.0, spent=True)
    here.requests = 1
    here.output = 10
    here.day.free = 50
    assert here.grab(Need(0, 1, 1), AT) is not None
    assert here.shortage(Need(0, 1, 1), 0.0) == Shortage("concurrency", 1.0)


def test_a_day_ends_with_its_requests_in_it_and_a_clock_that_goes_back_finds_it_again() -> None:
    here = allowance(budgets=BUDGETS)

    def lease(number: int, at: int) -> None:
        asked = here.ask(number, at, 0.0, hoards=True)
        money = MoneyGrant(100, 0, 0, 0, scarce=False)
        here.granted(Grant((), None, 1, money, None), asked, 0.0)

    lease(1, AT)
    yesterday = here.grab(Need(1, 1, 60), AT + DAY - 1)
    assert yesterday is not None
    assert here.grab(Need(1, 1, 10), AT + DAY) is None  # nothing was leased of that day
    lease(2, AT + DAY)
    today = here.grab(Need(1, 1, 70), AT + DAY)
    assert today is not None
    yesterday.settle(None, 55)
    (of_yesterday,) = here.asks_of_old(3)
    assert of_yesterday.ask.day_period < here.day.period
    assert of_yesterday.ask.day is not None
    assert of_yesterday.ask.day[1:3] == (55, 0)
    assert (here.day.reserved, here.day.settled) == (70, 0)
    again = here.grab(Need(1, 1, 0), AT)
    assert again is not None
    assert here.day.settled == 55
    today.settle(None, 70)
    assert here.day.settled == 55


@pytest.mark.parametrize(("spent", "soft"), [(499, False), (500, True)])
def test_a_soft_mark_is_reached_by_what_others_spend_as_well(spent: int, soft: bool) -> None:
    marks = Budgets.model_validate({"monthly": {"soft_usd": "0.0000005"}, "at_soft_mark": "degrade"})
    here = allowance(budgets=marks)
    asked = here.ask(1, AT, 0.0, hoards=True)
    here.granted(Grant((), None, 1, None, MoneyGrant(0, spent, 0, 0, scarce=False)), asked, 0.0)
    assert here.view.degraded is soft
    assert (b"x-pointsman-budget: soft\r\n" in here.header_lines(0.0)) is soft


@pytest.mark.parametrize("pace", [20, 320, 3000])
@pytest.mark.parametrize("silent_after", [10.0, 10.3, 10.6, 10.9])
def test_a_stock_outlasts_the_time_until_redis_is_known_to_be_away(pace: int, silent_after: float) -> None:
    """Asked as the lease book asks; else all that come in that time would wait for a Redis that does not answer."""
    one = allowance(Limits(requests_per_minute=600_000, tokens_per_minute=600_000_000))
    need, used = Need(400, 256, 0), Usage(100, 0, 0, 8)
    number, looked_at, requests, now = 0, 0.0, 0, 0.0
    sent_at: float | None = None  # a word that is not answered
    while sent_at is None or now < sent_at + SLOW:
        requests += 1
        now = requests / pace
        admission = one.take(need, AT, now)
        short = admission is None
        if short:
            assert now < silent_after, f"nothing is left {now - silent_after:.2f} s after Redis fell silent"
            one.starve(need)
        due = now >= looked_at + TICK and (one.low or now - one.told_at >= TELL)
        if sent_at is None and (short or due):
            looked_at = now
            number += 1
            asked = one.ask(number, AT, now, hoards=True)
            if now >= silent_after:
                sent_at = now
                continue
            rates = asked.ask.rates
            assert rates is not None
            given = [None if rate is None else RateGrant(rate[4] + rate[5], 1 << 40, 0) for rate in rates]
            one.granted(Grant(tuple(given), None, 1, None, None), asked, now)
            admission = admission or one.grab(need, AT)
        if admission is not None:
            admission.settle(used, 0)
