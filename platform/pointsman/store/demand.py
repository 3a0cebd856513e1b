"""What the routers have for a pool to do: each tells it every second; who sets the number of replicas reads it.

Stands in the store because the routers write what Ray's controller reads, and neither knows the other. One hash for
each pool, so that a reader gets a few lines and not the reports of all routers. A router that is gone is missed
because its number no longer grows, which needs no two clocks that agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
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

    def part(self, share: float, running: int, running_tokens: int) -> Demand:
        """What of it falls to somebody who has so much to do already, and takes a `share` of those that wait."""
        return Demand(running, ceil(self.waiting * share), running_tokens, ceil(self.waiting_tokens * share))

    @property
    def requests(self) -> int:
        return self.running + self.waiting

    @property
    def tokens(self) -> int:
        return self.running_tokens + self.waiting_tokens


class Divided(NamedTuple):
    """
    What one revision of a pool has to do, where new requests are divided between several: how many run, their
    predicted tokens, and its share (0 to 1) of those that wait.
    """

    running: int
    running_tokens: int
    share: float


class Told(NamedTuple):
    """One word of a router about a pool. `revisions`: None where requests are not divided."""

    demand: Demand = Demand()
    revisions: Mapping[str, Divided] | None = None


class DemandWriter:
    """What one run of a router tells. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis, run: str) -> None:
        self._redis = redis
        self._run = run
        self._number = 0
        self._told: dict[str, tuple[float, Told]] = {}

    async def tell(self, demands: Mapping[str, Told]) -> None:
        """The `demands` by pool, of all; what was said a moment ago, and is nothing, is not said again."""
        now = monotonic()
        self._number += 1
        due = {}
        for pool, word in demands.items():
            before = self._told.get(pool)
            if before is None or any(word.demand) or word != before[1] or now - before[0] >= REPEATED:
                due[pool] = word
        gone = self._told.keys() - demands.keys()
        if not due and not gone:
            return
        async with self._redis.pipeline(transaction=False) as batch:
            for pool, word in due.items():
                key = RedisKey.DEMAND.format(pool=pool)
                batch.hset(key, self._run, _written(self._number, word))
                batch.expire(key, _KEPT)
            for pool in gone:
                batch.hdel(RedisKey.DEMAND.format(pool=pool), self._run)
            await batch.execute()
        for pool, word in due.items():
            self._told[pool] = (now, word)
        for pool in gone:
            del self._told[pool]

    async def withdraw(self) -> None:
        """This run ends in order: what it had to do is done."""
        await self.tell({})


class DemandReader:
    """
    What all routers together have for `pool` to do, or for its `revision` where requests are divided between them.
    Not thread-safe.
    """

    def __init__(self, redis: Redis, pool: str, revision: str = "") -> None:
        self._redis = redis
        self._revision = revision
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
            number, (demand, revisions) = read
            before = self._seen.get(run)
            seen[run] = (number, now) if before is None or before[0] != number else before
            if now - seen[run][1] < STALE:
                if revisions is not None:
                    own = revisions.get(self._revision)
                    demand = Demand() if own is None else demand.part(own.share, own.running, own.running_tokens)
                living.append(demand)
        self._seen = seen
        if not living:
            return None
        return Demand(*(sum(column) for column in zip(*living, strict=True)))


def _written(number: int, word: Told) -> bytes:
    parts = word.revisions
    divided = None if parts is None else {name: tuple(part) for name, part in parts.items()}
    return orjson.dumps([number, *word.demand, divided])


def _read(value: bytes | str) -> tuple[int, Told] | None:
    """A router's number, and its word; None where `value` makes no sense."""
    try:
        *numbers, revisions = orjson.loads(value)
        if len(numbers) != 5 or any(type(number) is not int or number < 0 for number in numbers):
            return None
        divided = None
        if revisions is not None:
            divided = {name: Divided(int(a), int(b), float(c)) for name, (a, b, c) in revisions.items()}
    except (ValueError, TypeError, AttributeError):
        return None
    return numbers[0], Told(Demand(*numbers[1:]), divided)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
