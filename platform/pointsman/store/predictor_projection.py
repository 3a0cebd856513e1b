"""The copy of tenants' predictors that routers read: a hash in Redis, and a word beside it that changes with it.

Redis may lose it or be behind: the admin process puts it right from the database. A version names its own content,
so an entry is right or absent, never old.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import cast

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.names import RedisKey

MOST = 32
"""Tenants' predictors that a platform has at most: every worker holds all of them."""


class PredictorProjection:
    """The admin process's side: writes. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def replace(self, versions: Collection[str], content_of: Callable[[str], bytes | None]) -> str:
        """
        Let there be these `versions` and no others; returns the new revision.

        Only what is missing is written, one at a time; `content_of` gives the file of a version.
        """
        there = self.versions()
        for version in sorted(set(versions) - there):
            content = content_of(version)
            if content is not None:
                self._redis.hset(RedisKey.PREDICTORS, version, content)
        gone = there - set(versions)
        if gone:
            self._redis.hdel(RedisKey.PREDICTORS, *gone)
        revision = secrets.token_hex(8)
        self._redis.set(RedisKey.PREDICTORS_REVISION, revision)
        return revision

    def versions(self) -> set[str]:
        """The versions that are there."""
        return _names(self._redis.hkeys(RedisKey.PREDICTORS))

    def revision(self) -> str | None:
        """The word of the last write; None where Redis was emptied."""
        return _text(self._redis.get(RedisKey.PREDICTORS_REVISION))


class PredictorReader:
    """A router's side: reads. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def revision(self) -> str | None:
        """The word of the last write; None where nobody wrote, or Redis was emptied: nothing follows from that."""
        return _text(await self._redis.get(RedisKey.PREDICTORS_REVISION))

    async def versions(self) -> set[str]:
        """The versions that are there."""
        return _names(await self._redis.hkeys(RedisKey.PREDICTORS))

    async def content(self, version: str) -> bytes | None:
        """The weights file of a version; None where there is none."""
        return cast(bytes | None, await self._redis.hget(RedisKey.PREDICTORS, version))


def _names(found: object) -> set[str]:
    return {name.decode("utf-8", "replace") for name in cast(list[bytes], found)}


def _text(value: object) -> str | None:
    return value.decode() if isinstance(value, bytes) else None
