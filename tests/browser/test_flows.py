"""Overview, costs, decisions, playground and policies: what people come to each of them for."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
from playwright.sync_api import expect

from support.admin import admin as asked
from support.browser import Look, Visitor, settled, violations
from support.console import ConsoleGateway

Visit = Callable[..., Visitor]

ANSWER = "<script>alert(1)</script>"


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
    main.locator("table").get_by_role("link", name="other", exact=True).click()
    page.wait_for_url(re.compile("tenant=other"))
    settled(page)
    shown = main.locator(".pm-stat dd").first.inner_text()
    report = asked(platform, "GET", "/costs", params={"by": "tenant", "tenant": "other", "since": "7d"}).json()
    (row,) = report["data"]
    assert shown.removeprefix("$").replace(",", "").rstrip("0") == row["cost_usd"].rstrip("0")
    with page.expect_download() as downloading:
        main.get_by_role("link", name="CSV").click()
    lines = downloading.value.path().read_text().splitlines()
    assert len(lines) > 1


def test_a_decision_is_found_understood_and_judged(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    visitor = visit(platform.keys["demo"], look)
    page = visitor.open("/decisions")
    page.locator("select[name=mode]").select_option("think")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url(re.compile("mode=think"))
    settled(page)
    links = page.locator("main table tbody a[href^='/decisions/']")
    assert set(
        page.locator("main table tbody .pm-pill.pm-think, main table tbody .pm-pill.pm-no-think").all_inner_texts()
    ) == {"think"}
    target = links.first.get_attribute("href")
    links.first.click()
    page.wait_for_url(f"**{target}")
    settled(page)
    page.get_by_text(re.compile("P\\(think\\)")).first.wait_for()
    page.get_by_label("Why (may stay empty)").fill(ANSWER)
    page.get_by_role("button", name="Disagree: no think would have been right").click()
    page.get_by_text("Noted. Thank you.").wait_for()
    page.get_by_role("cell", name=ANSWER).first.wait_for()
    assert violations(page) == []
    headers = {"authorization": f"Bearer {platform.keys['demo']}"}
    said = httpx.get(f"{platform.url}/v1{target}", headers=headers, timeout=10).json()["feedback"]
    assert said[-1]["should_think"] is False


def test_a_question_is_asked_on_both_tracks(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    visitor = visit(platform.keys["demo"], look)
    page = visitor.open("/playground")
    page.get_by_label("Question").fill(f"What is the capital of Portugal? {ANSWER}")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text(re.compile(r"Thinking took .* as much")).wait_for()
    for track in ("no-think", "think"):
        panel = page.locator(f".pm-track-{track}")
        assert re.search(r"\$0\.\d+", panel.inner_text())
        panel.get_by_label("Answer").get_by_text(re.compile("\\w+")).first.wait_for()
    page.locator(".pm-track-think").get_by_label("Thinking").wait_for()
    page.get_by_role("link", name="The whole decision").wait_for()
    assert violations(page) == []
    visitor.picture("playground-answered")
    assert page.locator("main script").count() == 0


def test_a_threshold_is_tried_and_saved(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    name = "demo" if look.width > 1000 else "other"
    visitor = visit(platform.admin_key, look)
    page = visitor.open(f"/policies/{name}")
    slider = page.get_by_label("Threshold", exact=True)
    slider.fill("0")
    position, share = page.locator(".pm-big"), page.locator(".pm-stat.pm-think dd").first
    shares = []
    for threshold in ("0", "0.9"):
        slider.fill(threshold)
        expect(position).to_have_text(f"{float(threshold):.2f}")
        shares.append(float(share.inner_text().removesuffix(" %")))
    assert shares[0] > shares[1] > 0
    page.get_by_label("Why (kept in the history)").fill(ANSWER)
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved. It holds for the next request.").wait_for()
    page.get_by_role("cell", name=ANSWER).wait_for()
    assert asked(platform, "GET", f"/policies/{name}").json()["document"]["policy"]["threshold"] == 0.9
    visitor.picture("policies-tenant-changed")
    assert violations(page) == []
