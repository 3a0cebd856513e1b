"""Replicas follow what the routers have to do: real Ray Serve and a real gateway, around simulated engines."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from pointsman.contracts.names import Env
from pointsman.store.replicas import Replica, registered
from support import ray_pools
from support.gateway import DEEP, FAST, SECRET, Gateway, Process, events, wait_for

pytestmark = pytest.mark.timeout(300)

TESTS = Path(__file__).parents[1]
CHAT = "/v1/chat/completions"

NAP: dict[str, Any] = {
    **FAST,
    "name": "nap",
    "autoscaling": {"min_replicas": 0, "max_replicas": 1, "downscale_delay": 1, "downscale_to_zero_delay": 2},
    "wake_timeout": 60,
}
WIDE: dict[str, Any] = {
    **DEEP,
    "name": "wide",
    "max_ongoing_requests": 4,
    "autoscaling": {
        "min_replicas": 1,
        "max_replicas": 3,
        "target_requests": 2,
        "upscale_delay": 1,
        "downscale_delay": 2,
    },
    "engine_args": {"simulated": {"decode_speed": 12, "answer_tokens": 60, "thinking_tokens": 20}},
}


class Cluster:
    """A gateway, and the Ray that holds its replicas."""

    def __init__(self, gateway: Gateway, ray: Process) -> None:
        self.gateway = gateway
        self.ray = ray

    def replicas(self, pool: str) -> list[Replica]:
        with Redis.from_url(self.gateway.redis_url) as redis:
            return [replica for replica in registered(redis) if replica.pool == pool]

    def until(self, condition: Any, what: str, *, seconds: float = 40) -> None:
        wait_for(condition, what, self.ray, self.gateway.router, seconds=seconds)

    def ask(self, mode: str, *, stream: bool = False, text: str = "Hello") -> httpx.Response:
        with self.gateway.client(headers={"x-pointsman-mode": mode}) as client:
            client.timeout = httpx.Timeout(90)
            body = {"model": "smollm2", "messages": [{"role": "user", "content": text}], "stream": stream}
            return client.post(CHAT, json=body)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("g")
    with Gateway(folder, pools=[NAP, WIDE], copies={"nap": 0, "wide": 0}, waits=False) as gateway:
        argv = [sys.executable, "-m", "support.ray_pools", str(gateway.config), str(folder / "ray"), "r1"]
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        env = {Env.REPLICA_SECRET: SECRET, Env.REDIS_URL: gateway.redis_url, "PYTHONPATH": path}
        ray = Process(argv, folder / "ray.log", env)
        try:
            wait_for(lambda: ray_pools.READY in ray.output(), "the pools in Ray", ray, seconds=120)
            wait_for(lambda: gateway.startupz() == 200, "the router to start", ray, gateway.router)
            yield Cluster(gateway, ray)
            assert ray.stop(signal.SIGTERM, 30) == 0
        finally:
            ray.stop(signal.SIGKILL)


def test_a_pool_that_sleeps_is_woken_by_a_request_and_goes_to_sleep_again(cluster: Cluster) -> None:
    assert cluster.replicas("nap") == []
    state = cluster.gateway.readyz()
    assert (state["http"], state["status"], state["pools"]["nap"]["asleep"]) == (200, "ready", True)
    began = time.monotonic()
    answer = cluster.ask("no_think")
    assert answer.status_code == 200
    assert answer.headers["x-pointsman-pool"] == "nap"
    print(f"woken and answered in {time.monotonic() - began:.1f} s")
    (replica,) = cluster.replicas("nap")
    assert replica.revision == "r1"
    cluster.until(lambda: not cluster.replicas("nap"), "the pool to go to sleep")
    assert cluster.ask("no_think").status_code == 200


def test_replicas_follow_the_demand_and_no_stream_is_cut_when_they_go(cluster: Cluster) -> None:
    assert len(cluster.replicas("wide")) == 1
    with ThreadPoolExecutor(12) as threads:
        asked = [
            threads.submit(cluster.ask, "think", stream=True, text=f"Question {number}") for number in range(12)
        ]
        cluster.until(lambda: len(cluster.replicas("wide")) == 3, "three replicas")
        answers = [one.result(90) for one in asked]
    for answer in answers:
        assert answer.status_code == 200
        *_, last, end = events(answer.text)
        assert end == "[DONE]"
        assert last["choices"][0]["finish_reason"] == "stop"
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(cluster.ask, "think", stream=True, text=f"Still {number}") for number in range(2)]
        cluster.until(lambda: len(cluster.replicas("wide")) == 1, "one replica")
        assert [events(one.result(90).text)[-1] for one in asked] == ["[DONE]"] * 2
