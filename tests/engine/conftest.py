"""One run of the whole platform for all tests that need real engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.platform import READY, Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    started = Platform(tmp_path_factory.mktemp("up"))
    try:
        started.until_ready(seconds=READY)
        yield started
    finally:
        started.destroy()
