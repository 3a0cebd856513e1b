"""Every page, for administrators and for tenants: it works in every size and colour, for eyes and screen readers.

What each page is for is tested beside this; here is what holds for all of them, those to come included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import httpx
import pytest

from pointsman.console.page import Page
from pointsman.console.pages import ALL
from pointsman.console.who import Who
from pointsman.contracts.keys import Role
from support.browser import OPPOSITES, Look, Visitor, scrolls_sideways, settled, violations
from support.console import ConsoleGateway, logged_in

Visit = Callable[..., Visitor]

OWNER = Who(key="00000000", role=Role.OWNER, tenant=None)
TENANT = Who(key="00000000", role=None, tenant="demo")
ADMIN_PAGES = [page for page in ALL if page.allowed(OWNER)]
TENANT_PAGES = [page for page in ALL if page.allowed(TENANT)]
FORBIDDEN_PAGES = [page for page in ALL if not page.allowed(TENANT)]

TRIES = 5

INTERACTIVE = 1.5
"""Seconds from asking for a page until it can be used."""


def named(page: Page) -> str:
    return page.path.strip("/").replace("/", "-").replace("{", "").replace("}", "") or "overview"


def decision_of(platform: ConsoleGateway, key: str) -> str:
    answer = httpx.get(f"{platform.url}/v1/decisions", headers={"authorization": f"Bearer {key}"}, timeout=10)
    return str(answer.raise_for_status().json()["data"][0]["id"])


def path_of(page: Page, platform: ConsoleGateway) -> str:
    """An address of `page` at which there is something to see for the tenant `demo` and for administrators."""
    values = {"tenant": "demo", "pool": "deep", "id": decision_of(platform, platform.keys["demo"])}
    return page.path.format(**values)


def examined(visitor: Visitor, page: Page, platform: ConsoleGateway, name: str) -> None:
    opened = visitor.open(path_of(page, platform))
    assert opened.title() == f"{page.title} · Pointsman"
    assert opened.get_by_role("main").locator("h1").all_inner_texts() == [page.title]
    assert opened.get_by_role("main").get_by_role("navigation", name="Pages", exact=True).count() == 0
    opened.wait_for_timeout(400)  # what comes with the first answers of the router, and charts that draw themselves
    visitor.picture(name)
    if visitor.look in OPPOSITES:
        assert violations(opened) == []
    assert not scrolls_sideways(opened)
    assert opened.get_by_role("alert").count() == 0


@pytest.mark.parametrize("page", ADMIN_PAGES, ids=named)
def test_administrators_see_it(visit: Visit, platform: ConsoleGateway, every_look: Look, page: Page) -> None:
    examined(visit(platform.admin_key, every_look), page, platform, named(page))


@pytest.mark.parametrize("page", TENANT_PAGES, ids=named)
def test_tenants_see_their_own(visit: Visit, platform: ConsoleGateway, page: Page) -> None:
    visitor = visit(platform.keys["demo"])
    examined(visitor, page, platform, f"{named(page)}-of-a-tenant")
    assert "rival" not in visitor.page.locator("#main").inner_text().split()


@pytest.mark.parametrize("page", FORBIDDEN_PAGES, ids=named)
def test_tenants_do_not_see_what_is_administrators(visit: Visit, platform: ConsoleGateway, page: Page) -> None:
    visitor = visit(platform.keys["demo"])
    opened = visitor.open(path_of(page, platform))
    opened.get_by_role("alert").filter(has_text="This page is for administrators.").wait_for()
    assert opened.get_by_role("navigation").get_by_text(page.title, exact=True).count() == 0


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
            if took[page.path] <= INTERACTIVE:
                break
    assert max(took.values()) <= INTERACTIVE, took


@pytest.mark.parametrize("page", ALL, ids=named)
def test_a_page_is_nobodys_without_a_session(platform: ConsoleGateway, page: Page) -> None:
    with httpx.Client(base_url=platform.console_url) as nobody:
        answer = nobody.get(page.path.format(tenant="demo", pool="deep", id="x"), headers={"accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


@pytest.mark.parametrize("page", ALL, ids=named)
def test_a_page_takes_scripts_and_hosts_of_its_own_alone(platform: ConsoleGateway, page: Page) -> None:
    client = logged_in(platform.console_url, platform.keys["demo"])
    answer = client.get(path_of(page, platform))
    client.close()
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "'unsafe-inline'" not in policy["script-src"]
    assert "'nonce-" in policy["script-src"]
    assert policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert (answer.headers["x-content-type-options"], answer.headers["x-frame-options"]) == ("nosniff", "DENY")
