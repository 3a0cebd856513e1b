"""A pool that is full: who is served, who is sent away, and what operators see of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from pointsman.cli.main import app
from pointsman.contracts.names import Env, Header, Metric
from support.gateway import Gateway, wait_for

EASY = "What is the capital of France?"
BODY = {"model": "smollm2:no_think", "messages": [{"role": "user", "content": EASY}]}


def admin(gateway: Gateway, path: str, **options: Any) -> Any:
    """What an operator reads at `path`."""
    headers = {"authorization": f"Bearer {gateway.admin_key}"}
    method = "POST" if "json" in options else "GET"
    answer = httpx.request(method, f"{gateway.url}/admin/v1/{path}", headers=headers, timeout=20, **options)
    return answer.raise_for_status().json()


async def flood(gateway: Gateway, counts: dict[str, int], ended: list[tuple[str, int]]) -> None:
    """All these requests at once; `ended` gets tenant and status of each, in the order in which they end."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=200, limits=limits) as client:

        async def one(tenant: str) -> None:
            headers = {"authorization": f"Bearer {gateway.keys[tenant]}"}
            answer = await client.post("/v1/chat/completions", json=BODY, headers=headers)
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "5"
                assert answer.json()["error"]["code"] == "pool_unavailable"
            ended.append((tenant, answer.status_code))

        await asyncio.gather(*(one(tenant) for tenant, count in counts.items() for _ in range(count)))


@contextmanager
def held(gateway: Gateway) -> Iterator[None]:
    """Both places of the pool are taken until the end of the block, however long others take to come."""
    body = {**BODY, "stream": True, "ignore_eos": True, "max_tokens": 6000}
    with ExitStack() as stack:
        client = stack.enter_context(gateway.client())
        streams = [stack.enter_context(client.stream("POST", "/v1/chat/completions", json=body)) for _ in range(2)]
        assert [answer.status_code for answer in streams] == [200, 200]
        yield


async def until_waiting(gateway: Gateway, count: int) -> None:
    """Wait until so many wait for a place."""

    def wait() -> None:
        wait_for(lambda: gateway.readyz()["pools"]["fast"]["waiting"] == count, f"{count} to wait", gateway.router)

    await asyncio.to_thread(wait)


def test_two_that_flood_get_what_their_weights_say(gateway: Gateway) -> None:
    ended: list[tuple[str, int]] = []

    async def scenario() -> None:
        with held(gateway):
            both = asyncio.create_task(flood(gateway, {"plain": 20, "favoured": 20}, ended))
            await until_waiting(gateway, 40)
        await both

    asyncio.run(scenario())
    assert Counter(status for _, status in ended) == {200: 40}
    among_first = Counter(tenant for tenant, _ in ended[:24])
    # both wait until the favoured one's twenty are through: three of four places are its own
    assert among_first["favoured"] >= 15
    assert among_first["plain"] >= 4


def test_the_lowest_priority_is_sent_away_first_and_everybody_else_answered(gateway: Gateway) -> None:
    before = gateway.total(Metric.SHED, pool="fast", priority="2")

    async def scenario() -> list[tuple[str, int]]:
        ended: list[tuple[str, int]] = []
        with held(gateway):
            first = asyncio.create_task(flood(gateway, {"late": 36}, ended))
            await until_waiting(gateway, 36)  # they are there before the others
            second = asyncio.create_task(flood(gateway, {"plain": 30}, ended))
            await asyncio.to_thread(wait_for, lambda: len(ended) == 26, "those to be sent away that have no seat")
        await asyncio.gather(first, second)
        return ended

    ended = asyncio.run(scenario())
    counts = Counter(ended)
    assert counts["plain", 200] == 30
    assert counts["late", 503] >= 5
    assert counts["late", 200] >= 4, "each priority keeps a few seats, and gets a turn now and then"
    assert gateway.total(Metric.SHED, pool="fast", priority="2") - before == counts["late", 503]


def test_operators_see_pools_routers_and_who_waits(gateway: Gateway) -> None:
    async def scenario() -> None:
        ended: list[tuple[str, int]] = []
        seen: dict[str, Any] = {}

        def full() -> bool:
            answer = admin(gateway, "pools")
            seen.update({pool["pool"]: pool for pool in answer["data"]}["fast"])
            return bool(seen["waiting"] == 40)

        with held(gateway):
            task = asyncio.create_task(flood(gateway, {"demo": 40}, ended))
            await asyncio.to_thread(wait_for, full, "all to wait", gateway.router)
        await task
        assert seen["state"] == "full"
        assert seen["running"] == seen["places"] == 2
        assert 0 < seen["waiting"] <= 40
        assert seen["waiting_tokens"] >= seen["waiting"]
        (replica,) = seen["replicas"]
        assert replica["states"] == {"ready": 1}
        assert replica["registered"]
        assert replica["running"] == 2

    asyncio.run(scenario())
    answer = admin(gateway, "live")
    (router,) = answer["routers"]
    assert (router["status"], router["troubles"], answer["troubles"]) == ("ready", {}, {})
    assert answer["parts"]["admin"] == {}
    (rate,) = (rate for rate in answer["rates"] if rate["pool"] == "fast" and rate["mode"] == "no_think")
    assert rate["requests_per_second"] > 0.5
    assert 0 < rate["mean_seconds"] < 30
    assert rate["output_tokens_per_second"] > 0
    assert answer["spared"]["requests"] >= 0

    wait_for(lambda: admin(gateway, "live")["in_flight"] == 0, "all to have ended")
    done = {pool["pool"]: pool for pool in admin(gateway, "pools")["data"]}
    assert [done["fast"][name] for name in ("state", "running", "waiting", "running_tokens", "waiting_tokens")] == [
        *("ready", 0, 0, 0, 0)
    ]
    assert gateway.total(Metric.WAITING, pool="fast") == gateway.total(Metric.RUNNING, pool="fast") == 0


