"""Who is served next and who is sent away: by priority, fairly between tenants, nobody starved or miscounted."""

from __future__ import annotations

import random
from collections import Counter
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.router.fleet.pool_state import PoolState
from pointsman.router.fleet.waiting_line import TURN, WaitingLine


class Waiting:
    """A request that waits; nobody asks it to do anything here."""

    def __init__(self, tenant: str, tokens: int = 100, priority: int = 5, weight: float = 1.0) -> None:
        self.tenant = tenant
        self.tokens = tokens
        self.priority = priority
        self.weight = weight

    def try_again(self, state: PoolState) -> bool:
        raise AssertionError("the line only orders")

    def pushed_out(self, state: PoolState) -> None:
        raise AssertionError("the line only names")

    moved = pushed_out


def served(line: WaitingLine, count: int) -> list[Any]:
    """The next `count`, who leave the line as they are served."""
    found = []
    for _ in range(count):
        waiter = line.first()
        line.serve(waiter)
        found.append(waiter)
    return found


def flood(line: WaitingLine, tenant: str, count: int = 1000, **fields: Any) -> None:
    for _ in range(count):
        line.join(Waiting(tenant, **fields))


def test_one_tenant_is_served_in_turn() -> None:
    line = WaitingLine()
    waiters = [Waiting("a", tokens=random.Random(number).randrange(1, 5000)) for number in range(100)]
    for waiter in waiters:
        line.join(waiter)
    assert served(line, 100) == waiters
    assert len(line) == 0


def test_what_is_shared_is_tokens_by_weight() -> None:
    line = WaitingLine()
    flood(line, "heavy", tokens=1000, weight=1.0)
    flood(line, "light", tokens=100, weight=1.0)
    flood(line, "favoured", tokens=100, weight=3.0)
    tokens: Counter[str] = Counter()
    for waiter in served(line, 600):
        tokens[waiter.tenant] += waiter.tokens
    assert abs(tokens["heavy"] - tokens["light"]) <= 2000
    assert abs(tokens["favoured"] - 3 * tokens["light"]) <= 2000


def test_a_newcomer_waits_for_no_ones_queue() -> None:
    line = WaitingLine()
    flood(line, "flooding")
    served(line, 50)
    late = Waiting("late", tokens=5000)
    line.join(late)
    assert late in served(line, 2)


def test_who_comes_back_has_saved_up_nothing_and_forgotten_no_debt() -> None:
    line = WaitingLine()
    flood(line, "steady")
    dear = Waiting("other", tokens=1000)
    line.join(dear)
    assert dear in served(line, 2)
    line.join(Waiting("other", tokens=100))  # it has had ten times as much as the other one's requests cost
    assert [waiter.tenant for waiter in served(line, 9)] == ["steady"] * 9
    assert "other" in [waiter.tenant for waiter in served(line, 2)]
    served(line, 100)  # away meanwhile
    flood(line, "other", 50)
    assert Counter(waiter.tenant for waiter in served(line, 40))["other"] in (20, 21)


def test_who_leaves_has_paid_nothing() -> None:
    line = WaitingLine()
    flood(line, "steady")
    served(line, 10)
    leaving = [Waiting("leaving", tokens=100_000) for _ in range(20)]
    for waiter in leaving:
        line.join(waiter)
    for waiter in leaving:
        assert line.leave(waiter)
        assert not line.leave(waiter)
    stays = Waiting("leaving")
    line.join(stays)
    assert stays in served(line, 2)


def test_a_higher_priority_goes_first_and_a_lower_one_gets_its_turn() -> None:
    line = WaitingLine()
    flood(line, "low", priority=1)
    flood(line, "middle", priority=4)
    flood(line, "high", priority=9)
    got = Counter(waiter.tenant for waiter in served(line, 960))
    assert got["high"] == 960 - got["middle"] - got["low"]
    assert got["low"] == got["middle"] == pytest.approx(960 / TURN, abs=4)
    first = [waiter.tenant for waiter in served(line, TURN)]
    assert first.count("high") >= TURN - 2


def test_one_whose_replica_failed_goes_before_any_priority() -> None:
    line = WaitingLine()
    flood(line, "high", 5, priority=9)
    failed = [Waiting("low", priority=0) for _ in range(2)]
    for waiter in failed:
        line.join(waiter, urgent=True)
    assert served(line, 2) == failed
    line.join(failed[0], urgent=True)
    assert line.leave(failed[0])
    assert line.first().tenant == "high"


# -- who has to go


def test_the_lowest_priority_goes_first_and_there_the_latest() -> None:
    line = WaitingLine()
    early, late = Waiting("low", priority=2), Waiting("low", priority=2)
    for waiter in (Waiting("high", priority=6), early, late):
        line.join(waiter)
    assert line.least(Waiting("middle", priority=4), 3) is late
    assert line.least(Waiting("lower", priority=1), 3) is None
    assert line.least(Waiting("low", priority=2), 3) is None


