"""One gateway before engines that send what they are told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.gateway import Gateway
from support.scripted import Bench, ScriptedEngine

MAX_RESPONSE = 300_000


def pool(name: str, *engines: ScriptedEngine, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "served_model_name": "served",
        "modes": ["no_think", "think"],
        "engine": "openai",
        "family": "qwen3",
        "reasoning_parser": "qwen3",
        "urls": [engine.url for engine in engines],
        "prices": {"input": 1, "output": 1},
        **more,
    }


@pytest.fixture(scope="session")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with ScriptedEngine() as one, ScriptedEngine() as left, ScriptedEngine() as right, ScriptedEngine() as quick:
        pools = [
            pool("one", one, place_timeout=20),
            pool("two", left, right, place_timeout=20),
            pool("quick", quick, first_byte_timeout=1, answer_timeout=1, idle_timeout=1),
        ]
        router = {"max_response_bytes": MAX_RESPONSE}
        with Gateway(tmp_path_factory.mktemp("up"), pools=pools, router=router) as gateway:
            yield Bench(gateway, one, (left, right), quick)


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    for engine in (shared_bench.one, *shared_bench.two, shared_bench.quick):
        engine.forget()
    return shared_bench
