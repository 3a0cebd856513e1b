"""The copy of prices that routers read: one text in Redis, made from all versions that may still be asked for.

The same versions make the same text, so that who finds another one there knows that it is to be written again.
Apart from the database, of which a router knows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import orjson
from pydantic import ValidationError
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.config_pools import Prices
from pointsman.contracts.names import RedisKey
from pointsman.contracts.price_book import PricePeriod, spans

PAST = 2 * 86_400_000
"""Milliseconds for which routers are told of a price that holds no longer: no request takes that long."""


class PriceVersion(NamedTuple):
    """One version as it is kept. Moments are milliseconds since 1970; `ended_at`: when somebody set its end."""

    period: PricePeriod
    created_at: int
    created_by: str
    comment: str
    ended_at: int | None
    ended_by: str | None


class PriceProjection:
    """The admin process's side of the copy. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def text(self) -> bytes | None:
        """What routers find; None where Redis was emptied, or nobody ever wrote."""
        found = self._redis.get(RedisKey.PRICES)
        return found if isinstance(found, bytes) else None

    def put(self, text: bytes) -> None:
        """Let routers find `text`, which `projected` made."""
        self._redis.set(RedisKey.PRICES, text)


class PriceReader:
    """A router's side of the copy. Raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def text(self) -> bytes | None:
        """What there is; None where Redis was emptied, or nobody ever wrote."""
        found = await self._redis.get(RedisKey.PRICES)
        return found if isinstance(found, bytes) else None


def projected(versions: Iterable[PriceVersion], *, now: int) -> bytes:
    """The copy of `versions` that routers read at `now`, in JSON: equal versions make equal bytes."""
    by_pool: dict[str, list[PricePeriod]] = {}
    for version in versions:
        by_pool.setdefault(version.period.pool, []).append(version.period)
    return orjson.dumps(
        [
            shown(period)
            for pool in sorted(by_pool)
            for period, end in spans(by_pool[pool])
            if end is None or end > now - PAST
        ]
    )


def periods_of(text: bytes) -> list[PricePeriod]:
    """The periods in what `projected` made. Raises ValueError where it makes no sense."""
    try:
        found = orjson.loads(text)
        if not isinstance(found, list):
            raise TypeError
        return [
            PricePeriod(
                str(each["pool"]),
                int(each["version"]),
                int(each["since"]),
                None if each["until"] is None else int(each["until"]),
                Prices.model_validate(each["prices"]),
            )
            for each in found
        ]
    except (ValidationError, KeyError, TypeError):
        raise ValueError("not the prices that the admin process writes") from None


def shown(period: PricePeriod) -> dict[str, object]:
    """`period` as plain JSON, as routers and the audit log are told it."""
    return {
        "pool": period.pool,
        "version": period.version,
        "since": period.since,
        "until": period.until,
        "prices": period.prices.model_dump(mode="json", exclude_unset=True),
    }