def test_of_one_priority_the_tenant_goes_that_takes_most_for_its_weight() -> None:
    line = WaitingLine()
    flood(line, "favoured", 40, weight=10.0)
    flood(line, "many", 20)
    flood(line, "few", 3)
    least = line.least(Waiting("new"), 63)
    assert least is not None
    assert least.tenant == "many"
    assert line.least(Waiting("many"), 63) is None
    for _ in range(10):
        least = line.least(Waiting("new"), 63)
        assert least is not None
        line.leave(least)
        line.join(Waiting("new"))
    assert line.least(Waiting("new"), 63) is None, "it has as many seats as anybody now"


def test_no_priority_fills_every_seat() -> None:
    line = WaitingLine()
    seats = 10 * TURN
    flood(line, "high", seats, priority=9)
    for _ in range(10):
        least = line.least(Waiting("low", priority=0), seats)
        assert least is not None
        assert least.tenant == "high"
        line.leave(least)
        line.join(Waiting("low", priority=0))
    assert line.least(Waiting("low", priority=0), seats) is None
    assert line.least(Waiting("higher", priority=9), seats).tenant == "high"  # type: ignore[union-attr]


def test_who_waits_with_failed_ones_alone_pushes_nobody_out() -> None:
    line = WaitingLine()
    line.join(Waiting("failed"), urgent=True)
    assert line.least(Waiting("high", priority=9), 1) is None
    assert WaitingLine().least(Waiting("any"), 0) is None


# -- against the plain reading of the rules


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["join", "join", "join", "serve", "leave", "shed"]),
        st.integers(0, 5),
        st.integers(0, 2),
        st.integers(1, 3000),
    ),
    max_size=200,
)


@given(events=EVENTS, seats=st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_nobody_is_lost_and_every_share_is_fair(events: list[tuple[str, int, int, int]], seats: int) -> None:
    line = WaitingLine()
    waiting: list[Waiting] = []
    passed: Counter[int] = Counter()
    for what, number, level, tokens in events:
        newcomer = Waiting(f"t{number}", tokens, priority=level, weight=(0.5, 1.0, 4.0)[number % 3])
        if what == "join":
            line.join(newcomer)
            waiting.append(newcomer)
        elif what == "leave" and waiting:
            gone = waiting.pop(tokens % len(waiting))
            assert line.leave(gone)
        elif what == "serve" and waiting:
            first = line.first()
            highest = max(waiter.priority for waiter in waiting)
            assert first.priority == highest or passed[first.priority] >= TURN - 1
            line.serve(first)
            for priority in range(3):
                passed[priority] += priority < first.priority
            passed[first.priority] = 0
            older = waiting[: waiting.index(first)]  # type: ignore[arg-type]
            assert not any((one.tenant, one.priority) == (first.tenant, first.priority) for one in older)
            waiting.remove(first)  # type: ignore[arg-type]
        elif what == "shed" and waiting:
            least = line.least(newcomer, seats)
            assert least is None or least in waiting
            counts = Counter(waiter.priority for waiter in waiting)
            counts[level] += 1
            kept = seats // TURN
            lowest = next((priority for priority in range(3) if counts[priority] > kept), None)
            if least is None:
                assert lowest in (level, None)
            else:
                assert least.priority == lowest
                held = Counter(waiter.tenant for waiter in waiting if waiter.priority == lowest)
                weights = {waiter.tenant: waiter.weight for waiter in waiting}
                assert held[least.tenant] / weights[least.tenant] == max(
                    held[tenant] / weights[tenant] for tenant in held
                )
                line.leave(least)
                waiting.remove(least)  # type: ignore[arg-type]
        for priority in range(3):
            if not any(waiter.priority == priority for waiter in waiting):
                passed[priority] = 0
        assert len(line) == len(waiting)
    assert sorted(map(id, served(line, len(waiting)))) == sorted(map(id, waiting))


@given(
    costs=st.lists(st.lists(st.integers(1, 2000), min_size=60, max_size=60), min_size=2, max_size=5),
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 8.0]), min_size=5, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_two_that_wait_all_the_time_never_drift_apart(costs: list[list[int]], weights: list[float]) -> None:
    """The bound of start-time fair queueing: a largest request of either, each by its own weight."""
    line = WaitingLine()
    for number, requests in enumerate(costs):
        for tokens in requests:
            line.join(Waiting(str(number), tokens, weight=weights[number]))
    had = [0.0] * len(costs)
    left = [60] * len(costs)
    while all(left):
        waiter = line.first()
        line.serve(waiter)
        number = int(waiter.tenant)
        had[number] += waiter.tokens / weights[number]
        left[number] -= 1
        for one, share in enumerate(had):
            for other, more in enumerate(had):
                bound = max(costs[one]) / weights[one] + max(costs[other]) / weights[other]
                assert abs(share - more) <= bound + 1e-6


def test_it_costs_little_however_many_wait_and_forgets_those_that_left() -> None:
    line = WaitingLine()
    for number in range(20_000):
        line.join(Waiting(f"t{number % 5000}"))
    began = process_time()
    for number in range(20_000):
        waiter = line.first()
        line.serve(waiter)
        least = line.least(Waiting("new"), 20_000)
        assert least is not None
        line.leave(least)
        line.join(Waiting(f"u{number}"))
        line.join(Waiting(f"u{number}"))
    assert process_time() - began < 3.0
    (rank,) = line._ranks
    assert len(rank.flows) < 60_000
    assert len(rank.crowd) < 200_000
