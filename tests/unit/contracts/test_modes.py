"""The precedence of modes, over every combination of what the choosers can say."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.errors import ConflictingModeSignals, ModeNotOffered
from pointsman.contracts.modes import (
    PRECEDENCE,
    ClientSignal,
    Mode,
    ModeDecision,
    ModePolicy,
    Source,
    choose_mode,
    thinking_allowance,
)

THINK, NO_THINK = Mode.THINK, Mode.NO_THINK
FIELDS = ("reasoning_effort", "x-pointsman-mode", "model")


def signals(*modes: Mode) -> tuple[ClientSignal, ...]:
    return tuple(ClientSignal(field, mode) for field, mode in zip(FIELDS, modes, strict=False))


def test_the_published_order() -> None:
    assert [source for source, _ in PRECEDENCE] == [Source.CLIENT, Source.PREDICTOR, Source.DEFAULT]
    assert {source for source, _ in PRECEDENCE} == set(Source)


# With the threshold at 0.5 and abstention in [0.4, 0.6): what the predictor alone would decide.
PREDICTIONS = {
    None: None,
    0.0: NO_THINK,
    0.399: NO_THINK,
    0.4: None,
    0.5: None,
    0.599: None,
    0.6: THINK,
    1.0: THINK,
}


OFFERS = [frozenset(Mode), frozenset({THINK}), frozenset({NO_THINK})]


@pytest.mark.parametrize("offered", OFFERS, ids=lambda modes: "+".join(sorted(modes)))
@pytest.mark.parametrize("default", list(Mode))
@pytest.mark.parametrize("probability", list(PREDICTIONS))
@pytest.mark.parametrize(
    "wishes", [wishes for n in range(4) for wishes in itertools.product(Mode, repeat=n)], ids=str
)
def test_every_combination(
    wishes: tuple[Mode, ...], probability: float | None, default: Mode, offered: frozenset[Mode]
) -> None:
    policy = ModePolicy(threshold=0.5, abstain_below=0.4, abstain_above=0.6, default=default)

    def choose() -> ModeDecision:
        return choose_mode(signals(*wishes), probability=probability, policy=policy, offered=offered)

    if len(set(wishes)) == 2:
        with pytest.raises(ConflictingModeSignals):
            choose()
        return
    if wishes and wishes[0] not in offered:
        with pytest.raises(ModeNotOffered) as refused:
            choose()
        assert (refused.value.status, refused.value.param) == (400, FIELDS[0])
        return

    predicted = PREDICTIONS[probability]
    if wishes:
        expected = (wishes[0], Source.CLIENT, FIELDS[0])
    elif predicted is not None:
        expected = (predicted, Source.PREDICTOR, "threshold")
    else:
        expected = (default, Source.DEFAULT, "no prediction" if probability is None else "abstained")
    if expected[0] not in offered:
        expected = (expected[0].other, Source.DEFAULT, "the model has one mode")
    decision = choose()
    assert (decision.mode, decision.source, decision.detail) == expected
    assert decision.threshold == 0.5
    assert decision.probability == probability


def test_a_contradiction_names_both_fields_and_both_wishes() -> None:
    with pytest.raises(ConflictingModeSignals) as caught:
        choose_mode(signals(THINK, THINK, NO_THINK), probability=0.9, policy=ModePolicy())
    error = caught.value
    assert error.message == "'reasoning_effort' asks for think, but 'model' asks for no_think; send one of them."
    assert (error.status, error.param, error.code) == (400, "model", "conflicting_mode_signals")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(Mode))
def test_one_source_decides_whatever_the_numbers(
    probability: float, threshold: float, one: float, other: float, default: Mode
) -> None:
    low, high = sorted((one, other))
    decision = choose_mode((), probability=probability, policy=ModePolicy(threshold, low, high, default))
    if low <= probability < high:
        assert (decision.source, decision.mode) == (Source.DEFAULT, default)
    else:
        assert decision.source is Source.PREDICTOR
        assert (decision.mode is THINK) is (probability >= threshold)


@given(st.floats(0, 1), st.floats(0, 1))
def test_an_empty_band_never_abstains(probability: float, edge: float) -> None:
    policy = ModePolicy(0.5, edge, edge)
    assert choose_mode((), probability=probability, policy=policy).source is Source.PREDICTOR


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
