"""One platform with traffic of its own, one console and one Chromium for all tests of pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from support.browser import DESKTOP, OPPOSITES, Look, Visitor, start_chromium
from support.console import DEAR_POOLS, ConsoleGateway
from support.tenant_predictors import put_predictor

TENANTS = (
    {"name": "demo", "limits": {"requests_per_minute": 100_000}},
    {"name": "rival", "budgets": {"daily": {"hard_usd": 1000}}},
)

Visit = Callable[..., Visitor]

expect.set_options(timeout=30_000)  # milliseconds: two cores have much to do while all tests run


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
        put_predictor(running, "rival")
        yield running


@pytest.fixture(params=OPPOSITES, ids=str)
def look(request: pytest.FixtureRequest) -> Look:
    """Each size, and each of light and dark."""
    look: Look = request.param
    return look


@pytest.fixture(scope="package")
def regulars(browser: Browser) -> Iterator[dict[tuple[str, int], Visitor]]:
    """Those who are logged in all the time, by key and width: their browsers have the console's scripts already."""
    known: dict[tuple[str, int], Visitor] = {}
    yield known
    for visitor in known.values():
        visitor.close()


@pytest.fixture
def visit(browser: Browser, platform: ConsoleGateway, regulars: dict[tuple[str, int], Visitor]) -> Iterator[Visit]:
    """
    `visit(key, look)`: somebody who is logged in with `key`, another one each time; `visit()`: somebody who is not.

    All with the same key share a session. At the test's end it fails where any of their pages had a problem.
    """
    regular: list[Visitor] = []
    new: list[Visitor] = []

    def entered(key: str, look: Look) -> Visitor:
        known = next((one for (theirs, _), one in regulars.items() if theirs == key), None)
        visitor = Visitor(browser, platform.console_url, look, state=known and known.remembered())
        if known is None:
            visitor.log_in(key)
        return visitor

    def come(key: str | None = None, look: Look = DESKTOP) -> Visitor:
        if key is None:
            new.append(Visitor(browser, platform.console_url, look))
            return new[-1]
        if regulars.get((key, look.width)) in regular:
            new.append(entered(key, look))
            return new[-1]
        if (key, look.width) not in regulars:
            regulars[key, look.width] = entered(key, look)
        regular.append(regulars[key, look.width])
        regular[-1].turn(look.colours)
        return regular[-1]

    yield come
    for visitor in new:
        visitor.close()
    problems = [problem for visitor in (*new, *regular) for problem in visitor.taken_problems()]
    assert not problems, "\n".join(problems)


@pytest.fixture
def admin(visit: Visit, platform: ConsoleGateway) -> Visitor:
    """An administrator at a desk."""
    return visit(platform.admin_key)
