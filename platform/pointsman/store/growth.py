"""Wait until a stream in Redis grows: how a reader hears of a change at once, not when it looks next.

Beside the counted copies, whose streams these are. What is heard is no more than that it is time to look: of a
stream that has begun anew nothing is heard for a moment, so readers look by the clock as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from redis.asyncio import Redis

Known = Callable[[], str | None]
"""The revision up to which a reader has read, `CHAIN.NUMBER`; None where it knows none."""

_AT_ONCE = 1000
"""Entries of a stream that are told of at a time."""


class Growth:
    """Knows up to where each stream was seen."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known: dict[str, Known] = {}
        self._seen: dict[str, str] = {}

    def add(self, stream: str, known: Known) -> None:
        """Wait for `stream` too, from what its reader knows on."""
        self._known[stream] = known

    async def next(self, seconds: float) -> list[str]:
        """
        The streams that have grown since the last call, which are waited for at most `seconds`; empty: none has.

        Raises `redis.exceptions.RedisError` where Redis fails.
        """
        if not self._seen:
            self._seen = {stream: _entry_of(known()) for stream, known in self._known.items()}
        block = max(1, int(seconds * 1000))
        told = cast(Any, await self._redis.xread(cast(Any, self._seen), count=_AT_ONCE, block=block))
        if not told:
            self._seen = {}  # where a stream has begun anew, its numbers are below those that were seen
            return []
        for stream, entries in told:
            self._seen[stream.decode()] = entries[-1][0].decode()
        return [stream.decode() for stream, _ in told]


def _entry_of(revision: str | None) -> str:
    """The last entry of the stream that belongs to `revision`; whatever is the last one where none is known."""
    number = (revision or "").partition(".")[2]
    return f"{number}-0" if number.isdecimal() else "$"
