"""Wait until a stream in Redis grows: how a reader hears of a change at once, not when it looks next.

Beside the counted copies, whose streams these are. What is heard is no more than that it is time to look: an
entry that nobody waited for just then is not told again, so readers look by the clock as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from redis.asyncio import Redis

NEWEST = "$"
"""Stands for whatever is the last entry of a stream when Redis is asked."""

_AT_ONCE = 1000
"""Entries of a stream that are told of at a time."""


class Growth:
    """Knows up to where each of `streams` was seen."""

    def __init__(self, redis: Redis, streams: Iterable[str]) -> None:
        self._redis = redis
        self._seen: dict[str, str] = dict.fromkeys(streams, NEWEST)

    async def next(self, seconds: float) -> list[str]:
        """
        The streams that have grown since the last call, which are waited for at most `seconds`; empty: none has.

        Raises `redis.exceptions.RedisError` where Redis fails.
        """
        block = max(1, int(seconds * 1000))
        told = cast(Any, await self._redis.xread(cast(Any, self._seen), count=_AT_ONCE, block=block))
        if not told:
            # Where a stream has begun anew, its numbers are below those that were seen.
            self._seen = dict.fromkeys(self._seen, NEWEST)
            return []
        for stream, entries in told:
            self._seen[stream.decode()] = entries[-1][0].decode()
        return [stream.decode() for stream, _ in told]