@pytest.mark.parametrize("path", ["pools", "live", "policies/simulate", "policies/sweep"])
def test_no_tenant_sees_them(gateway: Gateway, path: str) -> None:
    for key in (gateway.key, "pk-nobody"):
        headers = {"authorization": f"Bearer {key}"}
        method = "POST" if "policies" in path else "GET"
        assert httpx.request(method, f"{gateway.url}/admin/v1/{path}", headers=headers).status_code == 401


def cli(gateway: Gateway, *arguments: str) -> str:
    told = CliRunner().invoke(app, arguments, env={Env.URL: gateway.url, Env.ADMIN_KEY: gateway.admin_key})
    assert told.exit_code == 0, told.output
    return told.stdout


def test_the_command_shows_pools(gateway: Gateway) -> None:
    lines = cli(gateway, "pools").splitlines()
    assert lines[0].split()[:5] == ["POOL", "MODEL", "MODES", "STATE", "REPLICAS"]
    assert [line.split()[:5] for line in lines[1:]] == [
        ["fast", "smollm2", "no_think", "ready", "1/1"],
        ["deep", "smollm2", "think", "ready", "1/1"],
    ]
    assert {pool["pool"] for pool in json.loads(cli(gateway, "pools", "--json"))["data"]} == {"fast", "deep"}


def test_another_threshold_is_tried_on_the_decisions_that_were_made(gateway: Gateway) -> None:
    headers = {"authorization": f"Bearer {gateway.keys['asked']}"}
    questions = [EASY, "Prove that the square root of 2 is irrational, step by step."]
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
        for number in range(20):
            body = {**BODY, "model": "smollm2", "messages": [{"role": "user", "content": questions[number % 2]}]}
            client.post("/v1/chat/completions", json=body).raise_for_status()
        body["model"] = "smollm2:think"
        probability = float(client.post("/v1/chat/completions", json=body).headers[Header.THINK_PROBABILITY])
    assert 0.5 < probability < 1

    def simulated(threshold: float) -> Any:
        return admin(
            gateway, "policies/simulate", json={"tenant": "asked", "threshold": threshold, "decisions": 21}
        )

    wait_for(lambda: simulated(0.5)["decisions"] == 21, "the records")
    same = simulated(0.5)
    assert (same["to_think"], same["to_no_think"], same["estimate"]) == (0, 0, True)
    assert same["cost"]["actual"] == same["cost"]["simulated"] > 0
    assert same["cost"]["decisions"] == same["seconds"]["decisions"] == 21
    none = simulated(1.0)
    assert (none["to_think"], none["to_no_think"], none["untouched"]) == (0, 10, {"client": 1})
    assert none["think_share"] == {"actual": pytest.approx(11 / 21), "simulated": pytest.approx(1 / 21)}
    assert none["cost"]["simulated"] < none["cost"]["actual"]
    assert none["seconds"]["simulated"] < none["seconds"]["actual"]
    every = simulated(0.0)
    assert every["to_think"] == 10
    assert every["cost"]["simulated"] > every["cost"]["actual"]
    swept = admin(gateway, "policies/sweep", json={"tenant": "asked", "decisions": 21})
    assert (sum(swept["histogram"]), swept["decisions"], swept["present_threshold"]) == (20, 21, 0.5)
    assert [each["threshold"] for each in swept["thresholds"]] == [step / 100 for step in range(101)]
    for each, one in zip(swept["thresholds"][::50], (every, same, none), strict=True):
        assert each["think_share"] == pytest.approx(one["think_share"]["simulated"])
        assert {name: each[name] for name in ("to_think", "cost")} == {
            name: one[name] for name in ("to_think", "cost")
        }
    told = cli(gateway, "policies", "simulate", "asked", "--threshold", "1.0", "--last", "21")
    assert "0 to think, 10 to no_think" in told
    assert "An estimate" in told


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"tenant": "nobody", "threshold": 0.5}, 404, None),
        ({"tenant": "demo", "threshold": 1.5}, 400, "threshold"),
        ({"tenant": "demo", "threshold": 0.5, "decisions": 0}, 400, "decisions"),
        ({"tenant": "demo", "threshold": 0.5, "decisions": 10_001}, 400, "decisions"),
        ({"tenant": "demo", "threshold": 0.5, "last": 5}, 400, "last"),
        ({"threshold": 0.5}, 400, "tenant"),
    ],
)
def test_what_can_not_be_tried_is_refused_by_its_field(
    gateway: Gateway, body: dict[str, Any], status: int, field: str | None
) -> None:
    headers = {"authorization": f"Bearer {gateway.admin_key}"}
    answer = httpx.post(f"{gateway.url}/admin/v1/policies/simulate", json=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == field


def test_pools_of_the_configuration_are_changed_there_alone_and_others_must_agree_with_them(
    gateway: Gateway,
) -> None:
    headers = {"authorization": f"Bearer {gateway.admin_key}"}
    with httpx.Client(base_url=f"{gateway.url}/admin/v1/pools/", headers=headers, timeout=20) as client:
        body = {
            "model": "smollm2",
            "modes": ["no_think"],
            "engine": "simulated",
            "prices": {"input": 9, "output": 9},
        }
        for method, path in (("PUT", "fast"), ("PUT", "fast/traffic"), ("DELETE", "fast")):
            answer = client.request(method, path, json=body if path == "fast" and method == "PUT" else {"v1": 1})
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "managed_elsewhere")
        shown = client.get("fast").raise_for_status()
        assert (shown.headers["etag"], shown.json()["managed_by"]) == ('"0"', "file")
        answer = client.put("dearer?twins=reprice", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prices")
