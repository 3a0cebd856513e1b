"""The watch over the replicas ends when it is told to, whatever Redis' client makes of that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from pointsman.contracts.config import Config
from pointsman.router.fleet import Fleet
from pointsman.router.metrics import Metrics
from pointsman.store.replicas import Reading

POOL = {"name": "p", "model": "m", "modes": ["think"], "engine": "simulated", "prices": {"input": 1, "output": 2}}
NOTHING = Reading((), frozenset(), None)


class DeafRegistry:
    """Answers in its own time, and swallows a cancellation, as redis-py does at most of its waits."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def read(self) -> Reading:
        self.asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return NOTHING
        return NOTHING


def test_the_watch_ends_although_redis_swallows_the_cancellation(tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = DeafRegistry()
        metrics = Metrics(tmp_path, lambda seconds, flush: None)
        config = Config.model_validate({"pools": [POOL]})
        watch = asyncio.create_task(Fleet(config, cast(Any, registry), metrics, secret="s").watch())
        await registry.asked.wait()
        watch.cancel()
        await asyncio.wait([watch], timeout=5)
        assert watch.done()

    asyncio.run(scenario())
