"""The copy of all pools that the admin API has made, as routers read it.

How it is kept and read is `counted_projection.py`; here is what an entry says. Apart from the database, of which a
router knows nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson
from pydantic import ValidationError
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.config import Pool
from pointsman.contracts.config_pools import Prices
from pointsman.contracts.names import RedisKey
from pointsman.contracts.price_book import EVER, Timeline
from pointsman.store.counted_projection import Counted, CountedProjection, CountedReader

_KEYS = Counted(RedisKey.POOLS, RedisKey.POOLS_REVISION, RedisKey.POOL_CHANGES)


class MadePool(NamedTuple):
    """
    A pool as it was made. `traffic`: the weight of each revision of its replicas, empty where all are alike;
    `prices`: its own ones, newest first, the last of which has always held.
    """

    pool: Pool
    traffic: dict[str, float]
    prices: Timeline


class PoolProjection(CountedProjection):
    """The admin process's side: writes. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, _KEYS, version_of=_version_of)


class PoolReader(CountedReader):
    """A router's side: reads. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis) -> None:
        super().__init__(redis, _KEYS)


def encoded_pool(number: int, document: str | None, traffic: str, prices: str) -> bytes:
    """The entry of change `number`, of JSON in the form of `PoolRow`; a `document` of None: the pool is gone."""
    parts = (number, (document or "null").encode(), traffic.encode(), prices.encode())
    return b'{"version":%d,"pool":%b,"traffic":%b,"prices":%b}' % parts


def pool_entry(entry: bytes) -> MadePool | None:
    """What `entry` says; None where the pool is gone. Raises ValueError where it makes no sense here."""
    try:
        fields = orjson.loads(entry)
        if fields["pool"] is None:
            return None
        traffic = {str(revision): float(weight) for revision, weight in fields["traffic"].items()}
        return MadePool(Pool.model_validate(fields["pool"]), traffic, timeline(fields["prices"]))
    except (ValidationError, KeyError, TypeError, AttributeError):
        raise ValueError("not a pool that this release can read") from None


def timeline(prices: list[tuple[int, dict[str, object]]]) -> Timeline:
    """What `prices` say, as they are kept. Raises TypeError and ValueError (pydantic's too) where it is nothing."""
    read = [(int(since), Prices.model_validate(stated).price_list()) for since, stated in prices]
    (_, first) = read[-1]
    return (*read[:-1], (EVER, first))


def _version_of(entry: bytes) -> int:
    try:
        version = orjson.loads(entry)["version"]
    except (ValueError, KeyError, TypeError):
        return -1
    return version if type(version) is int else -1
