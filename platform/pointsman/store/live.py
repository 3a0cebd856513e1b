"""How the processes are right now: each tells it in Redis with a time-to-live, and whoever wants to know reads it.

Stands in the store because the routers write what the admin process shows, and the admin process and the ledger
writer write what the routers' `/readyz` shows. A process that dies or is stopped says nothing any more, and is
missed `TTL` seconds later. Nothing here is worth keeping.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.names import RedisKey

INTERVAL = 1.0
"""Seconds between two words of a process."""

TTL = 5.0
"""Seconds after which a process that says nothing is missed."""

ADMIN, LEDGER_WRITER = "admin", "ledger-writer"
PARTS = (ADMIN, LEDGER_WRITER)
"""The processes that routers can do without for a while, and miss."""

_TTL_MS = int(TTL * 1000)

Troubles = Mapping[str, str]
"""What is missing or not as it should be, by a short name, in a few words each."""


class LiveRouters:
    """What routers write and read. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def tell(self, run: str, report: Mapping[str, Any]) -> dict[str, Troubles | None]:
        """
        Write how the router run `run` is, and read how `PARTS` are.

        None stands for a part that says nothing.
        """
        async with self._redis.pipeline(transaction=False) as batch:
            batch.sadd(RedisKey.LIVE, run)
            batch.set(RedisKey.LIVE_ROUTER.format(run=run), orjson.dumps(report), px=_TTL_MS)
            batch.mget([RedisKey.LIVE_PART.format(part=part) for part in PARTS])
            answers = await batch.execute()
        return _parts(answers[-1])

    async def withdraw(self, run: str) -> None:
        """`run` has ended in order."""
        async with self._redis.pipeline(transaction=False) as batch:
            batch.srem(RedisKey.LIVE, run)
            batch.delete(RedisKey.LIVE_ROUTER.format(run=run))
            await batch.execute()


class LiveState:
    """What other processes write, and the admin API shows. Every method raises `RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def tell(self, part: str, troubles: Troubles) -> None:
        """`part`, one of `PARTS`, lives; `troubles` is what it has to do without."""
        self._redis.set(RedisKey.LIVE_PART.format(part=part), orjson.dumps(dict(troubles)), px=_TTL_MS)

    def withdraw(self, part: str) -> None:
        """`part` has ended in order."""
        self._redis.delete(RedisKey.LIVE_PART.format(part=part))

    def routers(self) -> list[dict[str, Any]]:
        """What the living routers have told last, by their runs; what makes no sense is left out."""
        runs = sorted(_text(run) for run in _members(self._redis))
        if not runs:
            return []
        values: Sequence[Any] = self._redis.mget([RedisKey.LIVE_ROUTER.format(run=run) for run in runs])
        if gone := [run for run, value in zip(runs, values, strict=True) if value is None]:
            self._redis.srem(RedisKey.LIVE, *gone)
        return [report for value in values if (report := _object(value)) is not None]

    def parts(self) -> dict[str, Troubles | None]:
        """How `PARTS` are; None stands for one that says nothing."""
        return _parts(self._redis.mget([RedisKey.LIVE_PART.format(part=part) for part in PARTS]))


def _members(redis: Redis) -> Iterable[Any]:
    return redis.smembers(RedisKey.LIVE)


def _parts(values: Sequence[Any]) -> dict[str, Troubles | None]:
    found: dict[str, Troubles | None] = {}
    for part, value in zip(PARTS, values, strict=True):
        told = _object(value)
        found[part] = None if told is None else {str(name): str(words) for name, words in told.items()}
    return found


def _object(value: Any) -> dict[str, Any] | None:
    """The JSON object in `value`, None where it is none."""
    if value is None:
        return None
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
