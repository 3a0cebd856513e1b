"""The loss that training makes small: its slope is its own, and a label in doubt gives way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.predictor.training import _logistic

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
