"""Thinking tokens of the running day, added up over all routers: one hash in Redis for each UTC day.

Only a projection's worth of truth: what Redis loses is lost, and a day's limit starts anew with it. What is billed
is counted elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from pointsman.contracts.names import RedisKey

KEPT = 2 * 86_400
"""Seconds for which a day's sums are kept after the last addition."""


class ThinkingTotals:
    """Reads and adds. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, day: str, tokens: Mapping[str, int]) -> None:
        """Add `tokens` by tenant to the sums of `day` (YYYY-MM-DD): all of them, or none."""
        key = RedisKey.THINKING.format(day=day)
        async with self._redis.pipeline(transaction=True) as batch:
            for tenant, amount in tokens.items():
                batch.hincrby(key, tenant, amount)
            batch.expire(key, KEPT)
            await batch.execute()

    async def of(self, day: str, tenants: Sequence[str]) -> dict[str, int]:
        """The sums of `day` (YYYY-MM-DD) of `tenants`, at least one; 0 where nothing was added."""
        values = await self._redis.hmget(RedisKey.THINKING.format(day=day), list(tenants))
        return {tenant: int(value or 0) for tenant, value in zip(tenants, values, strict=True)}
