"""Processes of `pointsman` are forked from one that has imported what they need."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def forked(fork_server: None) -> None:
    """For every test here."""
