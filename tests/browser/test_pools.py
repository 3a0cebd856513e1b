"""Pools: what is on the page is what goes on, while it goes on; traffic is divided from there."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from playwright.sync_api import expect

from support.admin import admin as asked
from support.browser import Look, Visitor, settled
from support.console import ConsoleGateway
from support.gateway import FAST, wait_for

Visit = Callable[..., Visitor]


def test_a_pool_is_watched_while_it_works(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    visitor = visit(platform.admin_key, look)
    page = visitor.open("/pools")
    assert page.get_by_role("heading", level=2).all_inner_texts() == ["fast", "deep"]
    page.get_by_role("link", name="deep").click()
    page.wait_for_url("**/pools/deep")
    settled(page)
    main = page.locator("#main")
    for told in ("1 of 1 replicas can answer", "of 64 places taken", "output $600", "40 tokens"):
        main.get_by_text(told).first.wait_for()
    (replica,) = platform.engines["deep"]
    main.get_by_text(replica.url.removeprefix("http://")).wait_for()

    def ask() -> None:
        body = {"model": "smollm2:think", "messages": [{"role": "user", "content": "Why?"}]}
        with platform.client() as client:
            client.post("/v1/chat/completions", json=body).raise_for_status()

    replica.process.popen.send_signal(signal.SIGSTOP)  # what it is asked from now on stays with it
    try:
        with ThreadPoolExecutor() as others:
            asked_for = others.submit(ask)
            expect(main.get_by_text("1 of 64 places taken")).to_be_visible(timeout=60_000)
            replica.process.popen.send_signal(signal.SIGCONT)
            asked_for.result()
    finally:
        replica.process.popen.send_signal(signal.SIGCONT)
    expect(main.get_by_text("0 of 64 places taken")).to_be_visible(timeout=60_000)
    assert page.locator("canvas").count() == 1


def test_a_pool_that_is_not_there_is_told(visit: Visit, platform: ConsoleGateway) -> None:
    page = visit(platform.admin_key).open("/pools/none")
    page.get_by_role("alert").filter(has_text="There is no such thing").wait_for()


def test_a_pool_without_replicas_says_so(visit: Visit, platform: ConsoleGateway) -> None:
    pool = {
        **{key: value for key, value in FAST.items() if key != "engine_args"},
        "name": "none-yet",
        "model": "new",
    }
    scaling = {"min_replicas": 0, "max_replicas": 4, "target_requests": 12, "downscale_to_zero_delay": 60}
    made = asked(platform, "PUT", "/pools/none-yet", json={**pool, "autoscaling": scaling})
    assert made.status_code == 201, made.text
    try:
        wait_for(lambda: "none-yet" in asked(platform, "GET", "/pools").text, "the pool to be known")
        page = visit(platform.admin_key).open("/pools/none-yet")
        for told in ("None right now.", "0 to 4", "12 requests", "Sleeps after", re.compile("1 min 00|60.00 s")):
            page.get_by_text(told).first.wait_for()
    finally:
        asked(platform, "DELETE", "/pools/none-yet")
