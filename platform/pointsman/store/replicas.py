"""Which replicas are alive: each registers itself in Redis with a time-to-live, routers read the list.

Stands in the store because the engines write and the routers read: neither room knows the other. A replica
that dies stops renewing and is gone `ttl` seconds later; one that stops in order withdraws at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import re
import secrets
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass, replace
from time import monotonic

import orjson
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from pointsman.contracts.config_types import REVISION_PATTERN
from pointsman.contracts.names import RedisKey

log = logging.getLogger(__name__)

HEARTBEAT = 1.0
"""Seconds between two renewals of a registration."""

TTL = 5.0
"""Seconds after which a registration that nobody renewed is gone."""


@dataclass(frozen=True, slots=True)
class Replica:
    """
    One registration.

    `address`: `host:port` that answers HTTP; `instance`: random, new at each start, so that a successor on the
    same port is told from its dead predecessor; `version`: the engine's name and version;
    `load`: requests the engine runs or queues, as it sees them; `revision`: which description of its pool it was
    started by, empty where nobody has said.
    """

    pool: str
    address: str
    instance: str
    version: str
    load: int = 0
    revision: str = ""


_FIELDS = tuple(field.name for field in dataclasses.fields(Replica))

_LATER = {"revision": ""}
"""Fields that replicas of earlier releases don't write, with what that means."""

_REVISION = re.compile(REVISION_PATTERN)

FORGOTTEN = 60.0
"""Seconds after which a registration that ran out is taken off the list of addresses as well."""


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What the store holds: the live registrations, ordered by pool and address; the addresses whose registration
    ran out without being withdrawn; and the `epoch`, which changes when Redis is emptied (None: nobody wrote one).
    """

    replicas: tuple[Replica, ...]
    expired: frozenset[str]
    epoch: str | None


class ReplicaRegistry:
    """Reads and writes registrations. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._expired_since: dict[str, float] = {}

    async def register(self, replica: Replica, *, ttl: float = TTL) -> None:
        """Write or renew the registration of `replica` for `ttl` seconds."""
        async with self._redis.pipeline(transaction=False) as batch:
            batch.set(RedisKey.EPOCH, secrets.token_hex(8), nx=True)
            batch.sadd(RedisKey.REPLICAS, replica.address)
            batch.set(_key(replica.address), encoded(replica), px=int(ttl * 1000))
            await batch.execute()

    async def withdraw(self, address: str) -> None:
        """Forget the replica at `address` at once; no error where it is not registered."""
        async with self._redis.pipeline(transaction=False) as batch:
            batch.delete(_key(address))
            batch.srem(RedisKey.REPLICAS, address)
            await batch.execute()

    async def alive(self) -> list[Replica]:
        """The replicas whose registration has not expired, ordered by pool and address."""
        return list((await self.read()).replicas)

    async def read(self) -> Reading:
        """
        What the store holds now.

        A registration that can't be read, one of another version say, is left out and logged.
        """
        members = await self._redis.smembers(RedisKey.REPLICAS)
        addresses = sorted(_text(member) for member in members)
        epoch, *values = await self._redis.mget([RedisKey.EPOCH, *map(_key, addresses)])
        expired = {address for address, value in zip(addresses, values, strict=True) if value is None}
        await self._forget(expired)
        replicas = [
            replica
            for address, value in zip(addresses, values, strict=True)
            if value is not None and (replica := decoded(address, value)) is not None
        ]
        ordered = sorted(replicas, key=lambda replica: (replica.pool, replica.address))
        return Reading(tuple(ordered), frozenset(expired), None if epoch is None else _text(epoch))

    async def _forget(self, expired: Set[str]) -> None:
        """Take addresses off the list that ran out long ago; not at once, so that every reader sees it."""
        now = monotonic()
        self._expired_since = {address: self._expired_since.get(address, now) for address in expired}
        gone = [address for address, since in self._expired_since.items() if now - since >= FORGOTTEN]
        if gone:
            await self._redis.srem(RedisKey.REPLICAS, *gone)


def registered(redis: SyncRedis) -> list[Replica]:
    """The living registrations, by pool and address, for who has no event loop. Raises `RedisError`."""
    addresses = sorted(_text(member) for member in redis.smembers(RedisKey.REPLICAS))
    values = redis.mget([_key(address) for address in addresses]) if addresses else []
    found = (decoded(address, value) for address, value in zip(addresses, values, strict=True) if value is not None)
    return sorted((one for one in found if one is not None), key=lambda replica: (replica.pool, replica.address))


async def keep_registered(registry: ReplicaRegistry, replica: Replica, *, load: Callable[[], int]) -> None:
    """
    Register `replica` now and renew it each `HEARTBEAT` seconds with the current `load()`, until cancelled;
    then withdraw. Redis being away is logged and outlived.
    """
    task = asyncio.current_task()
    try:
        while True:
            try:
                await registry.register(replace(replica, load=load()))
            except RedisError as error:
                log.warning("could not renew the registration of %s: %s", replica.address, type(error).__name__)
            if task and task.cancelling():
                raise asyncio.CancelledError  # which redis-py swallows at most of its waits
            await asyncio.sleep(HEARTBEAT)
    finally:
        with contextlib.suppress(RedisError):
            await registry.withdraw(replica.address)


def encoded(replica: Replica) -> bytes:
    """`replica` as it is written."""
    return orjson.dumps(asdict(replica))


def decoded(address: str, value: bytes | str) -> Replica | None:
    """The replica at `address` that `value` describes; None, and a line in the log, where it makes no sense."""
    try:
        fields = _LATER | orjson.loads(value)
        known = {field: fields[field] for field in _FIELDS}
        host, _, port = known["address"].rpartition(":")
        texts = all(isinstance(known[field], str) for field in ("pool", "instance", "version", "revision"))
        if not texts or not _REVISION.fullmatch(known["revision"]):
            raise ValueError(address)
        if known["address"] != address or not host or not 0 < int(port) < 65536:
            raise ValueError(address)
        return Replica(**known)
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("the registration of %s can't be read", address)
        return None


def _key(address: str) -> str:
    return RedisKey.REPLICA.format(address=address)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
