"""A pool that sleeps, as its clients and whoever starts replicas see it; and two revisions side by side."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from redis import Redis

from pointsman.store.demand import STALE, Demand, DemandReader
from pointsman.store.live import LiveState
from pointsman.store.revisions import RevisionReport, revisions_of
from support.gateway import DEEP, FAST, Gateway, events, looked_up, wait_for

CHAT = "/v1/chat/completions"
HELLO = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}
SCALED: dict[str, Any] = {"autoscaling": {"min_replicas": 0, "max_replicas": 2}, "place_timeout": 0.2}


TENANTS: tuple[dict[str, Any], ...] = (
    {"name": "demo"},
    {
        "name": "flexible",
        "cache": {"enabled": True},
        "policy": {
            "on_unavailable": "substitute",
            "rules": [{"name": "finance", "match": {"metadata": {"team": "finance"}}, "mode": "think"}],
        },
    },
)


class Router:
    """A gateway whose pools sleep, and what others read of it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.redis = Redis.from_url(gateway.redis_url)

    def demand(self, pool: str) -> Demand | None:
        return DemandReader(self.redis, pool).read()

    def revisions(self, pool: str) -> dict[str, RevisionReport]:
        return revisions_of(LiveState(self.redis).routers(), pool)

    def ask(self, mode: str, *, tenant: str = "demo", **fields: Any) -> httpx.Response:
        headers = {"x-pointsman-mode": mode, "authorization": f"Bearer {self.gateway.keys[tenant]}"}
        with self.gateway.client(headers=headers) as client:
            return client.post(CHAT, json={**HELLO, **fields})


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    pools = [{**FAST, **SCALED, "wake_timeout": 60.0}, {**DEEP, **SCALED, "wake_timeout": 1.5}]
    folder = tmp_path_factory.mktemp("gw")
    with Gateway(folder, pools=pools, tenants=TENANTS, copies={"fast": 0, "deep": 0}) as gateway:
        yield Router(gateway)


def test_a_router_whose_pools_all_sleep_is_ready_and_raises_demand_for_who_asks(router: Router) -> None:
    state = router.gateway.readyz()
    assert (state["http"], state["status"], state["missing"]) == (200, "ready", [])
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(router.ask, "no_think", stream=True)
        wait_for(lambda: (router.demand("fast") or Demand()).waiting == 1, "the demand")
        asked = router.demand("fast")
        assert asked is not None
        assert asked.waiting_tokens >= 1
        assert router.demand("deep") == Demand()
        router.gateway.start_engine("fast", "--revision", "one")
        answer = held.result(90)
    assert answer.status_code == 200
    assert events(answer.text)[-1] == "[DONE]"
    wait_for(lambda: router.demand("fast") == Demand(), "the demand to be gone")
    assert router.gateway.readyz()["pools"]["fast"]["asleep"] is False


def test_a_pool_that_does_not_wake_is_503_after_its_time(router: Router) -> None:
    began = time.monotonic()
    answer = router.ask("think")
    assert answer.status_code == 503
    assert 1.4 <= time.monotonic() - began < 25
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["error"]["code"] == "pool_unavailable"
    assert "was asleep" in answer.json()["error"]["message"]


def test_where_the_policy_allows_it_the_other_mode_answers_in_the_end(router: Router) -> None:
    fields = {"temperature": 0, "stream": True}
    with ThreadPoolExecutor(3) as threads:
        equal = [threads.submit(router.ask, "think", tenant="flexible", **fields) for _ in range(2)]
        finance = threads.submit(router.ask, "think", tenant="flexible", metadata={"team": "finance"})
        answers = [one.result(90) for one in equal]
        assert finance.result(90).status_code == 503
    for answer in answers:
        assert answer.status_code == 200
        headers = {name: answer.headers[f"x-pointsman-{name}"] for name in ("mode", "mode-source", "pool")}
        assert headers == {"mode": "no_think", "mode-source": "policy", "pool": "fast"}
        assert answer.headers["x-pointsman-overruled"] == "client"
        assert events(answer.text)[-1] == "[DONE]"
    router.gateway.start_engine("deep")
    wait_for(lambda: router.gateway.readyz()["pools"]["deep"]["can_answer"], "the other pool")
    answer = looked_up(lambda: router.ask("think", tenant="flexible", **fields))
    assert (answer.headers["x-pointsman-mode"], answer.headers["x-pointsman-cache"]) == ("think", "miss")
    router.gateway.engines["deep"][0].process.stop()
    wait_for(lambda: router.gateway.readyz()["pools"]["deep"]["asleep"], "it to sleep again")


def test_how_each_revision_fares_is_told_by_every_router_and_shown_as_metrics(router: Router) -> None:
    labels = {"pool": "fast", "model": "smollm2", "revision": "one"}
    counters = [f"pointsman_revision_{what}_total" for what in ("requests", "errors", "streams")]
    requests, errors, streams = (int(router.gateway.total(counter, **labels)) for counter in counters)
    for _ in range(3):
        assert router.ask("no_think", stream=True).status_code == 200
    router.gateway.engines["fast"][0].faults({"kind": "error"})
    assert router.ask("no_think").status_code == 200  # at the second try

    def heard() -> bool:
        one = router.revisions("fast").get("one")
        return one is not None and one.requests >= requests + 5

    wait_for(heard, "the router to tell")
    one = router.revisions("fast")["one"]
    told = (one.requests - requests, one.errors - errors, one.streams - streams)
    assert (one.replicas, one.running, one.weight, *told) == (1, 0, None, 5, 1, 3)
    assert one.ttft_mean is not None
    assert one.ttft_p95 is not None
    assert 0 < one.ttft_mean <= 2 * one.ttft_p95
    assert [router.gateway.total(counter, **labels) for counter in counters] == [
        one.requests,
        one.errors,
        one.streams,
    ]
    assert router.gateway.total("pointsman_revision_replicas", **labels) == 1


def test_a_router_that_is_killed_raises_no_demand_for_long(router: Router) -> None:
    router.gateway.engines["fast"][0].process.stop()
    wait_for(lambda: router.gateway.readyz()["pools"]["fast"]["asleep"], "it to sleep again")
    reader = DemandReader(router.redis, "fast")
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(router.ask, "no_think")
        wait_for(lambda: (reader.read() or Demand()).waiting == 1, "the demand")
        router.gateway.router.stop(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            held.result(60)
    killed = time.monotonic()
    wait_for(lambda: reader.read() is None, "the demand to be stale")
    assert time.monotonic() - killed > STALE - 2
    router.gateway.start_router()
    wait_for(lambda: reader.read() == Demand(), "its successor to tell", router.gateway.router)
    router.gateway.router.stop(signal.SIGTERM)
    assert reader.read() is None, "its word is withdrawn"
