"""The cache as clients and operators see it: over HTTP, with SDKs, in the metrics, in the bill, by the command."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from typer.testing import CliRunner

from pointsman.cli.main import app
from pointsman.contracts.names import Env, Header, Metric
from support.gateway import Gateway, events, looked_up, wait_for

TENANTS = (
    {"name": "cached", "cache": {"enabled": True, "hit_price_share": 0.5}},
    {"name": "plain"},
    {
        "name": "limited",
        "limits": {"requests_per_minute": 1000, "output_tokens_per_minute": 4200},
        "cache": {"enabled": True, "hit_price_share": 1.0},
    },
    {
        "name": "budgeted",
        "budgets": {"daily": {"hard_usd": 1.0}},
        "cache": {"enabled": True, "hit_price_share": 1.0},
    },
)
ASKED: dict[str, Any] = {
    "model": "smollm2:no_think",
    "messages": [{"role": "user", "content": "Say it."}],
    "temperature": 0,
}
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), tenants=TENANTS) as gateway:
        yield gateway


def asked(gateway: Gateway, text: str, *, tenant: str = "cached", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {gateway.keys[tenant]}", **more.pop("headers", {})}
    body = {**ASKED, "messages": [{"role": "user", "content": text}], **more}
    return looked_up(
        lambda: httpx.post(gateway.url + PATH, json=body, headers=headers, timeout=60).raise_for_status()
    )


def test_a_crowd_is_answered_by_one_run_in_the_metrics_too(gateway: Gateway) -> None:
    engine = gateway.engines["fast"][0]
    looked_up(lambda: asked(gateway, "are you there?"))
    for attempt in range(10):
        engine.forget()
        before = gateway.total(Metric.TOKENS, tenant="cached")
        body = {**ASKED, "messages": [{"role": "user", "content": f"all at once {attempt}"}]}
        with gateway.client() as client, ThreadPoolExecutor(8) as pool:
            crowd = list(pool.map(lambda _: client.post(PATH, json=body).raise_for_status(), range(8)))  # noqa: B023
        if "bypass" not in {one.headers[Header.CACHE] for one in crowd}:
            break
        time.sleep(1.5)  # the machine is so busy that one of them went alone, for Redis took too long
    assert len(engine.received()) == 1
    assert len({one.json()["choices"][0]["message"]["content"] for one in crowd}) == 1
    assert sorted(one.headers[Header.CACHE] for one in crowd) == ["hit"] * 7 + ["miss"]
    costs = {one.headers[Header.CACHE]: one.headers[Header.COST_USD] for one in crowd}
    assert float(costs["hit"]) == pytest.approx(float(costs["miss"]) / 2, abs=1e-9)
    usage = crowd[0].json()["usage"]
    assert all(one.json()["usage"] == usage for one in crowd)
    assert gateway.total(Metric.TOKENS, tenant="cached") == before + usage["total_tokens"]
    assert gateway.total(Metric.CACHE, tenant="cached", status="hit") >= 7
    assert gateway.total(Metric.CACHE_SAVED, tenant="cached") > 0
    assert Header.CACHE not in asked(gateway, "all at once 0", tenant="plain").headers


def test_sdks_get_streams_and_repeated_requests_from_the_record(gateway: Gateway) -> None:
    client = openai.OpenAI(base_url=gateway.url + "/v1", api_key=gateway.keys["cached"])

    def streamed() -> tuple[str, Any]:
        options: Any = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
        chunks = list(client.chat.completions.create(**options))
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]), chunks[-1].usage

    wait_for(lambda: streamed() == streamed(), "two from one record")
    raw = asked(gateway, "Say it.", stream=True, headers={Header.INCLUDE_COST: "true"})
    assert raw.headers[Header.CACHE] == "hit"
    assert float(events(raw.text)[-2]["pointsman"]["cost_usd"]) > 0
    keyed = {Header.IDEMPOTENCY_KEY: "order-66"}
    first = asked(gateway, "buy", tenant="plain", temperature=1, headers=keyed)
    again = asked(gateway, "buy", tenant="plain", temperature=1, headers=keyed)
    assert first.content == again.content
    assert again.headers[Header.REPLAYED] == "true"
    assert float(again.headers[Header.COST_USD]) == 0
    with pytest.raises(openai.UnprocessableEntityError, match=Header.IDEMPOTENCY_KEY):
        client.with_options(api_key=gateway.keys["plain"]).chat.completions.create(**ASKED, extra_headers=keyed)


@pytest.mark.parametrize("tenant", ["limited", "budgeted"])
def test_hits_are_billed_beside_limits_and_budgets_and_use_no_tokens(gateway: Gateway, tenant: str) -> None:
    told = [asked(gateway, "again", tenant=tenant, max_tokens=64) for _ in range(80)]
    assert [one.headers[Header.CACHE] for one in told] == ["miss"] + ["hit"] * 79  # 80 times 64 tokens are 5120
    assert len({one.headers[Header.COST_USD] for one in told}) == 1
    assert float(told[-1].headers[Header.COST_USD]) > 0


def test_a_client_that_leaves_and_comes_back_with_its_key_gets_the_answer(gateway: Gateway) -> None:
    engine = gateway.engines["fast"][0]
    engine.forget()
    engine.faults({"kind": "hang", "seconds": 2.5})
    keyed = {Header.IDEMPOTENCY_KEY: "impatient"}
    headers = {"authorization": f"Bearer {gateway.keys['plain']}", **keyed}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(gateway.url + PATH, json=ASKED, headers=headers, timeout=1.0)
    answer = asked(gateway, "Say it.", tenant="plain", headers=keyed)
    assert answer.headers[Header.REPLAYED] == "true"
    assert len(engine.received()) == 1


def test_a_stream_outlives_the_client_it_was_made_for(gateway: Gateway) -> None:
    engine = gateway.engines["fast"][0]
    headers = {"authorization": f"Bearer {gateway.keys['cached']}"}
    for attempt in range(5):
        engine.forget()
        engine.faults({"kind": "slow", "factor": 20})
        text = f"slowly {attempt}"
        body = {**ASKED, "messages": [{"role": "user", "content": text}], "stream": True}
        with httpx.stream("POST", gateway.url + PATH, json=body, headers=headers, timeout=60) as first:
            begun = first.iter_raw()
            seen = next(begun)
            with httpx.stream("POST", gateway.url + PATH, json=body, headers=headers, timeout=60) as second:
                if (first.headers[Header.CACHE], second.headers[Header.CACHE]) != ("miss", "hit"):
                    time.sleep(1.5)  # the machine is so busy that one of them went alone, for Redis took too long
                    continue
                told = [next(pieces := second.iter_raw())]
                begun.close()  # and with it the connection
                told += pieces
        break
    else:
        pytest.fail("no request was shared")
    assert len(engine.received()) == 1
    later = asked(gateway, text, stream=True)
    assert later.headers[Header.CACHE] == "hit"
    heard, again = events(b"".join(told).decode()), events(later.text)
    assert [one["choices"] for one in heard[:-1]] == [one["choices"] for one in again[:-1]]
    assert again[-1] == "[DONE]"
    assert len(again) > 20
    assert seen.count(b"data: ") < 20  # what the one that left had got of it


def test_operators_see_and_invalidate(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(gateway, "to be forgotten").headers[Header.CACHE] == "miss"
    assert asked(gateway, "to be forgotten").headers[Header.CACHE] == "hit"
    monkeypatch.setenv(Env.URL, gateway.url)
    monkeypatch.setenv(Env.ADMIN_KEY, gateway.admin_key)

    def command(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["cache", *words])
        assert result.exit_code == code, result.output
        return result.output

    there_is = json.loads(command("show", "--tenant", "cached", "--json"))
    assert there_is["answers"] >= 1
    assert "answers" in command("show")
    assert "0 answers deleted" in command("invalidate", "--tenant", "cached", "--model", "another")
    deleted = re.search(r"(\d+) answers deleted", command("invalidate", "--tenant", "cached"))
    assert deleted
    assert int(deleted[1]) >= there_is["answers"]
    wait_for(lambda: asked(gateway, "to be forgotten").headers[Header.CACHE] == "miss", "routers to hear")
    command("invalidate", "--all")
    command("invalidate", code=2)
    command("invalidate", "--all", "--model", "smollm2", code=2)
    command("invalidate", "--tenant", "nobody", code=1)
    admin = httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {gateway.admin_key}"})
    audited = admin.get("/admin/v1/audit").raise_for_status().json()["data"]
    assert {"cache:tenant:cached", "cache:all"} <= {row["object"] for row in audited}
    both = admin.get("/admin/v1/cache", params={"tenant": "cached", "group": "g"})
    assert (both.status_code, both.json()["error"]["param"]) == (400, "group")
    assert admin.get("/admin/v1/cache", params={"tenant": "no such"}).status_code == 400
    stranger = {"authorization": f"Bearer {gateway.keys['cached']}"}
    assert httpx.delete(gateway.url + "/admin/v1/cache", headers=stranger).status_code == 401


def test_hits_take_less_time_than_any_engine_would(gateway: Gateway) -> None:
    times: dict[str, list[float]] = {"hit": [], "bypass": [], "miss": []}  # one may have been forgotten just now
    with gateway.client() as client:
        for number in range(60):
            headers = {Header.CACHE_CONTROL: "bypass"} if number % 2 else {}
            began = time.perf_counter()
            answer = client.post(PATH, json=ASKED, headers=headers).raise_for_status()
            times[answer.headers[Header.CACHE]].append(time.perf_counter() - began)
    assert len(times["hit"]) > 10
    assert statistics.median(times["hit"]) < statistics.median(times["bypass"]) - 0.03  # the engine takes 60 ms
