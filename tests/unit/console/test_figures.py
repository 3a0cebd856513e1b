"""Numbers as the console writes them: dollars to the last nano-dollar, whatever they are."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.console.parts.figures import clock, dollars, percent, seconds, times


@given(st.integers(-(10**18), 10**18))
def test_dollars_lose_nothing(nano: int) -> None:
    text = dollars(nano)
    assert Decimal(text.replace("$", "").replace(",", "").replace("−", "-")) == Decimal(nano).scaleb(-9)
    assert len(text.partition(".")[2]) >= 2


@pytest.mark.parametrize(
    ("said", "written"),
    [
        (dollars(None), "–"),
        (dollars(0), "$0.00"),
        (dollars(1_234_567_500_000_000), "$1,234,567.50"),
        (dollars(-1), "−$0.000000001"),
        (dollars(5_000_000, sign=True), "+$0.005"),
        (dollars(0, sign=True), "$0.00"),
        (seconds(None), "–"),
        (seconds(0.0123), "12 ms"),
        (seconds(1.5), "1.50 s"),
        (seconds(-1.5, sign=True), "−1.50 s"),
        (seconds(3661), "61 min 01 s"),
        (seconds(119.7), "2 min 00 s"),
        (percent(0.1234), "12.3 %"),
        (percent(None), "–"),
        (clock(0), "1970-01-01 00:00:00"),
        (times(2.345), "2.3×"),
        (times(23.4), "23×"),
    ],
)
def test_how_numbers_are_written(said: str, written: str) -> None:
    assert said == written
