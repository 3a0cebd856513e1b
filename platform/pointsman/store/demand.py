"""What the routers have for a pool to do: each tells it every second; who sets the number of replicas reads it.

Stands in the store because the routers write what Ray's controller reads, and neither knows the other. One hash for
each pool, so that a reader gets a few lines and not the reports of all routers. A router that is gone is missed
because its number no longer grows, which needs no two clocks that agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, NamedTuple

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.names import RedisKey

INTERVAL = 1.0
"""Seconds between two words of a router about a pool that has something to do, or had a moment ago."""

REPEATED = 2.0
"""Seconds after which it says again that a pool has nothing to do."""

STALE = 5.0
"""Seconds after which what a router said last, and has not said again, counts no more."""

_KEPT = 60
"""Seconds for which what was said is kept, where no router says anything more."""


class Demand(NamedTuple):
    """What a pool has to do: requests that run and wait, and the tokens of output they are predicted to cost."""

    running: int = 0
    waiting: int = 0
    running_tokens: int = 0
    waiting_tokens: int = 0

    @property
    def requests(self) -> int:
        return self.running + self.waiting

    @property
    def tokens(self) -> int:
        return self.running_tokens + self.waiting_tokens


class DemandWriter:
    """What one run of a router tells. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis, run: str) -> None:
        self._redis = redis
        self._run = run
        self._number = 0
        self._told: dict[str, tuple[float, Demand]] = {}

    async def tell(self, demands: Mapping[str, Demand]) -> None:
        """`demands` by pool, all there are; what was said a moment ago, and is nothing, is not said again."""
        now = monotonic()
        self._number += 1
        due = {}
        for pool, demand in demands.items():
            told = self._told.get(pool)
            if told is None or any(demand) or any(told[1]) or now - told[0] >= REPEATED:
                due[pool] = demand
        gone = self._told.keys() - demands.keys()
        if not due and not gone:
            return
        async with self._redis.pipeline(transaction=False) as batch:
            for pool, demand in due.items():
                key = RedisKey.DEMAND.format(pool=pool)
                batch.hset(key, self._run, orjson.dumps([self._number, *demand]))
                batch.expire(key, _KEPT)
            for pool in gone:
                batch.hdel(RedisKey.DEMAND.format(pool=pool), self._run)
            await batch.execute()
        for pool, demand in due.items():
            self._told[pool] = (now, demand)
        for pool in gone:
            del self._told[pool]

    async def withdraw(self) -> None:
        """This run ends in order: what it had to do is done."""
        await self.tell({})


class DemandReader:
    """What all routers together have for `pool` to do. Not thread-safe."""

    def __init__(self, redis: Redis, pool: str) -> None:
        self._redis = redis
        self._key = RedisKey.DEMAND.format(pool=pool)
        self._seen: dict[str, tuple[int, float]] = {}

    def read(self) -> Demand | None:
        """
        The sum of what living routers said last; None where none does.

        Raises `redis.exceptions.RedisError` where Redis fails.
        """
        told: Any = self._redis.hgetall(self._key)
        return self.sum_of({_text(run): value for run, value in told.items()}, monotonic())

    def sum_of(self, told: Mapping[str, bytes | str], now: float) -> Demand | None:
        """The sum of what living routers have `told` by `now` (`monotonic` seconds)."""
        seen: dict[str, tuple[int, float]] = {}
        living = []
        for run, value in told.items():
            read = _read(value)
            if read is None:
                continue
            number, demand = read
            before = self._seen.get(run)
            seen[run] = (number, now) if before is None or before[0] != number else before
            if now - seen[run][1] < STALE:
                living.append(demand)
        self._seen = seen
        if not living:
            return None
        return Demand(*(sum(column) for column in zip(*living, strict=True)))


def _read(value: bytes | str) -> tuple[int, Demand] | None:
    """A router's number and demand; None where `value` makes no sense."""
    try:
        numbers = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(numbers, list) or len(numbers) != 5:
        return None
    if any(type(number) is not int or number < 0 for number in numbers):
        return None
    return numbers[0], Demand(*numbers[1:])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
