"""Overview and costs: what people come to each of them for."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from support.admin import admin as asked
from support.browser import Look, Visitor, settled, violations
from support.console import ConsoleGateway

Visit = Callable[..., Visitor]


def test_the_overview_shows_what_goes_on_now(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    visitor = visit(platform.admin_key, look)
    page = visitor.open("/")
    main = page.locator("#main")
    before = main.inner_text()
    platform.traffic(rate=20, seconds=3, seed=look.width)
    expect(main).not_to_have_text(before)
    main.get_by_role("link", name="deep").first.wait_for()
    assert page.locator(".pm-rails").count() == 1
    assert re.search(r"think [\d.]+/s", page.locator(".pm-rails").inner_text())
    assert violations(page) == []
    visitor.picture("overview-busy")


def test_costs_are_split_and_drilled_into(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    visitor = visit(platform.admin_key, look)
    page = visitor.open("/costs")
    main = page.locator("#main")
    main.get_by_role("link", name="Mode", exact=True).click()
    page.wait_for_url(re.compile("by=mode"))
    settled(page)
    cells = main.locator("table tbody tr").all_inner_texts()
    assert {row.split()[0] for row in cells} == {"think", "no"}
    main.get_by_role("link", name="Tenant", exact=True).click()
    page.wait_for_url(re.compile("by=tenant"))
    settled(page)
    main.locator("table").get_by_role("link", name="rival", exact=True).click()
    page.wait_for_url(re.compile("tenant=rival"))
    settled(page)
    shown = main.locator(".pm-stat dd").first.inner_text()
    report = asked(platform, "GET", "/costs", params={"by": "tenant", "tenant": "rival", "since": "7d"}).json()
    (row,) = report["data"]
    assert shown.removeprefix("$").replace(",", "").rstrip("0") == row["cost_usd"].rstrip("0")
    with page.expect_download() as downloading:
        main.get_by_role("link", name="CSV").click()
    lines = downloading.value.path().read_text().splitlines()
    assert len(lines) > 1
