"""Wakes those who look for changes in Redis as soon as one is made.

Between the watches and `store/growth.py`: one connection of the worker waits for all their streams. A watch looks
at its interval anyway, since what is told here may be missed; without a bell a change would wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from pointsman.store.growth import Growth, Known

PATIENCE = 1.0
"""Seconds for which Redis is asked to wait for a change: less than its answers may take."""

GATHER = 0.02
"""Seconds between two rings: what changes meanwhile is looked at together."""

AWAY = 1.0
"""Seconds until Redis is asked again after it has failed."""

Pause = Callable[[float], Awaitable[object]]
"""Waits for so many seconds, or until it is worth a look."""


class ChangeBell:
    """Rings for each stream that grows, while `follow` runs."""

    def __init__(self, redis: Redis) -> None:
        self._growth = Growth(redis)
        self._rung: dict[str, asyncio.Event] = {}

    def pause(self, stream: str, known: Known) -> Pause:
        """
        Waits like `asyncio.sleep`, but no longer than until `stream` has grown since it waited last. `known`: the
        revision that whoever waits has.
        """
        rung = self._rung[stream] = asyncio.Event()
        self._growth.add(stream, known)

        async def pause(seconds: float) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await rung.wait()
            rung.clear()

        return pause

    async def follow(self) -> None:
        """Ring until cancelled. Redis may go away: the watches say so."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            pause = 0.0
            try:
                for stream in await self._growth.next(PATIENCE):
                    self._rung[stream].set()
                    pause = GATHER
            except (RedisError, OSError):
                pause = AWAY
            if task.cancelling():
                return  # asked, because redis-py swallows a cancellation that comes while it waits for an answer
            await asyncio.sleep(pause)
