"""The running median of answers' lengths: it gets there, stays there, and can't be driven out of bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.router.fleet.output_length import MOST, OutputLength


@given(median=st.integers(2, 50_000), spread=st.floats(0.0, 2.0), seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_it_settles_where_half_of_the_answers_are_longer(median: int, spread: float, seed: int) -> None:
    draw = random.Random(seed)
    length = OutputLength()
    shares = []
    for number in range(1500):
        length.learn(round(median * draw.lognormvariate(0.0, spread)))
        if number >= 500:
            shares.append(length.tokens)
    middle = sorted(shares)[len(shares) // 2]
    # In units of the distribution's own width: within a tenth of the answers around the median, and a step.
    assert median / (1.1 * 1.3**spread) - 1 <= middle <= median * 1.1 * 1.3**spread + 1


@pytest.mark.parametrize("true", [1, 3, 64, 4096, 100_000])
def test_it_is_near_after_a_few_dozen_answers(true: int) -> None:
    length = OutputLength()
    for _ in range(150):
        length.learn(true)
    assert true / 1.2 - 1 <= length.tokens <= true * 1.2 + 1


def test_it_follows_a_change() -> None:
    length = OutputLength()
    for _ in range(1000):
        length.learn(100)
    for _ in range(100):
        length.learn(2000)
    assert length.tokens > 1500


def test_a_few_absurd_answers_do_not_move_it() -> None:
    length = OutputLength()
    for number in range(1000):
        length.learn(10**9 if number % 10 == 0 else 100)
    assert 70 < length.tokens < 140


@given(st.lists(st.integers(0, 10**12), max_size=300))
def test_it_stays_within_bounds_whatever_it_is_told(answers: list[int]) -> None:
    length = OutputLength()
    for tokens in answers:
        length.learn(tokens)
        assert isinstance(length.tokens, int)
        assert 1 <= length.tokens <= MOST


@given(spread=st.floats(0.3, 1.5), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_a_quarter_is_below_and_a_quarter_above_the_quartiles(spread: float, seed: int) -> None:
    draw = random.Random(seed)
    length = OutputLength()
    below = above = counted = 0
    for number in range(3000):
        tokens = round(1000 * draw.lognormvariate(0.0, spread))
        if number >= 1000:
            counted += 1
            below += tokens < length.low
            above += tokens > length.high
        length.learn(tokens)
    assert 0.15 < below / counted < 0.35
    assert 0.15 < above / counted < 0.35
