"""One platform with traffic of its own, one console and one Chromium for all tests of pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from support.browser import DESKTOP, LOOKS, Look, Visitor, start_chromium
from support.console import DEAR_POOLS, ConsoleGateway

TENANTS = (
    {"name": "demo", "limits": {"requests_per_minute": 100_000}},
    {"name": "other", "budgets": {"daily": {"hard_usd": 1000}}},
)

Visit = Callable[..., Visitor]


@pytest.fixture(scope="session", autouse=True)
def forked(fork_server: None) -> None:
    """Processes of `pointsman` are forked from one that has imported what they need."""


# Playwright keeps an event loop running in its thread: gone once the tests of pages are.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = start_chromium(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory, forked: None) -> Iterator[ConsoleGateway]:
    """A gateway and a console that have seen some seconds of traffic of two tenants."""
    with ConsoleGateway(tmp_path_factory.mktemp("gw"), pools=DEAR_POOLS, tenants=TENANTS) as running:
        running.traffic(*running.keys.values(), rate=30, seconds=4)
        yield running


@pytest.fixture(params=LOOKS, ids=str)
def look(request: pytest.FixtureRequest) -> Look:
    """Each size and each of light and dark."""
    look: Look = request.param
    return look


@pytest.fixture(scope="package")
def remembered() -> dict[tuple[str, Look], Any]:
    """What the browsers of those who have logged in keep, by key and look."""
    return {}


@pytest.fixture
def visit(browser: Browser, platform: ConsoleGateway, remembered: dict[tuple[str, Look], Any]) -> Iterator[Visit]:
    """
    `visit(key, look)`: somebody who is logged in with `key`; `visit()`: somebody who is not.

    At the test's end it fails where any of their pages had a problem.
    """
    visitors: list[Visitor] = []

    def come(key: str | None = None, look: Look = DESKTOP, *, anew: bool = False) -> Visitor:
        state = None if key is None or anew else remembered.get((key, look))
        visitor = Visitor(browser, platform.console_url, look, state)
        visitors.append(visitor)
        if key is not None and state is None:
            visitor.log_in(key)
            if not anew:
                remembered[key, look] = visitor.remembered()
        return visitor

    yield come
    for visitor in visitors:
        visitor.close()
    for visitor in visitors:
        visitor.unproblematic()


@pytest.fixture
def admin(visit: Visit, platform: ConsoleGateway) -> Visitor:
    """An administrator at a desk."""
    return visit(platform.admin_key)
