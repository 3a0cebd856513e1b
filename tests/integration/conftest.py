"""Processes of `pointsman` are forked from one that has imported what they need, and no day ends within a test."""

from __future__ import annotations

import time

import pytest

DAY = 86_400
LAST = 20
"""Seconds before midnight, UTC, in which no test begins: budgets and reports begin anew then."""


@pytest.fixture(scope="session", autouse=True)
def forked(fork_server: None) -> None:
    """For every test here."""


@pytest.fixture(autouse=True)
def one_day() -> None:
    """What is counted by the day is counted in one."""
    left = DAY - time.time() % DAY
    if left < LAST:
        time.sleep(left + 0.1)
