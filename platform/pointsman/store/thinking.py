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

_ADD = """
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') >= tonumber(ARGV[2]) then return end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for at = 4, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[at], ARGV[at + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""
"""Takes the day's hash; teller's field, number of the batch, seconds, then tenant and tokens in turn."""


class ThinkingTotals:
    """Reads and adds. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add = redis.register_script(_ADD)

    async def add(self, day: str, tokens: Mapping[str, int], *, teller: str, batch: int) -> None:
        """
        Add `tokens` by tenant to the sums of `day` (YYYY-MM-DD): all of them or none, and once only.

        `batch` is a number that grows with each batch of this `teller`, which sends the same again until it has an
        answer: a Redis that was only slow may have heard it more than once.
        """
        amounts = [each for pair in tokens.items() for each in pair]
        field = f"#{teller}"  # which is no tenant's name
        await self._add(keys=[RedisKey.THINKING.format(day=day)], args=[field, batch, KEPT, *amounts])

    async def of(self, day: str, tenants: Sequence[str]) -> dict[str, int]:
        """The sums of `day` (YYYY-MM-DD) of `tenants`, at least one; 0 where nothing was added."""
        values = await self._redis.hmget(RedisKey.THINKING.format(day=day), list(tenants))
        return {tenant: int(value or 0) for tenant, value in zip(tenants, values, strict=True)}
