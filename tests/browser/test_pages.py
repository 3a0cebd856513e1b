"""Every page, for administrators and for tenants: it works in every size and colour, for eyes and screen readers.

What each page is for is tested beside this; here is what holds for all of them, those to come included.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from pointsman.console.page import Page
from pointsman.console.pages import ALL
from pointsman.console.who import Who
from pointsman.contracts.keys import Role
from support.admin import admin
from support.browser import Look, Visitor, drawn, scrolls_sideways, settled, violations
from support.console import ConsoleGateway, logged_in

Visit = Callable[..., Visitor]

OWNER = Who(key="00000000", role=Role.OWNER, tenant=None)
TENANT = Who(key="00000000", role=None, tenant="demo")
ADMIN_PAGES = [page for page in ALL if page.allowed(OWNER)]
TENANT_PAGES = [page for page in ALL if page.allowed(TENANT)]
FORBIDDEN_PAGES = [page for page in ALL if not page.allowed(TENANT)]

TRIES = 5

INTERACTIVE = 1.5
"""Seconds from asking for a page until it can be used, on a machine that has nothing else to do."""

SLOWER = 3.0
"""How many times as long it may take here: what is measured beside nothing else stands in `tests/soak`."""


def named(page: Page) -> str:
    return page.path.strip("/").replace("/", "-").replace("{", "").replace("}", "") or "overview"


def decision_of(platform: ConsoleGateway, key: str) -> str:
    answer = httpx.get(f"{platform.url}/v1/decisions", headers={"authorization": f"Bearer {key}"}, timeout=60)
    return str(answer.raise_for_status().json()["data"][0]["id"])


def path_of(page: Page, platform: ConsoleGateway) -> str:
    """An address of `page` at which there is something to see for the tenant `demo` and for administrators."""
    values = {"tenant": "demo", "pool": "deep"}
    if "{id}" in page.path:
        values["id"] = decision_of(platform, platform.keys["demo"])
    if "{version}" in page.path:
        values["version"] = admin(platform, "GET", "/predictors").json()["data"][0]["version"]
    return page.path.format(**values)


def examined(visitor: Visitor, page: Page, platform: ConsoleGateway, name: str) -> None:
    path = path_of(page, platform)
    opened = visitor.open(path)
    assert opened.title() == f"{page.title} · Pointsman"
    assert opened.get_by_role("main").locator("h1").all_inner_texts() == [page.title]
    assert opened.get_by_role("main").get_by_role("navigation", name="Pages", exact=True).count() == 0
    drawn(opened)
    visitor.picture(name)
    assert violations(opened) == []
    assert not scrolls_sideways(opened)
    assert opened.get_by_role("alert").count() == 0


@pytest.mark.parametrize("page", ADMIN_PAGES, ids=named)
def test_administrators_see_it(visit: Visit, platform: ConsoleGateway, look: Look, page: Page) -> None:
    visitor = visit(platform.admin_key, look)
    examined(visitor, page, platform, named(page))
    # A page that is open follows the system's colours: only its charts are drawn anew with the next one.
    visitor.turn("light" if look.colours == "dark" else "dark")
    if visitor.page.locator("canvas").count():
        visitor.open(path_of(page, platform))
    drawn(visitor.page)
    visitor.picture(named(page))
    assert violations(visitor.page) == []


@pytest.mark.parametrize("page", TENANT_PAGES, ids=named)
def test_tenants_see_their_own(visit: Visit, platform: ConsoleGateway, page: Page) -> None:
    visitor = visit(platform.keys["demo"])
    examined(visitor, page, platform, f"{named(page)}-of-a-tenant")
    assert "rival" not in visitor.page.locator("#main").inner_text().split()


@pytest.fixture(scope="module")
def demo(platform: ConsoleGateway) -> Iterator[httpx.Client]:
    """The tenant `demo` without a browser: who looks at what the console sends it."""
    client = logged_in(platform.console_url, platform.keys["demo"])
    yield client
    client.close()


@pytest.mark.parametrize("page", FORBIDDEN_PAGES, ids=named)
def test_tenants_do_not_see_what_is_administrators(
    demo: httpx.Client, platform: ConsoleGateway, page: Page
) -> None:
    sent = demo.get(path_of(page, platform), headers={"accept": "text/html"}).text
    assert "This page is for administrators." in sent
    assert 'href=\\"/costs\\"' in sent
    assert f'href=\\"{page.path}\\"' not in sent


def test_pages_can_be_used_soon(visit: Visit, platform: ConsoleGateway) -> None:
    """The best of some tries: other processes run on the same cores."""
    visitor = visit(platform.admin_key)
    visitor.open("/")  # whose scripts the browser then has
    took: dict[str, float] = {}
    for page in (page for page in ADMIN_PAGES if page.listed):
        for _ in range(TRIES):
            begun = time.perf_counter()
            visitor.page.goto(page.path, wait_until="commit")
            settled(visitor.page)
            took[page.path] = min(time.perf_counter() - begun, took.get(page.path, math.inf))
            most = INTERACTIVE * SLOWER * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
            if took[page.path] <= most:
                break
        assert took[page.path] <= most, took


@pytest.mark.parametrize("page", ALL, ids=named)
def test_a_page_is_nobodys_without_a_session(platform: ConsoleGateway, page: Page) -> None:
    with httpx.Client(base_url=platform.console_url) as nobody:
        answer = nobody.get(
            page.path.format(tenant="demo", pool="deep", id="x", version="x"), headers={"accept": "text/html"}
        )
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


@pytest.mark.parametrize("page", ALL, ids=named)
def test_a_page_takes_scripts_and_hosts_of_its_own_alone(
    demo: httpx.Client, platform: ConsoleGateway, page: Page
) -> None:
    answer = demo.get(path_of(page, platform))
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "'unsafe-inline'" not in policy["script-src"]
    assert "'nonce-" in policy["script-src"]
    assert policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert (answer.headers["x-content-type-options"], answer.headers["x-frame-options"]) == ("nosniff", "DENY")
