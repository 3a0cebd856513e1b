"""The circuit breaker: what opens it, for how long, and what closes it again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.fleet.breaker import (
    CONNECT,
    IN_A_ROW,
    JITTER,
    LONGEST_REST,
    REFUSED,
    SHORTEST_REST,
    WINDOW,
    WINDOW_FAILURES,
    Breaker,
    Circuit,
)

KINDS = ("timeout", "closed", "garbage", REFUSED)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(random.Random(1))
    assert breaker.failed(CONNECT, now)
    return breaker


def test_one_refused_connection_opens_it() -> None:
    assert opened().state is Circuit.OPEN


@pytest.mark.parametrize("kind", KINDS)
def test_one_failure_of_another_kind_does_not(kind: str) -> None:
    breaker = Breaker()
    assert not breaker.failed(kind, 0.0)
    assert breaker.state is Circuit.CLOSED


def test_some_in_a_row_do_and_a_success_between_them_prevents_it() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(IN_A_ROW - 1):
            assert not breaker.failed("timeout", 0.0)
        for _ in range(2 * IN_A_ROW):
            breaker.succeeded()
    for number in range(IN_A_ROW):
        assert breaker.failed("timeout", 0.0) == (number == IN_A_ROW - 1)


def test_errors_of_the_engine_count_by_their_share_alone() -> None:
    breaker = Breaker()
    for number in range(WINDOW_FAILURES):
        assert breaker.failed(REFUSED, 0.0) == (number == WINDOW_FAILURES - 1)


def test_streams_that_begin_and_break_open_it() -> None:
    breaker = Breaker()
    for number in range(WINDOW_FAILURES):
        breaker.succeeded()  # the first bytes came
        assert breaker.failed("closed", 0.1 * number) == (number == WINDOW_FAILURES - 1)


def test_failures_among_many_successes_or_long_ago_do_not_count() -> None:
    breaker = Breaker()
    for second in range(100):
        for _ in range(20):
            breaker.succeeded()
        assert not breaker.failed("garbage", float(second))
    breaker = Breaker()
    for number in range(50):
        assert not breaker.failed(REFUSED, number * (WINDOW / 3))


def test_where_too_many_rest_already_only_a_refused_connection_opens_it() -> None:
    breaker = Breaker()
    for _ in range(50):
        assert not breaker.failed("timeout", 0.0, may_open=False)
    assert breaker.failed(CONNECT, 0.0, may_open=False)


def test_the_health_endpoint_opens_the_door_by_half_and_a_request_decides() -> None:
    breaker = opened()
    assert not breaker.health_told(True, breaker.open_until - 0.01)
    assert breaker.state is Circuit.OPEN
    assert breaker.health_told(True, breaker.open_until)
    assert breaker.state is Circuit.HALF_OPEN
    assert breaker.succeeded()
    assert breaker.state is Circuit.CLOSED


@pytest.mark.parametrize("kind", [CONNECT, *KINDS])
def test_a_failed_trial_opens_it_again(kind: str) -> None:
    breaker = opened()
    breaker.health_told(True, breaker.open_until)
    assert breaker.failed(kind, breaker.open_until)
    assert breaker.state is Circuit.OPEN


def test_the_only_replica_is_used_again_once_it_can_be_connected_to() -> None:
    breaker = opened()
    breaker.health_told(True, breaker.open_until)
    assert breaker.failed("timeout", breaker.open_until, may_open=False)
    assert breaker.state is Circuit.CLOSED


def test_an_older_requests_success_does_not_close_it() -> None:
    breaker = opened()
    assert not breaker.succeeded()
    assert breaker.state is Circuit.OPEN


def test_rests_double_up_to_a_bound_and_begin_anew_after_success() -> None:
    breaker = opened()
    rests, now = [], 0.0
    for _ in range(8):
        rests.append(breaker.open_until - now)
        now = breaker.open_until
        assert not breaker.health_told(False, now)
    expected = SHORTEST_REST
    for rest in rests:
        assert expected * (1 - JITTER) <= rest <= expected * (1 + JITTER)
        expected = min(2 * expected, LONGEST_REST)
    assert len({round(rest / LONGEST_REST, 6) for rest in rests[4:]}) == len(rests[4:])  # never in step
    breaker.health_told(True, breaker.open_until)
    breaker.succeeded()
    breaker.failed(CONNECT, now)
    assert breaker.open_until - now <= SHORTEST_REST * (1 + JITTER)


EVENTS = st.sampled_from([*KINDS, CONNECT, "ok", "healthy", "sick"])


@given(events=st.lists(st.tuples(EVENTS, st.floats(0, 20)), max_size=80), may_open=st.booleans())
def test_it_never_rests_longer_than_it_may_and_always_finds_a_way_back(
    events: list[tuple[str, float]], may_open: bool
) -> None:
    breaker = Breaker(random.Random(0))
    now = 100.0
    for event, later in events:
        now += later
        before = breaker.state
        if event == "ok":
            changed = breaker.succeeded()
        elif event in ("healthy", "sick"):
            breaker.health_told(event == "healthy", now)
            changed = breaker.state is not before
        else:
            changed = breaker.failed(event, now, may_open=may_open)
        assert changed == (breaker.state is not before)
        if breaker.state is Circuit.OPEN:
            assert breaker.open_until <= now + LONGEST_REST * (1 + JITTER)
    if breaker.state is Circuit.OPEN:
        assert breaker.health_told(True, breaker.open_until)
    if breaker.state is Circuit.HALF_OPEN:
        assert breaker.succeeded()
    assert breaker.state is Circuit.CLOSED
