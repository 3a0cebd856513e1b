"""One run of the whole platform for all tests that need real engines, which get their share of the processor."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from support.platform import READY, Platform


@pytest.fixture(scope="session", autouse=True)
def equal_rights() -> Iterator[None]:
    """
    Ray would start its workers with niceness 15, and tests beside these would leave the engines next to nothing.

    Then they take minutes to start, and waits for them are over before they have had their turn.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    started = Platform(tmp_path_factory.mktemp("up"))
    try:
        started.until_ready(seconds=READY)
        yield started
        assert started.end(signal.SIGTERM, seconds=40) == 0
        assert not started.living(), "processes outlived `pointsman up`"
    finally:
        started.destroy()
