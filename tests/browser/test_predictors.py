"""Tenants' predictors in a browser: how the gate judged one, whose policies name it, and the way back."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from support.admin import admin as asked
from support.browser import Look, Visitor, scrolls_sideways, violations
from support.console import ConsoleGateway
from support.tenant_predictors import put_predictor

Visit = Callable[..., Visitor]


def test_a_predictor_is_looked_at_rolled_back_and_deleted(
    visit: Visit, platform: ConsoleGateway, look: Look
) -> None:
    tenant, reason = f"judged-{look.width}", f"Not better <b>for {look.width}</b>."
    asked(platform, "POST", "/tenants", json={"name": tenant})
    version = put_predictor(platform, tenant, passed=False, reason=reason)
    first = asked(platform, "PUT", f"/policies/{tenant}", json={"policy": {"threshold": 0.4}}).raise_for_status()
    second = {"policy": {"threshold": 0.6, "predictor": version}}
    held = {"if-match": first.headers["etag"]}
    asked(platform, "PUT", f"/policies/{tenant}", json=second, headers=held).raise_for_status()
    visitor = visit(platform.admin_key, look)
    page = visitor.open("/predictors")
    row = page.locator("tbody tr").filter(has_text=version)
    expect(row).to_contain_text("forced in")
    expect(row).to_contain_text(tenant)
    row.get_by_role("link", name=version).click()

    page.get_by_role("heading", name="The gate").wait_for()
    shown = page.locator("#main").inner_text()
    for told in (reason, "0.618 → 0.961", "0.874 → 0.873", "176 learnt from, 76 held out", tenant):
        assert told in shown
    assert violations(page) == []
    assert not scrolls_sideways(page)
    visitor.picture("predictor-forced")

    page.get_by_role("button", name=f"Roll back {tenant}").click()
    page.get_by_text(f"Version 2 of its policy ({version}, threshold 0.6) gives way to version 1").wait_for()
    assert violations(page) == []
    visitor.picture("predictor-roll-back")
    page.get_by_role("button", name="Roll it back").click()
    page.get_by_text("No policy names it: it judges nobody.").wait_for()
    present = asked(platform, "GET", f"/policies/{tenant}").json()
    assert (present["document"]["policy"], present["comment"]) == ({"threshold": 0.4}, "back to version 1")
    page.get_by_role("button", name="Delete this predictor").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page).to_have_url(f"{platform.console_url}/predictors")
    assert asked(platform, "GET", f"/predictors/{version}").status_code == 404


def test_who_may_only_look_finds_no_button(visit: Visit, platform: ConsoleGateway) -> None:
    """And what a policy names is shown with it."""
    asked(platform, "POST", "/tenants", json={"name": "judged"})
    version = put_predictor(platform, "judged")
    asked(platform, "PUT", "/policies/judged", json={"policy": {"predictor": version}}).raise_for_status()
    visitor = visit(asked(platform, "POST", "/keys", json={"role": "viewer", "label": "looks"}).json()["key"])
    page = visitor.open("/policies/judged")
    page.get_by_role("link", name=version).click()
    page.get_by_text("Your role may look, not change anything.").wait_for()
    assert page.locator("#main").get_by_role("button").count() == 0
