"""Policies in a browser: a threshold is moved, seen, saved, put on trial; and an older page changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from support.browser import DESKTOP, Look, Visitor, scrolls_sideways, violations
from support.console import ConsoleGateway

Visit = Callable[..., Visitor]


def policy(platform: ConsoleGateway, tenant: str = "rival") -> dict[str, Any]:
    headers = {"authorization": f"Bearer {platform.admin_key}"}
    answer = httpx.get(f"{platform.url}/admin/v1/policies/{tenant}", headers=headers, timeout=60)
    present: dict[str, Any] = answer.raise_for_status().json()
    return present


def test_a_threshold_is_tried_and_saved(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    visitor = visit(platform.admin_key, look)
    page = visitor.open("/policies")
    assert violations(page) == []
    assert not scrolls_sideways(page)
    visitor.picture("policies")
    page.get_by_label("Tenant's name begins with").fill("riv")
    page.keyboard.press("Enter")
    page.wait_for_url("**/policies?prefix=riv")
    page.get_by_role("link", name="rival").click()
    page.get_by_role("heading", name="History").wait_for()
    before = policy(platform)
    assert violations(page) == []

    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    page.keyboard.press("End")
    page.get_by_text("1.00").first.wait_for()
    assert "to no think" in page.locator(".pm-stats").inner_text()
    assert page.locator(".pm-spread-bars i.pm-no-think").count() == 20
    slider.fill("0.37" if before["document"]["policy"].get("threshold") != 0.37 else "0.73")
    assert policy(platform) == before, "moving it changes nothing"
    wanted = float(slider.input_value())
    page.get_by_text(f"{wanted:.2f}", exact=True).wait_for()
    page.get_by_label("Why (kept in the history)").fill(f"tried {look}")
    visitor.picture("policy")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("cell", name=f"tried {look}").wait_for()
    after = policy(platform)
    assert (after["document"]["policy"]["threshold"], after["comment"]) == (wanted, f"tried {look}")
    assert after["version"] == before["version"] + 1
    assert not scrolls_sideways(page)


def test_a_threshold_goes_on_trial_and_off_again(visit: Visit, platform: ConsoleGateway) -> None:
    page = visit(platform.admin_key).open("/policies/rival")
    page.get_by_role("slider", name="Threshold").fill("0.9")
    page.get_by_text("0.90", exact=True).wait_for()
    page.get_by_label("The new threshold").click()
    page.get_by_role("option", name="is watched first").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="On trial").wait_for()
    candidate = policy(platform)["document"]["candidate"]
    assert (candidate["stage"], candidate["policy"]["threshold"]) == ("observe", 0.9)
    page.get_by_role("button", name="To canary").click()
    page.get_by_role("button", name="To observe").wait_for()
    assert policy(platform)["document"]["candidate"]["stage"] == "canary"
    page.get_by_role("button", name="Drop it").click()
    page.get_by_role("heading", name="On trial").wait_for(state="detached")
    assert policy(platform)["document"].get("candidate") is None


def test_a_page_that_is_too_old_changes_nothing(visit: Visit, platform: ConsoleGateway) -> None:
    old, new = (visit(platform.admin_key, DESKTOP).open("/policies/rival") for _ in range(2))
    for page, value, told in ((new, "0.41", "Saved"), (old, "0.42", "changed")):
        page.get_by_role("slider", name="Threshold").fill(value)
        page.get_by_text(value, exact=True).wait_for()
        page.get_by_role("button", name="Save").click()
        page.locator(".q-notification").filter(has_text=told).first.wait_for()
    assert policy(platform)["document"]["policy"]["threshold"] == 0.41


def test_no_tenant_sees_policies(visit: Visit, platform: ConsoleGateway) -> None:
    visitor = visit(platform.keys["demo"])
    for path in ("/policies", "/policies/demo", "/policies/rival"):
        page = visitor.open(path)
        page.get_by_text("This page is for administrators.").wait_for()
        assert page.get_by_role("link", name="Policies").count() == 0
