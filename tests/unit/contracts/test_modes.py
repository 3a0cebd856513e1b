"""The precedence of modes: over every combination of what the choosers can say, and pair by pair."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.errors import ApiError, ConflictingModeSignals, ModeNotOffered, ThinkingBudgetSpent
from pointsman.contracts.modes import (
    PRECEDENCE,
    ClientSignal,
    Mode,
    ModeDecision,
    ModePolicy,
    Source,
    choose_mode,
    thinking_allowance,
    threshold_by_cost,
    threshold_by_history,
    threshold_by_load,
)

THINK, NO_THINK = Mode.THINK, Mode.NO_THINK
FIELDS = ("reasoning_effort", "x-pointsman-mode", "model")


DOLLARS = st.floats(-10, 10).map(lambda dollars: round(dollars, 6))


def signals(*modes: Mode) -> tuple[ClientSignal, ...]:
    return tuple(ClientSignal(field, mode) for field, mode in zip(FIELDS, modes, strict=False))


def test_the_published_order() -> None:
    assert [source.value for source, _ in PRECEDENCE] == [
        "policy",
        "budget",
        "client",
        "predictor",
        "saturation",
        "default",
    ]
    assert [source for source, _ in PRECEDENCE] == list(Source)


# With the threshold at 0.5, load at 0.8 and abstention in [0.3, 0.4) and in the test's policies nothing else.
PROBABILITIES = (None, 0.0, 0.299, 0.3, 0.399, 0.4, 0.499, 0.5, 0.799, 0.8, 1.0)


class Facts(NamedTuple):
    """One combination of all that can be said."""

    required: Mode | None
    spent: bool
    refuse: bool
    wish: Mode | None
    probability: float | None
    raised: float | None
    default: Mode
    offered: frozenset[Mode]
    substitute: bool


OFFERS = (frozenset(Mode), frozenset({THINK}), frozenset({NO_THINK}))
WISHES = (None, THINK, NO_THINK)
SWITCH = (False, True)
EVERYTHING = [
    Facts(*facts)
    for facts in itertools.product(
        WISHES, SWITCH, SWITCH, WISHES, PROBABILITIES, (None, 0.8), tuple(Mode), OFFERS, SWITCH
    )
]


def chosen(facts: Facts) -> ModeDecision | str:
    """What the code makes of `facts`: a decision, or the code of its refusal."""
    policy = ModePolicy(
        threshold=0.5,
        abstain_below=0.3,
        abstain_above=0.4,
        default=facts.default,
        required=facts.required,
        rule="" if facts.required is None else "finance",
        substitute=facts.substitute,
        refuse_spent=facts.refuse,
    )
    try:
        return choose_mode(
            () if facts.wish is None else signals(facts.wish),
            probability=facts.probability,
            policy=policy,
            offered=facts.offered,
            spent=facts.spent,
            raised=facts.raised,
        )
    except ApiError as error:
        return str(error.code)


def expected(facts: Facts) -> tuple[Mode, str, str] | str:
    """The same, told in one piece from the published page rather than from a table of functions."""
    p = facts.probability
    if facts.required is not None:
        if facts.required in facts.offered:
            return facts.required, "policy", "finance"
        return (facts.required.other, "policy", "substitute") if facts.substitute else "mode_not_offered"
    if facts.wish is not None:
        mode, source, detail = facts.wish, "client", FIELDS[0]
        if mode not in facts.offered:
            if not facts.substitute:
                return "mode_not_offered"
            mode, source, detail = mode.other, "policy", "substitute"
    else:
        if p is None or 0.3 <= p < 0.4:
            mode, source = facts.default, "default"
            detail = "no prediction" if p is None else "abstained"
        elif p < 0.5:
            mode, source, detail = NO_THINK, "predictor", "threshold"
        elif facts.raised is not None and p < facts.raised:
            mode, source, detail = NO_THINK, "saturation", "load"
        else:
            mode, source, detail = THINK, "predictor", "threshold"
        if mode not in facts.offered:
            mode, source, detail = mode.other, "default", "the model has one mode"
    if facts.spent and mode is THINK:
        if facts.refuse or NO_THINK not in facts.offered:
            return "thinking_budget_spent"
        return NO_THINK, "budget", "daily_thinking_tokens"
    return mode, source, detail


def test_every_combination_of_everything() -> None:
    assert len(EVERYTHING) == 3 * 2 * 2 * 3 * 11 * 2 * 2 * 3 * 2
    seen = set()
    for facts in EVERYTHING:
        decision, wanted = chosen(facts), expected(facts)
        if isinstance(decision, str):
            assert decision == wanted, facts
            continue
        assert (decision.mode, decision.source.value, decision.detail) == wanted, facts
        assert decision.overruled == (facts.wish is not None and facts.wish is not decision.mode), facts
        assert decision.threshold == (facts.raised or 0.5)
        assert decision.probability == facts.probability
        assert decision.rule == ("finance" if facts.required else "")
        assert decision.mode in facts.offered
        seen.add(decision.source)
    assert seen == set(Source)


# For each source, facts under which it alone would decide, for either mode it can decide for.
ALONE: dict[Source, dict[Mode, dict[str, Any]]] = {
    Source.POLICY: {mode: {"required": mode} for mode in Mode},
    Source.BUDGET: {NO_THINK: {"spent": True}},
    Source.CLIENT: {mode: {"wish": mode} for mode in Mode},
    Source.PREDICTOR: {THINK: {"probability": 0.9}, NO_THINK: {"probability": 0.1}},
    Source.SATURATION: {NO_THINK: {"probability": 0.6, "raised": 0.8}},
    Source.DEFAULT: {mode: {"default": mode} for mode in Mode},
}
NOTHING = Facts(None, False, False, None, None, None, THINK, OFFERS[0], False)


@pytest.mark.parametrize(
    ("higher", "lower"), list(itertools.combinations(Source, 2)), ids=lambda source: source.value
)
def test_the_higher_of_each_pair_of_sources_decides(higher: Source, lower: Source) -> None:
    for mode, other in itertools.product(ALONE[higher], ALONE[lower]):
        facts = NOTHING._replace(**{**ALONE[lower][other], **ALONE[higher][mode]})
        decision = chosen(facts)
        assert isinstance(decision, ModeDecision)
        wanted = higher
        if higher is Source.BUDGET and other is NO_THINK:
            wanted = lower  # a spent budget has nothing to say to what would not think
        assert (decision.source, decision.mode) == (wanted, mode), facts


def test_each_contradiction_of_two_signals_names_both_whoever_decides() -> None:
    for first, second in itertools.permutations(Mode):
        for required, spent in itertools.product(WISHES, SWITCH):
            with pytest.raises(ConflictingModeSignals) as caught:
                choose_mode(
                    signals(first, first, second),
                    probability=0.9,
                    policy=ModePolicy(required=required, refuse_spent=True),
                    spent=spent,
                )
            error = caught.value
            assert error.message == (
                f"'reasoning_effort' asks for {first}, but 'model' asks for {second}; send one of them."
            )
            assert (error.status, error.param, error.code) == (400, "model", "conflicting_mode_signals")


def test_what_is_refused_says_who_asked_for_it() -> None:
    with pytest.raises(ModeNotOffered) as refused:
        choose_mode(signals(THINK), probability=None, policy=ModePolicy(), offered=OFFERS[2])
    assert (refused.value.status, refused.value.param) == (400, FIELDS[0])
    with pytest.raises(ModeNotOffered, match="rule 'finance'") as refused:
        choose_mode((), probability=None, policy=ModePolicy(required=THINK, rule="finance"), offered=OFFERS[2])
    assert (refused.value.status, refused.value.param) == (400, "model")
    with pytest.raises(ThinkingBudgetSpent) as spent:
        choose_mode((), probability=0.9, policy=ModePolicy(refuse_spent=True), spent=True)
    assert (spent.value.status, spent.value.code) == (429, "thinking_budget_spent")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(Mode))
def test_one_source_decides_whatever_the_numbers(
    probability: float, threshold: float, raised: float, one: float, other: float, default: Mode
) -> None:
    low, high = sorted((one, other))
    policy = ModePolicy(threshold, low, high, default)
    calm = choose_mode((), probability=probability, policy=policy)
    busy = choose_mode((), probability=probability, policy=policy, raised=raised)
    if low <= probability < high:
        assert (calm.source, calm.mode) == (busy.source, busy.mode) == (Source.DEFAULT, default)
        return
    assert calm.source is Source.PREDICTOR
    assert (calm.mode is THINK) is (probability >= threshold)
    assert (busy.mode is THINK) is (probability >= max(threshold, raised))
    assert (busy.source is Source.SATURATION) is (busy.mode is not calm.mode)
    assert busy.threshold == max(threshold, raised)


@given(st.floats(0, 1), st.floats(0, 1))
def test_an_empty_band_never_abstains(probability: float, edge: float) -> None:
    policy = ModePolicy(0.5, edge, edge)
    assert choose_mode((), probability=probability, policy=policy).source is Source.PREDICTOR


DOLLARS = st.floats(0, 1e6)


@given(probability=st.floats(0, 1), cost=DOLLARS, extra=st.floats(-1e6, 1e6))
def test_the_threshold_by_cost_is_where_the_cheaper_choice_changes(
    probability: float, cost: float, extra: float
) -> None:
    threshold = threshold_by_cost(cost, extra)
    assert 0 <= threshold <= 1
    decision = choose_mode((), probability=probability, policy=ModePolicy(), threshold=threshold)
    expected_loss = probability * cost
    if abs(expected_loss - extra) > 1e-9 * max(abs(extra), cost):
        certain = probability == threshold == 1.0  # a threshold of 1 still thinks where there is no doubt at all
        assert certain or (decision.mode is THINK) is (expected_loss > extra)
    assert decision.threshold == threshold


def test_the_threshold_by_cost() -> None:
    assert threshold_by_cost(0.10, 0.02) == pytest.approx(0.2)
    assert threshold_by_cost(0.01, 0.02) == 1.0
    assert threshold_by_cost(0.0, 0.0) == 0.0
    assert threshold_by_cost(0.0, 0.02) == 1.0
    assert threshold_by_cost(0.10, -0.02) == 0.0
    priced = ModePolicy(cost_of_wrong_fast=0.1)
    assert choose_mode((), probability=0.3, policy=priced, threshold=0.2).detail == "cost_of_wrong_fast"


@given(
    threshold=st.floats(0, 1), highest=st.floats(0, 1), one=st.floats(0, 10), load=st.floats(0, 200),
    more=st.floats(0, 100), width=st.floats(0.01, 100),
)  # fmt: skip
def test_load_raises_the_threshold_evenly_and_never_lowers_it(
    threshold: float, highest: float, one: float, load: float, more: float, width: float
) -> None:
    full = one + width
    raised = threshold_by_load(threshold, highest, one, full, load)
    assert threshold <= raised <= max(threshold, highest) + 1e-12
    assert threshold_by_load(threshold, highest, one, full, load + more) >= raised - 1e-12
    assert threshold_by_load(threshold, highest, one, full, one) == threshold
    assert threshold_by_load(threshold, highest, one, full, full) == max(threshold, highest)
    half = threshold_by_load(threshold, highest, one, full, one + width / 2)
    assert half == pytest.approx((threshold + max(threshold, highest)) / 2, abs=1e-6)


@given(st.floats(0, 1), st.floats(0, 1), DOLLARS, DOLLARS, DOLLARS)
def test_a_history_moves_the_threshold_in_proportion_and_so_far_only(
    threshold: float, most: float, extra: float, history: float, more: float
) -> None:
    moved = threshold_by_history(threshold, most, extra, history)
    assert 0.0 <= moved <= 1.0
    assert abs(moved - threshold) <= most + 1e-12
    assert threshold_by_history(threshold, most, extra, 0.0) == pytest.approx(threshold)
    assert threshold_by_history(threshold, most, extra, history + abs(more)) >= moved
    if extra > 0 and abs(moved - threshold) < most - 1e-9 and 0.0 < moved < 1.0:
        # What a wrong answer costs is the same before and after.
        assert moved * extra == pytest.approx(threshold * (extra + history))


def test_where_thinking_is_not_dearer_a_history_moves_nothing() -> None:
    assert threshold_by_history(0.5, 0.4, 0.0, 1.0) == 0.5
    assert threshold_by_history(0.5, 0.4, -1.0, 1.0) == 0.5


def test_a_mode_has_one_other() -> None:
    assert THINK.other is NO_THINK
    assert NO_THINK.other is THINK


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_thinking_leaves_room_for_an_answer(max_tokens: int, budget: int) -> None:
    thinking = thinking_allowance(max_tokens, budget)
    answer = max_tokens - thinking
    assert 0 < thinking <= budget or max_tokens == 1
    assert answer >= min(64, max_tokens // 2)
    assert answer >= max_tokens // 4
    if thinking < budget:
        assert answer == min(max(max_tokens // 4, 64), max_tokens // 2), "no more is held back than the rule says"
