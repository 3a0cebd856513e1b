"""The watch over the replicas ends when it is told to, whatever Redis' client makes of that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from pointsman.router.fleet import Fleet
from pointsman.store.replicas import Reading
from support.fleets import NOTHING, config_with, metrics_in


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
        config = config_with(router={"registry_interval": 60.0})
        fleet = Fleet(config, cast(Any, registry), metrics_in(tmp_path), secret="s")
        watch = asyncio.create_task(fleet.watch())
        await registry.asked.wait()
        watch.cancel()
        await asyncio.wait([watch], timeout=5)
        assert watch.done()

    asyncio.run(scenario())
