"""Another threshold on decisions that were made: which change, and what that is taken to cost and last."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.contracts.decisions import Decision
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.policies import Policy, Trigger
from pointsman.router.admin.simulation import ENOUGH, simulate

PLAIN = Policy()


def decision(probability: float | None, mode: Mode | None = None, **fields: Any) -> Decision:
    """A decision by the predictor at threshold 0.5, unless `fields` say otherwise."""
    think = probability is not None and probability >= 0.5
    usual: dict[str, Any] = {
        "id": f"dec-{0:032x}",
        "request_id": "r",
        "at": 1000.0,
        "tenant": "t",
        "key": "0" * 8,
        "model": "m",
        "endpoint": "/v1/chat/completions",
        "mode": mode or (Mode.THINK if think else Mode.NO_THINK),
        "source": Source.PREDICTOR,
        "detail": "threshold",
        "probability": probability,
        "threshold": 0.5,
        "predictor": "v",
        "status": 200,
        "cost": 100,
        "other_mode_cost_estimated": 7,
        "duration": 2.0,
    }
    return Decision(**{**usual, **fields})


@pytest.mark.parametrize(
    ("made", "threshold", "policy", "changed"),
    [
        (decision(0.4), 0.3, PLAIN, "to_think"),
        (decision(0.4), 0.4, PLAIN, "to_think"),
        (decision(0.4), 0.41, PLAIN, None),
        (decision(0.6), 0.61, PLAIN, "to_no_think"),
        (decision(0.6), 0.5, PLAIN, None),
        (decision(0.6, Mode.NO_THINK, source=Source.CLIENT), 0.1, PLAIN, "client"),
        (decision(0.6, Mode.NO_THINK, source=Source.POLICY), 0.1, PLAIN, "policy"),
        (decision(0.6, Mode.NO_THINK, source=Source.BUDGET), 0.1, PLAIN, "budget"),
        (decision(None, Mode.THINK, source=Source.DEFAULT), 0.9, PLAIN, "default"),
        (
            decision(0.4, rule="r"),
            0.1,
            Policy.model_validate({"rules": [{"name": "r", "threshold": 0.5}]}),
            "rule",
        ),
        (
            decision(0.4, rule="r"),
            0.1,
            Policy.model_validate({"rules": [{"name": "r", "default_mode": "think"}]}),
            "to_think",
        ),
        (decision(0.4, arm="candidate"), 0.1, PLAIN, "candidate"),
    ],
)
def test_what_a_threshold_changes(made: Decision, threshold: float, policy: Policy, changed: str | None) -> None:
    told = simulate([made], threshold, policy)
    assert (told.to_think, told.to_no_think) == (changed == "to_think", changed == "to_no_think")
    assert told.untouched == ({} if changed in (None, "to_think", "to_no_think") else {changed: 1})


def test_where_load_had_raised_it_load_still_does() -> None:
    policy = Policy.model_validate({"threshold": 0.5, "saturation": {"highest_threshold": 0.9}})
    held_back = decision(0.6, Mode.NO_THINK, source=Source.SATURATION, threshold=0.8)
    let_through = decision(0.85, threshold=0.8)
    told = simulate([held_back, let_through], 0.2, policy)
    assert (told.to_think, told.to_no_think, told.untouched) == (0, 0, {"saturation": 1})
    assert simulate([let_through], 0.86, policy).to_no_think == 1


def test_costs_are_of_those_that_are_known_in_both_modes() -> None:
    made = [
        decision(0.9, cost=100, other_mode_cost_estimated=7),
        decision(0.9, cost=50, other_mode_cost_estimated=None),
        decision(0.1, cost=3),
        decision(0.1, cost=None),
    ]
    told = simulate(made, 0.95, PLAIN)
    assert (told.thinking, told.thinking_simulated, told.to_no_think) == (2, 0, 2)
    assert (told.priced, told.cost, told.cost_simulated) == (2, 103, 10)


def test_one_that_was_escalated_is_no_measure_of_the_other_mode() -> None:
    escalated = decision(0.4, Mode.THINK, escalated=Trigger.EMPTY, cost=120)
    told = simulate([escalated], 0.3, PLAIN)
    assert (told.thinking, told.to_think, told.priced) == (0, 1, 0)
    told = simulate([escalated], 0.5, PLAIN)
    assert (told.priced, told.cost_simulated) == (1, 120)


def test_times_are_the_usual_ones_of_the_other_mode_once_there_are_enough() -> None:
    made = [decision(0.9, duration=10.0), *(decision(0.1, duration=2.0) for _ in range(ENOUGH))]
    told = simulate(made, 0.95, PLAIN)
    assert told.timed == ENOUGH + 1
    assert (told.seconds, told.seconds_simulated) == (pytest.approx((10 + 2 * ENOUGH) / (ENOUGH + 1)), 2.0)
    few = simulate(made[:-1], 0.95, PLAIN)
    assert (few.timed, few.seconds, few.seconds_simulated) == (ENOUGH - 1, 2.0, 2.0)
    failed = simulate([*made, decision(0.1, status=502, duration=99.0)], 0.95, PLAIN)
    assert failed.seconds_simulated == 2.0


def test_no_decisions_are_no_figures() -> None:
    told = simulate([], 0.5, PLAIN)
    assert (told.decisions, told.oldest, told.seconds, told.seconds_simulated) == (0, None, None, None)
