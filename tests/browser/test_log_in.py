"""Logging in and out, as people do it, and what is left of a session afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from pointsman.contracts.tenants import new_key
from support.browser import Look, Visitor, scrolls_sideways, settled, violations
from support.console import COOKIE, ConsoleGateway

Visit = Callable[..., Visitor]


def test_somebody_logs_in_and_out(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    visitor = visit(look=look)
    page = visitor.page
    page.goto("/")
    assert page.url.endswith("/login")
    visitor.picture("log-in")
    assert violations(page) == []
    assert not scrolls_sideways(page)

    visitor.expects("/login was answered 4(01|22)|status of 4(01|22)")
    for wrong, told in (("secret", "This is no key"), (new_key(), "The router does not know this key.")):
        page.get_by_label("Key").fill(wrong)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").filter(has_text=told).wait_for()
        assert wrong not in page.content()

    visitor.log_in(platform.admin_key)
    page.get_by_role("button", name="Log out").click()
    page.get_by_text("You are logged out.").wait_for()
    page.go_back()
    page.wait_for_url(re.compile("/login"))


def test_a_page_that_was_asked_for_comes_after_logging_in(visit: Visit, platform: ConsoleGateway) -> None:
    visitor = visit()
    visitor.page.goto("/costs?by=mode")
    visitor.page.get_by_label("Key").fill(platform.key)
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url("**/costs?by=mode")
    settled(visitor.page)


@pytest.mark.parametrize("target", ["https://example.org/", "//example.org", "/\\example.org"])
def test_logging_in_leads_nowhere_else(platform: ConsoleGateway, target: str) -> None:
    headers = {"origin": platform.console_url}
    with httpx.Client(base_url=platform.console_url, headers=headers) as client:
        answer = client.post("/login", data={"key": platform.key, "next": target})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_browser_holds_a_random_word_that_no_script_can_read(visit: Visit, platform: ConsoleGateway) -> None:
    visitor = visit()
    visitor.page.goto("/login")
    # A word that somebody else has put there does not become the session's.
    visitor.context.add_cookies([{"name": COOKIE, "value": "known-to-me", "url": platform.console_url}])
    visitor.log_in(platform.key)
    (cookie,) = [one for one in visitor.context.cookies() if one["name"] == COOKIE]
    assert cookie["value"] != "known-to-me"
    assert len(cookie["value"]) > 30
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert COOKIE not in visitor.page.evaluate("document.cookie")
    everything = visitor.page.content() + str(visitor.remembered()) + platform.console.output()
    assert platform.key not in everything
