"""Hostile visitors: other tenants' things, other hosts' pages, stolen sockets, scripts in names and answers."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from support.admin import admin as asked
from support.browser import Visitor, settled
from support.console import COOKIE, ConsoleGateway, logged_in
from support.gateway import wait_for

Visit = Callable[..., Visitor]

IMAGE = "<img src=x onerror=alert(3)>"
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 6*7 }}`${6*7}`"


def decisions_of(platform: ConsoleGateway, key: str) -> list[str]:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.get(f"{platform.url}/v1/decisions", headers=headers, timeout=60).raise_for_status()
    return [str(one["id"]) for one in answer.json()["data"]]


def test_a_tenant_never_sees_anothers_things(visit: Visit, platform: ConsoleGateway) -> None:
    """Whatever an address names, on each page that a tenant may see."""
    theirs = decisions_of(platform, platform.keys["rival"])
    visitor = visit(platform.keys["demo"])
    page = visitor.open(f"/decisions/{theirs[0]}")
    page.get_by_role("alert").filter(has_text="There is no such thing").wait_for()
    own = set(decisions_of(platform, platform.keys["demo"]))
    for query in ("tenant=rival", "view=review&tenant=rival", "model=smollm2&tenant=rival"):
        visitor.open(f"/decisions?{query}")
        links = page.locator("main table a").evaluate_all("found => found.map(one => one.getAttribute('href'))")
        listed = {link.rsplit("/", 1)[1] for link in links if link.startswith("/decisions/")}
        assert listed
        assert not listed & set(theirs)
    assert own
    for address in ("/costs?tenant=rival", "/costs?by=tenant", "/?tenant=rival", "/costs?by=tenant&tenant=rival"):
        visitor.open(address)
        shown = page.locator("#main").inner_text()
        assert "rival" not in shown.split(), address
    answer = visitor.context.request.get("/download/costs.csv", params={"by": "tenant", "tenant": "rival"})
    assert "rival" not in answer.text()


def test_what_changes_anything_must_come_from_a_page_of_this_host(platform: ConsoleGateway) -> None:
    foreign = (
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"origin": platform.console_url, "sec-fetch-site": "cross-site"},
        {},
    )
    client = logged_in(platform.console_url, platform.key)
    word = client.cookies[COOKIE]
    for headers in foreign:
        with httpx.Client(base_url=platform.console_url, cookies={COOKIE: word}, headers=headers) as attacker:
            for path in ("/logout", "/login", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"):
                assert attacker.post(path, data={"key": platform.key}).status_code == 403, (headers, path)
            polled = attacker.get("/_nicegui_ws/socket.io/?EIO=4&transport=polling")
            assert polled.status_code == 403, headers
    assert client.get("/", headers={"accept": "text/html"}).status_code == 200, "it was not logged out"
    client.close()


def test_a_session_is_nobody_elses(platform: ConsoleGateway) -> None:
    one = logged_in(platform.console_url, platform.key)
    before = one.cookies[COOKIE]
    assert one.post("/login", data={"key": platform.key}).status_code == 303
    assert one.cookies[COOKIE] != before, "a word that was there before is not taken over"
    stolen = {COOKIE: one.cookies[COOKIE]}
    assert one.post("/logout").status_code == 303
    with httpx.Client(base_url=platform.console_url, cookies=stolen) as thief:
        assert thief.get("/", headers={"accept": "text/html"}).headers["location"].startswith("/login")
    one.close()


def test_a_page_of_one_session_can_not_be_used_by_another(visit: Visit, platform: ConsoleGateway) -> None:
    page = visit(platform.admin_key).open("/tenants")
    theirs = page.evaluate("window.clientId")
    tenant = logged_in(platform.console_url, platform.keys["demo"])
    query = f"EIO=4&transport=polling&client_id={theirs}"
    assert tenant.get(f"/_nicegui_ws/socket.io/?{query}").status_code == 403
    tenant.close()


def test_a_revoked_key_ends_its_sessions(visit: Visit, platform: ConsoleGateway) -> None:
    made = asked(platform, "POST", "/keys", json={"role": "viewer", "label": "leaves"}).json()
    visitor = visit()
    wait_for(lambda: _opens(platform, made["key"]), "the key to open")
    visitor.log_in(made["key"])
    visitor.open("/tenants")
    asked(platform, "DELETE", f"/keys/{made['id']}")
    visitor.expects("answered 401|status of 401|ERR_")
    visitor.page.wait_for_url(re.compile(r"/login\?ended=key"), timeout=60_000)
    visitor.page.get_by_text("the key is no longer valid").wait_for()


def _opens(platform: ConsoleGateway, key: str) -> bool:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{platform.url}/v1/whoami", headers=headers, timeout=60).status_code == 200


def test_no_script_in_a_name_runs(visit: Visit, platform: ConsoleGateway) -> None:
    asked(platform, "POST", "/keys", json={"tenant": "demo", "label": SCRIPT[:100]})
    alarms: list[str] = []
    visitor = visit(platform.admin_key)
    visitor.page.on("dialog", lambda dialog: (alarms.append(dialog.message), dialog.dismiss()))
    page = visitor.open("/tenants/demo")
    page.get_by_text(SCRIPT[:100], exact=True).wait_for()
    for address in (f"/tenants?prefix={SCRIPT}", f"/decisions?tenant={SCRIPT}&model={SCRIPT}", f"/pools/{IMAGE}"):
        visitor.open(address.replace("#", "%23"))
        assert "42" not in page.locator("#main").inner_text().split()
        settled(page)
    visitor.open(f"/tenants/{IMAGE}")
    assert page.locator("main script, main img[src=x]").count() == 0
    assert alarms == []
