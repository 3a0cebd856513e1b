"""Decisions in a browser: found, explained, agreed with; and nobody else's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx

from support.browser import Look, Visitor, scrolls_sideways, violations
from support.console import ConsoleGateway

Visit = Callable[..., Visitor]

NEWER = "(old) => document.querySelector('tbody a').getAttribute('href') !== old"
"""Whether the list begins with another decision than `old`."""


def decisions(platform: ConsoleGateway, key: str, **params: str) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.get(f"{platform.url}/v1/decisions", params=params, headers=headers, timeout=60)
    data: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
    return data


def test_a_tenant_finds_one_sees_why_and_disagrees(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    visitor = visit(platform.keys["demo"], look)
    page = visitor.open("/decisions")
    assert violations(page) == []
    assert not scrolls_sideways(page)
    visitor.picture("decisions")

    page.locator("select[name=mode]").select_option("no_think")
    page.locator("select[name=source]").select_option("predictor")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/decisions?*mode=no_think*")
    rows = page.locator("tbody tr")
    rows.first.wait_for()
    assert rows.filter(has_text="no think").filter(has_text="predictor").count() == rows.count() > 3
    rows.first.get_by_role("link").click()

    page.get_by_role("heading", name="What the predictor saw").wait_for()
    identity = page.url.rpartition("/")[2]
    made = next(one for one in decisions(platform, platform.keys["demo"]) if one["id"] == identity)
    shown = page.locator("#main").inner_text()
    assert f"{made['probability']:.3f}" in shown
    assert f"{sum(each['contribution'] for each in made['evidence']):+.3f}" in shown
    assert f"${made['cost'] / 1e9:.9f}".rstrip("0") in shown
    assert page.locator(".pm-ladder-it").inner_text().startswith("Predictor")
    assert violations(page) == []
    assert not scrolls_sideways(page)
    visitor.picture("decision")

    page.get_by_label("Why (may stay empty)").fill(f"<b>too quick</b> {look}")
    page.get_by_role("button", name="Disagree: think would have been right").click()
    page.get_by_role("cell", name=f"<b>too quick</b> {look}").wait_for()
    (made,) = [one for one in decisions(platform, platform.keys["demo"]) if one["id"] == identity]
    said = made["feedback"][-1]
    assert (said["should_think"], said["comment"]) == (True, f"<b>too quick</b> {look}")


def test_pages_follow_each_other(visit: Visit, platform: ConsoleGateway) -> None:
    while len(decisions(platform, platform.keys["demo"], limit="50")) <= 40:
        platform.traffic(platform.keys["demo"], rate=50, seconds=1)
    page = visit(platform.admin_key).open("/decisions?tenant=demo")
    first = page.locator("tbody a").evaluate_all("links => links.map(link => link.href)")
    page.get_by_role("link", name="Older →").click()
    page.get_by_role("link", name="Newest").wait_for()
    second = page.locator("tbody a").evaluate_all("links => links.map(link => link.href)")
    assert len(first) == 40
    assert second
    assert not set(first) & set(second)
    page = visit(platform.admin_key).open("/decisions?tenant=nobody")
    page.get_by_text("No decision is like that").wait_for()


def test_new_ones_come_by_themselves_unless_somebody_points_at_the_list(
    visit: Visit, platform: ConsoleGateway
) -> None:
    visitor = visit(platform.admin_key)
    page = visitor.open("/decisions?tenant=rival")
    page.mouse.move(5, 5)
    newest = page.locator("tbody a").first.get_attribute("href")
    platform.traffic(platform.keys["rival"], rate=20, seconds=1, seed=5)
    page.wait_for_function(NEWER, arg=newest)
    beside = visitor.open("/decisions?tenant=rival", visitor.context.new_page())
    beside.mouse.move(5, 5)
    page.locator("tbody tr").first.hover()
    for seed in (6, 7, 8):  # the console hears a moment later that somebody points there
        newest = page.locator("tbody a").first.get_attribute("href")
        platform.traffic(platform.keys["rival"], rate=20, seconds=1, seed=seed)
        beside.wait_for_function(NEWER, arg=newest)
        page.wait_for_timeout(500)  # both are sent what is new at the same time
        if page.locator("tbody a").first.get_attribute("href") == newest:
            break
    else:
        raise AssertionError("the list went on beneath the pointer")
    beside.close()
    page.mouse.move(5, 5)
    page.wait_for_function(NEWER, arg=newest)


def test_a_tenant_sees_its_own_alone(visit: Visit, platform: ConsoleGateway) -> None:
    mine = visit(platform.keys["demo"])
    theirs = decisions(platform, platform.keys["rival"])[0]["id"]
    for path in (
        f"/decisions/{theirs}",
        "/decisions/dec-" + "0" * 32,
    ):
        page = mine.open(path)
        assert theirs not in page.locator("#main").inner_text()
        page.get_by_role("alert").wait_for()
    page = mine.open("/decisions?tenant=rival&view=review")
    hrefs = page.locator("tbody a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    own = {f"/decisions/{one['id']}" for one in decisions(platform, platform.keys["demo"], limit="200")}
    assert set(hrefs) <= own
    assert not re.search(r"To review|Tenant", page.locator("#main").inner_text())
