"""The fault plan: what was ordered strikes, in order, exactly as often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pointsman.serving.simulated.faults import Fault, FaultKind, FaultPlan, Order


def order(**fields: object) -> Order:
    return Order.model_validate(fields)


def drawn(plan: FaultPlan, times: int) -> list[str | None]:
    return [fault.kind.value if (fault := plan.take()) else None for _ in range(times)]


def test_a_plan_without_orders_strikes_nobody() -> None:
    assert drawn(FaultPlan(), 100) == [None] * 100


@given(st.lists(st.tuples(st.sampled_from(FaultKind), st.integers(1, 4)), max_size=5))
def test_ordered_faults_strike_the_next_requests_in_order(faults: list[tuple[FaultKind, int]]) -> None:
    plan = FaultPlan()
    plan.order(order(next=[{"kind": kind, "times": times} for kind, times in faults]))
    expected = [kind.value for kind, times in faults for _ in range(times)]
    assert drawn(plan, len(expected) + 2) == [*expected, None, None]


def test_an_order_keeps_its_details() -> None:
    plan = FaultPlan()
    plan.order(order(next=[{"kind": "error", "status": 503}, {"kind": "hang", "seconds": 0.5}]))
    assert plan.take() == Fault(kind=FaultKind.ERROR, status=503)
    assert plan.take() == Fault(kind=FaultKind.HANG, seconds=0.5)


def test_without_a_number_a_fault_strikes_until_the_plan_is_cleared() -> None:
    plan = FaultPlan()
    plan.order(order(next=[{"kind": "die", "times": None}], healthy=False))
    assert drawn(plan, 50) == ["die"] * 50
    plan.clear()
    assert drawn(plan, 50) == [None] * 50
    assert plan.healthy


def test_rates_are_drawn_alike_from_the_same_seed() -> None:
    rates = {FaultKind.ERROR: 0.2, FaultKind.DIE: 0.1}
    first, again, other = (drawn(FaultPlan(rates, seed=seed), 2000) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert 300 < first.count("error") < 500
    assert 130 < first.count("die") < 270


def test_a_seed_starts_the_draw_anew() -> None:
    plan = FaultPlan({FaultKind.SLOW: 0.5}, seed=3)
    first = drawn(plan, 50)
    plan.order(order(seed=3))
    assert drawn(plan, 50) == first


def test_an_ordered_fault_does_not_use_up_a_draw() -> None:
    plan = FaultPlan({FaultKind.SLOW: 0.5}, seed=3)
    expected = drawn(FaultPlan({FaultKind.SLOW: 0.5}, seed=3), 20)
    plan.order(order(next=[{"kind": "die"}]))
    assert drawn(plan, 21) == ["die", *expected]


def test_rates_above_one_are_refused_and_change_nothing() -> None:
    plan = FaultPlan()
    with pytest.raises(ValueError, match="above 1"):
        plan.order(order(next=[{"kind": "die"}], rates={"error": 0.7, "die": 0.7}, healthy=False))
    assert plan.state() == {"next": [], "rates": {}, "healthy": True}


@pytest.mark.parametrize(
    "wrong",
    [{"next": [{"kind": "explode"}]}, {"next": [{"kind": "die", "times": 0}]}, {"rates": {"die": 2}}, {"nxt": []}],
)
def test_orders_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        order(**wrong)
