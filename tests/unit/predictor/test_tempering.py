"""Tempering keeps the order and the middle, and holds back what is far out; its derivative is its own."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.predictor.tempering import BENDS, counting, steepness, tempered, untempered

SUMS = st.floats(-50, 50)
ALLOWED = st.floats(*BENDS)


def _of(function: Callable[..., Any], value: float, bend: float) -> float:
    return float(function(np.array([value]), bend)[0])


@given(SUMS, SUMS, ALLOWED)
def test_the_order_and_the_side_stay(one: float, other: float, bend: float) -> None:
    low, high = sorted((one, other))
    assert _of(tempered, low, bend) <= _of(tempered, high, bend)
    assert math.copysign(1, _of(tempered, one, bend)) == math.copysign(1, one)


@pytest.mark.parametrize("total", [-0.1, 0.05])
def test_the_middle_is_left_as_it_is(total: float) -> None:
    assert _of(tempered, total, 2) == pytest.approx(total, rel=1e-3)


def test_far_out_ten_times_the_sum_counts_for_the_same_step_more() -> None:
    steps = np.diff(tempered(np.array([100.0, 1e3, 1e4]), 2))
    assert steps == pytest.approx([2 * math.log(10)] * 2, rel=1e-3)


@given(st.floats(-20.8, 20.8), ALLOWED)
def test_it_can_be_taken_back(odds: float, bend: float) -> None:
    """Of log-odds as far out as those of a probability of 1e-9."""
    assert _of(tempered, _of(untempered, odds, bend), bend) == pytest.approx(odds, rel=1e-9, abs=1e-9)


@given(SUMS, ALLOWED)
def test_the_steepness_is_that_of_the_curve(total: float, bend: float) -> None:
    rise = _of(tempered, total + 1e-4, bend) - _of(tempered, total - 1e-4, bend)
    assert _of(steepness, total, bend) == pytest.approx(rise / 2e-4, rel=1e-4)


@given(SUMS, ALLOWED)
def test_what_counts_of_all_is_what_it_says(total: float, bend: float) -> None:
    part = counting(total, bend)
    assert 0 < part <= 1 + 1e-12
    assert part * total == pytest.approx(_of(tempered, total, bend), rel=1e-9, abs=1e-12)
