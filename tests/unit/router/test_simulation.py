"""Another threshold on decisions that were made: which change, and what that is taken to cost and last."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.decisions import Decision
from pointsman.contracts.modes import HYSTERESIS, Mode, Source
from pointsman.contracts.policies import Policy, Trigger
from pointsman.router.admin.simulation import BINS, ENOUGH, simulate, sweep

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
        (decision(0.4, Mode.THINK, detail=HYSTERESIS, threshold=0.3), 0.1, PLAIN, "hysteresis"),
    ],
)
def test_what_a_threshold_changes(made: Decision, threshold: float, policy: Policy, changed: str | None) -> None:
    told = simulate([made], threshold, policy)
    assert (told.to_think, told.to_no_think) == (changed == "to_think", changed == "to_no_think")
    assert told.untouched == ({} if changed in (None, "to_think", "to_no_think") else {changed: 1})


def test_who_judged_is_told_of_decisions_that_were_judged() -> None:
    made = [decision(0.4), decision(0.6, predictor="w"), decision(0.7, predictor="w"), decision(None)]
    assert simulate(made, 0.5, PLAIN).predictors == {"v": 1, "w": 2}


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


def made_of(drawn: tuple[Any, ...]) -> Decision:
    probability, mode, source, threshold, escalated, cost, other, model, status, duration, arm = drawn
    return decision(
        probability,
        Mode.THINK if escalated else mode,
        source=source,
        threshold=threshold,
        escalated=escalated,
        cost=cost,
        other_mode_cost_estimated=other,
        model=model,
        status=status,
        duration=duration,
        arm=arm,
    )


GRID = [0.0, 0.3, 0.5, 0.55, 0.8, 1.0]
DECISIONS = st.lists(
    st.tuples(
        st.sampled_from([None, *GRID]),
        st.sampled_from(Mode),
        st.sampled_from([Source.PREDICTOR, Source.SATURATION, Source.CLIENT]),
        st.sampled_from([0.5, 0.6, 0.9]),
        st.sampled_from([None, None, Trigger.EMPTY]),
        st.sampled_from([None, 100, 3]),
        st.sampled_from([None, 40, 5]),
        st.sampled_from(["m", "n"]),
        st.sampled_from([200, 200, 502]),
        st.sampled_from([0.5, 2.0]),
        st.sampled_from(["present", "present", "present", "candidate"]),
    ).map(made_of),
    max_size=40,
)


@given(made=DECISIONS, saturated=st.booleans())
def test_a_sweep_is_one_simulation_after_another(made: list[Decision], saturated: bool) -> None:
    policy = Policy.model_validate({"saturation": {"highest_threshold": 0.9}}) if saturated else PLAIN
    swept = sweep(made, GRID, policy)
    for threshold, told in zip(GRID, swept.simulations, strict=True):
        for field, value in one_by_one(made, threshold, policy).items():
            assert getattr(told, field) == (value if field == "untouched" else pytest.approx(value)), field
    free = [one.probability for one in made if _free(one, policy)]
    assert sum(swept.histogram) == len(free)
    assert swept.histogram[BINS - 1] == free.count(1.0)


def _free(one: Decision, policy: Policy) -> bool:
    """Whether a threshold can change it."""
    if not one.by_predictor or one.probability is None or one.arm == "candidate":
        return False
    raised = policy.saturation is not None and one.threshold > policy.threshold
    return not raised or (one.source is Source.PREDICTOR and one.probability >= one.threshold)


def one_by_one(made: list[Decision], threshold: float, policy: Policy) -> dict[str, Any]:
    """What `simulate` says, worked out for each decision by itself."""
    durations: dict[tuple[str, Mode], list[float]] = {}
    for one in made:
        if one.status == 200 and one.escalated is None:
            durations.setdefault((one.model, one.decided), []).append(one.duration)
    told = {"to_think": 0, "to_no_think": 0, "thinking": 0, "thinking_simulated": 0}
    costs, times, untouched = [], [], {}
    for one in made:
        raised = policy.saturation is not None and one.threshold > policy.threshold
        held = max(threshold, one.threshold) if raised else threshold
        why = None
        if not one.by_predictor or one.probability is None:
            why = one.source.value
        elif one.arm == "candidate":
            why = "candidate"
        elif raised and one.source is Source.SATURATION:
            why = "saturation"
        before = after = one.decided
        if why is not None:
            untouched[why] = untouched.get(why, 0) + 1
        else:
            after = Mode.THINK if one.probability >= held else Mode.NO_THINK
        told["to_think"] += (before, after) == (Mode.NO_THINK, Mode.THINK)
        told["to_no_think"] += (before, after) == (Mode.THINK, Mode.NO_THINK)
        told["thinking"] += before is Mode.THINK
        told["thinking_simulated"] += after is Mode.THINK
        cost = one.cost if after is before else None if one.escalated else one.other_mode_cost_estimated
        if one.cost is not None and cost is not None:
            costs.append((one.cost, cost))
        usual = durations.get((one.model, after), [])
        seconds = one.duration if after is before else sum(usual) / len(usual) if len(usual) >= ENOUGH else None
        if one.status == 200 and seconds is not None:
            times.append((one.duration, seconds))
    return {
        **told,
        "decisions": len(made),
        "oldest": 1000.0 if made else None,
        "newest": 1000.0 if made else None,
        "untouched": untouched,
        "priced": len(costs),
        "cost": sum(before for before, _ in costs),
        "cost_simulated": sum(after for _, after in costs),
        "timed": len(times),
        "seconds": sum(before for before, _ in times) / len(times) if times else None,
        "seconds_simulated": sum(after for _, after in times) / len(times) if times else None,
    }
