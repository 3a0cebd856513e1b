"""What a month will have cost when it is over: from the whole days before, and told with how sure that is.

Pure arithmetic behind `spending.py`, which shows it. The days to come are taken to cost what the whole days so far
did on average, each by itself as far from it as they were. A tenant's first day is no whole one, and is left out;
who has fewer than `ENOUGH` whole days is told nothing. Amounts are nano-dollars.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import NamedTuple

WINDOW = 28
"""Whole days that are looked at: four of each day of the week."""

ENOUGH = 2
"""Whole days without which nothing is foretold."""

_SPREAD = 1.645
"""Standard deviations on either side of the mean between which nine in ten of normal values lie."""


class Forecast(NamedTuple):
    """What the month comes to: `middle`, and the range in which it lies in nine months of ten."""

    low: float
    middle: float
    high: float


class Habit(NamedTuple):
    """What `days` whole days have cost on the average, and their standard deviation."""

    mean: float
    deviation: float
    days: int

    def forecast(self, spent: int, left: float) -> Forecast:
        """From what the month has cost up to now, and the days `left` of it, the rest of today included."""
        middle = spent + self.mean * left
        # The days to come vary, and so does the mean that was taken for theirs.
        around = _SPREAD * self.deviation * sqrt(left + left * left / self.days)
        return Forecast(max(float(spent), middle - around), middle, middle + around)


def habit_of(days: Sequence[int]) -> Habit | None:
    """From what each whole day cost; None where there are fewer than `ENOUGH`."""
    if len(days) < ENOUGH:
        return None
    return Habit(fmean(days), stdev(days), len(days))
