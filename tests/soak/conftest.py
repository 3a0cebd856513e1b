"""What the long runs share: the profile, a folder with a short path, and figures that are printed as they come."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--short", action="store_true", help="the short profile, for every change")


@pytest.fixture(scope="session")
def short(request: pytest.FixtureRequest) -> bool:
    """Whether this is the short profile."""
    return bool(request.config.getoption("--short"))


@pytest.fixture(scope="session", autouse=True)
def many_files() -> None:
    """As many open files as the hard limit allows, for this process and all that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short path: Unix sockets lie in it."""
    return tmp_path_factory.mktemp("soak")


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Iterator[Callable[[str, object], None]]:
    """Prints one figure: what it is, and its value. The test's duration comes last."""
    began = time.monotonic()
    print(f"\n{request.node.name}")

    def line(what: str, value: object) -> None:
        print(f"  {what:<58} {value}", flush=True)

    yield line
    line("seconds", f"{time.monotonic() - began:.0f}")
