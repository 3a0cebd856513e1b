"""The loss that training makes small: its slope is its own, a label in doubt gives way. What calibration finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.predictor.tempering import BENDS, tempered
from pointsman.router.predictor.training import Floats, _logistic, calibrate

_MARGINS = st.lists(st.floats(-20, 20), min_size=1, max_size=6)


@given(_MARGINS, st.sampled_from([0.0, 0.1, 0.4, 1.0]))
def test_the_slope_is_that_of_the_loss(margins: list[float], doubt: float) -> None:
    at, weights, doubts = np.array(margins), np.arange(1.0, len(margins) + 1), np.full(len(margins), doubt)
    slope = _logistic(at, weights, doubts)[1]
    for place in range(len(margins)):
        step = np.zeros(len(margins))
        step[place] = 1e-5
        rise = _logistic(at + step, weights, doubts)[0] - _logistic(at - step, weights, doubts)[0]
        assert slope[place] == pytest.approx(rise / 2e-5, abs=1e-4)


def test_without_doubt_it_is_the_logistic_loss() -> None:
    at, weights = np.linspace(-30, 30, 7), np.ones(7)
    for ours, plain in zip(_logistic(at, weights, np.zeros(7)), _logistic(at, weights), strict=True):
        assert ours == pytest.approx(plain)


def test_what_contradicts_a_doubted_label_costs_little_more() -> None:
    one = np.ones(1)
    far, further = (_logistic(np.array([margin]), one, 0.4 * one)[0] for margin in (-10.0, -20.0))
    assert further - far < 0.05
    assert further < 1 / 0.4


@pytest.mark.parametrize("bend", [1.5, 4.0])
def test_calibration_finds_how_far_scores_count(bend: float) -> None:
    scores, think = _drawn(lambda scores: tempered(0.8 * scores - 0.3, bend))
    weights = np.ones(len(scores))
    found = np.array(calibrate(scores, think, weights))
    assert found == pytest.approx((0.8, -0.3, bend), rel=0.08)

    def loss(slope: float, offset: float, bend: float) -> float:
        odds = tempered(slope * scores + offset, bend)
        return _logistic(np.where(think, odds, -odds), weights)[0]

    for place in range(3):
        for factor in (0.98, 1.02):
            aside = found.copy()
            aside[place] *= factor
            assert loss(*found) < loss(*aside)


def test_calibration_tempers_nothing_where_scores_are_right() -> None:
    scores, think = _drawn(lambda scores: scores)
    slope, offset, bend = calibrate(scores, think, np.ones(len(scores)))
    assert tempered(slope * scores + offset, bend) == pytest.approx(scores, rel=0.1, abs=0.1)
    assert 15 < bend <= BENDS[1]


@pytest.mark.parametrize(
    ("scores", "think"),
    [([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1]), ([-1.0, 0.0, 1.0], [1, 1, 1]), ([0.0, 0.0, 0.0], [0, 1, 1])],
    ids=["separable", "one label", "one score"],
)
def test_calibration_ends_where_there_is_no_best(scores: list[float], think: list[int]) -> None:
    slope, offset, bend = calibrate(np.array(scores), np.array(think, bool), np.ones(len(scores)))
    assert np.isfinite([slope, offset]).all()
    assert BENDS[0] <= bend <= BENDS[1]


def _drawn(odds_of: Callable[[Floats], Floats]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Scores, and labels drawn by the log-odds that they stand for."""
    chance = np.random.default_rng(1)
    scores = chance.normal(0, 4, 200_000)
    return scores, chance.random(len(scores)) < 1 / (1 + np.exp(-odds_of(scores)))
