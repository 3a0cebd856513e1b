"""One run of the whole platform for all tests that need real engines."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from support.platform import READY, Platform


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
