"""Limits and budgets as clients see them: headers, refusals that name the limit, and what is never exceeded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest

from pointsman.contracts.names import Header
from support.gateway import DEEP, FAST, Gateway, wait_for

HARD = Decimal("0.0003")
TENANTS: tuple[dict[str, Any], ...] = (
    {"name": "free"},
    {"name": "few", "limits": {"requests_per_minute": 3}},
    {"name": "short", "limits": {"output_tokens_per_minute": 60}},
    {"name": "single", "limits": {"concurrency": 1}},
    {"name": "poor", "budgets": {"daily": {"hard_usd": str(HARD)}}},
    {"name": "rich", "budgets": {"daily": {"hard_usd": 1000}}},
    {
        "name": "patient",
        "budgets": {"monthly": {"hard_usd": "0.000000001"}, "when_spent": "too_many_requests"},
    },
    {
        "name": "careful",
        "budgets": {"daily": {"soft_usd": "0.000001"}, "at_soft_mark": "degrade"},
    },
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=(FAST, DEEP), tenants=TENANTS) as running:
        yield running


def ask(gateway: Gateway, tenant: str, **more: Any) -> httpx.Response:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 40, **more}
    headers = {"authorization": f"Bearer {gateway.keys[tenant]}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", headers=headers, json=body, timeout=30)


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_a_tenant_without_limits_is_told_of_none(gateway: Gateway) -> None:
    answer = ask(gateway, "free")
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_requests_a_minute_are_told_of_and_held_to(gateway: Gateway) -> None:
    for left in (2, 1, 0):
        answer = ask(gateway, "few", stream=left == 1)
        assert answer.status_code == 200
        assert answer.headers[Header.LIMIT_REQUESTS] == "3"
        assert answer.headers[Header.REMAINING_REQUESTS] == str(left)
    reset = answer.headers[Header.RESET_REQUESTS]
    assert 30 < float(reset.removesuffix("s")) <= 60
    refused = ask(gateway, "few")
    assert refusal(refused) == (429, "rate_limit_exceeded", "requests_per_minute")
    assert 1 < int(refused.headers["retry-after"]) <= 20
    assert refused.headers[Header.REMAINING_REQUESTS] == "0"
    assert gateway.total("pointsman_limited_requests_total", tenant="few", limit="requests_per_minute") == 1


def test_tokens_are_set_aside_and_what_was_not_used_comes_back(gateway: Gateway) -> None:
    first = ask(gateway, "short")
    used = first.json()["usage"]["completion_tokens"]
    assert first.headers[Header.LIMIT_TOKENS] == "60"
    assert 60 - used <= int(first.headers[Header.REMAINING_TOKENS]) <= 65 - used  # one comes back a second
    assert refusal(ask(gateway, "short")) == (429, "rate_limit_exceeded", "output_tokens_per_minute")
    assert ask(gateway, "short", max_tokens=60 - used).status_code == 200


def test_one_request_at_a_time(gateway: Gateway) -> None:
    long = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "stream": True, "ignore_eos": True}
    key = {"authorization": f"Bearer {gateway.keys['single']}"}
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, headers=key, json={**long, "max_tokens": 6000}, timeout=30) as first:
        assert first.status_code == 200
        assert refusal(ask(gateway, "single")) == (429, "rate_limit_exceeded", "concurrency")
    wait_for(lambda: ask(gateway, "single").status_code == 200, "the place to be free", gateway.router)


def test_a_budget_is_spent_to_the_last_request_that_fits_and_no_further(gateway: Gateway) -> None:
    wait_for(lambda: ask(gateway, "poor", max_tokens=1).status_code == 200, "budgets to be known", gateway.router)

    def spend(number: int) -> tuple[Decimal, set[str]]:
        spent, codes = Decimal(0), set()
        while not codes & {"budget_spent"}:
            more = {"reasoning_effort": "high"} if number % 2 else {}
            answer = ask(gateway, "poor", stream=False, max_tokens=20, **more)
            if answer.status_code == 200:
                spent += Decimal(answer.headers[Header.COST_USD])
            else:
                codes.add(answer.json()["error"]["code"])
        return spent, codes

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(spend, range(8)))
    assert {code for _, codes in results for code in codes} <= {"budget_spent", "budget_reserved"}
    refused = ask(gateway, "poor", max_tokens=20)
    assert refusal(refused) == (402, "budget_spent", "daily")
    assert "US dollars" in refused.json()["error"]["message"]
    assert ask(gateway, "free").status_code == 200
    labels = {"tenant": "poor"}
    billed = Decimal(str(round(gateway.total("pointsman_cost_usd_total", **labels), 9)))
    assert sum(spent for spent, _ in results) <= billed <= HARD
    assert billed > Decimal("0.6") * HARD  # the last request that did not fit might have cost a third


def test_a_request_for_more_than_any_budget_is_refused_and_the_router_lives(gateway: Gateway) -> None:
    for most in (2**31 - 1, 2**63 - 1, 2**64 - 1, 2**70):
        answer = ask(gateway, "rich", max_tokens=most, n=16)
        expected = (402, "budget_spent", "daily") if most < 2**31 else (400, "invalid_value", "max_tokens")
        assert refusal(answer) == expected
    assert ask(gateway, "rich").status_code == 200


def test_who_asks_for_patience_says_until_when(gateway: Gateway) -> None:
    refused = ask(gateway, "patient")
    assert refusal(refused) == (429, "budget_spent", "monthly")
    assert 1 <= int(refused.headers["retry-after"]) <= 31 * 86_400


def test_from_a_soft_mark_on_nothing_thinks_that_need_not(gateway: Gateway) -> None:
    first = ask(gateway, "careful", reasoning_effort="high")
    assert first.headers[Header.MODE] == "think"
    second = ask(gateway, "careful", reasoning_effort="high")
    assert second.headers[Header.BUDGET] == "soft"
    assert (second.headers[Header.MODE], second.headers[Header.MODE_SOURCE]) == ("no_think", "budget")
    assert second.headers[Header.OVERRULED] == "client"
    assert second.status_code == 200
