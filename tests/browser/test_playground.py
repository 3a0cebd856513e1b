"""The playground in a browser: a question, both tracks side by side, what each cost; what a model says is text."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import httpx

from pointsman.contracts.names import Metric
from support.browser import Look, Visitor, scrolls_sideways, violations
from support.console import ConsoleGateway
from support.gateway import wait_for

Visit = Callable[..., Visitor]

HARD = "Prove that there are infinitely many primes, step by step."


def test_both_tracks_answer_and_say_what_they_cost(visit: Visit, platform: ConsoleGateway, look: Look) -> None:
    visitor = visit(platform.keys["demo"], look)
    before = cost(platform)
    page = visitor.open("/playground")
    assert violations(page) == []
    page.get_by_label("Question").fill(HARD)
    page.keyboard.press("Control+Enter")
    page.get_by_text(re.compile("^Thinking took")).wait_for()
    think, fast = page.locator(".pm-track-think"), page.locator(".pm-track-no-think")
    assert "chosen by the platform" in think.inner_text()
    assert "the road not taken" in fast.inner_text()
    for track in (think, fast):
        assert "[simulated]" in track.locator(".pm-answer").inner_text()
    assert "[simulated]" in think.locator(".pm-thinking").inner_text()
    assert not fast.locator(".pm-thinking").is_visible()
    page.get_by_text("The whole decision").wait_for()
    assert "together" in page.locator(".pm-evidence").inner_text()
    told = [Decimal(word) for word in re.findall(r"Cost\n\$([\d.]+)", page.locator(".pm-tracks").inner_text())]
    assert len(told) == 2
    wait_for(lambda: cost(platform) - before == sum(told), "the ledger to say the same")
    assert violations(page) == []
    assert not scrolls_sideways(page)
    visitor.picture("playground")


def test_somebody_who_stops_stops_the_engines(visit: Visit, platform: ConsoleGateway) -> None:
    for engines in platform.engines.values():
        engines[0].faults({"kind": "slow", "factor": 200})
    page = visit(platform.keys["demo"]).open("/playground")
    page.get_by_label("Question").fill(HARD)
    page.get_by_role("button", name="Ask", exact=True).click()
    engines = [each[0] for each in platform.engines.values()]
    wait_for(lambda: all(engine.running() == 1 for engine in engines), "both to answer")
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("stopped").first.wait_for()
    wait_for(lambda: not any(engine.running() for engine in engines), "the engines to hear of it")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text(re.compile("^Thinking took")).wait_for()


def test_an_administrator_asks_with_a_tenants_key(visit: Visit, platform: ConsoleGateway) -> None:
    visitor = visit(platform.admin_key)
    page = visitor.open("/playground")
    page.get_by_label("Question").fill("What is the capital of Portugal?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("Give a tenant's key first.").wait_for()
    page.get_by_label("A tenant's key").fill(platform.keys["rival"])
    page.get_by_role("button", name="Use this key").click()
    page.get_by_text("Requests are this tenant's now.").wait_for()
    before = platform.total(Metric.REQUESTS, tenant="rival")
    page.get_by_role("switch", name="Both tracks").click()
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("The whole decision").wait_for()
    assert platform.total(Metric.REQUESTS, tenant="rival") == before + 1
    assert platform.keys["rival"] not in page.content()
    assert platform.keys["rival"] not in platform.logs()


def test_what_a_model_says_is_text(visit: Visit, platform: ConsoleGateway) -> None:
    """The simulated engine says the names of tools that the prompt names: here it is the prompt that comes back."""
    visitor = visit(platform.keys["demo"])
    page = visitor.open("/playground")
    page.get_by_label("Question").fill("<img src=x onerror=alert(1)> `</script><script>alert(2)</script> ${7*7}")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("The whole decision").wait_for()
    assert page.locator("#main img, #main script").count() == 0


def cost(platform: ConsoleGateway) -> Decimal:
    headers = {"authorization": f"Bearer {platform.admin_key}"}
    params = {"by": "tenant", "tenant": "demo"}
    answer = httpx.get(f"{platform.url}/admin/v1/costs", params=params, headers=headers, timeout=60)
    return sum((Decimal(row["cost_usd"]) for row in answer.raise_for_status().json()["data"]), Decimal(0))
