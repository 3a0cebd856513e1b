"""Tenants: found among ten thousand, made, limited, given keys that work, and taken away again."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
from playwright.sync_api import Page, expect

from support.admin import admin as asked
from support.browser import Look, Visitor, settled, violations
from support.console import ConsoleGateway
from support.gateway import wait_for

Visit = Callable[..., Visitor]

SCRIPT = "<img src=x onerror=alert(1)>"


def opens(platform: ConsoleGateway, key: str) -> bool:
    return httpx.get(f"{platform.url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200


def shown_key(page: Page) -> str:
    """The key in the window that shows it once."""
    secret = page.get_by_label("The key", exact=True)
    secret.wait_for()
    key = secret.inner_text()
    page.get_by_role("button", name="Done").click()
    secret.wait_for(state="detached")
    return key


def test_a_tenant_from_its_first_day_to_its_last(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    name = f"shop-{look.width}-{look.colours}"
    visitor = visit(platform.admin_key, look)
    page = visitor.open("/tenants")
    page.get_by_role("button", name="New tenant").click()
    page.get_by_label("Name", exact=True).fill("No such name!")
    page.get_by_role("button", name="Make it").click()
    page.get_by_text(re.compile("^name: ")).wait_for()
    assert violations(page) == []
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Make it").click()
    expect(page).to_have_url(f"{platform.console_url}/tenants/{name}")
    settled(page)

    page.get_by_label("Requests a minute").fill("many")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("This is no number.").wait_for()
    page.get_by_label("Requests a minute").fill("1,200")
    page.get_by_label("Budget a day").fill("12.000000001")
    page.get_by_label("Soft mark a day").fill("13")
    page.get_by_role("button", name="Save").click()
    page.get_by_text(re.compile("soft_usd 13 is above hard_usd")).wait_for()
    page.get_by_label("Soft mark a day").fill("")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    document = asked(platform, "GET", f"/tenants/{name}").json()["document"]
    assert document["limits"] == {"requests_per_minute": 1200}
    assert document["budgets"] == {"daily": {"hard_usd": "12.000000001"}}

    page.get_by_role("button", name="Make a key").click()
    page.get_by_label("Label").fill(SCRIPT)
    page.get_by_role("button", name="Make it").click()
    key = shown_key(page)
    wait_for(lambda: opens(platform, key), "the new key to open")
    assert key not in page.content()
    page.get_by_text(SCRIPT, exact=True).first.wait_for()
    page.get_by_role("button", name=f"Rotate {SCRIPT}").click()
    page.get_by_role("button", name="Replace it").click()
    second = shown_key(page)
    wait_for(lambda: opens(platform, second), "the second key to open")
    assert opens(platform, key)
    visitor.picture("tenants-tenant-with-keys")

    for expected in (1, 0):
        page.get_by_role("button", name=f"Revoke {SCRIPT}").first.click()
        page.get_by_role("button", name="Revoke it").click()
        expect(page.get_by_role("button", name=f"Revoke {SCRIPT}")).to_have_count(expected)
    wait_for(lambda: not opens(platform, key) and not opens(platform, second), "both keys to be refused")

    page.get_by_role("button", name="Delete this tenant").click()
    delete = page.get_by_role("button", name="Delete it")
    expect(delete).to_be_disabled()
    page.get_by_label(f"Type {name} to go on").fill(name)
    delete.click()
    expect(page).to_have_url(f"{platform.console_url}/tenants")
    assert asked(platform, "GET", f"/tenants/{name}").status_code == 404


def test_a_change_of_somebody_else_is_not_lost(visit: Visit, platform: ConsoleGateway) -> None:
    made = asked(platform, "POST", "/tenants", json={"name": "both", "limits": {"concurrency": 5}})
    page = visit(platform.admin_key).open("/tenants/both")
    meant = {"name": "both", "limits": {"concurrency": 7}}
    asked(platform, "PUT", "/tenants/both", json=meant, headers={"if-match": made.headers["etag"]})
    page.get_by_label("Requests at the same time").fill("6")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("This tenant has been changed since").wait_for()
    assert asked(platform, "GET", "/tenants/both").json()["document"]["limits"] == {"concurrency": 7}


def test_only_owners_change_what_no_file_holds(visit: Visit, platform: ConsoleGateway) -> None:
    asked(platform, "POST", "/tenants", json={"name": "looked-at"})
    viewer = asked(platform, "POST", "/keys", json={"role": "viewer", "label": "auditor"}).json()["key"]
    visitor = visit(viewer)
    page = visitor.open("/tenants")
    assert page.get_by_role("button", name="New tenant").count() == 0
    for name, why in (("looked-at", "Your key is a viewer's"), ("demo", "stands in the configuration file")):
        visitor.open(f"/tenants/{name}")
        page.get_by_text(why).wait_for()
        for action in ("Save", "Make a key", "Delete this tenant"):
            assert page.get_by_role("button", name=action).count() == 0


def test_nobody_is_lost_on_a_page_of_many(visit: Visit, platform: ConsoleGateway) -> None:
    for number in range(120):
        asked(platform, "POST", "/tenants", json={"name": f"many-{number:03}"})
    visitor = visit(platform.admin_key)
    page = visitor.open("/tenants?prefix=many-")
    seen: list[str] = []
    while True:
        seen += page.locator("main table tbody a").all_inner_texts()
        following = page.get_by_role("link", name="Next page →")
        if not following.count():
            break
        first = seen[-1]
        following.click()
        page.wait_for_url(re.compile(f"after={first}"))
        settled(page)
    assert seen == [f"many-{number:03}" for number in range(120)]
    page.get_by_label("Name begins with").fill("many-07")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("prefix=many-07"))
    settled(page)
    assert page.locator("main table tbody tr").count() == 10
    visitor.open("/tenants?prefix=nobody")
    page.get_by_text("No tenant's name begins like that").wait_for()
