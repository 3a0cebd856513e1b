"""Processes of `pointsman` are forked from one that has imported what they need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import forking


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> Iterator[None]:
    server = forking.use()
    yield
    server.close()
