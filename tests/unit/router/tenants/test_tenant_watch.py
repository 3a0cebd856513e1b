"""What a router makes of the projection of tenants: what changed is read, what was known holds, but not forever."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from pointsman.contracts.config import Config
from pointsman.contracts.errors import Unauthenticated
from pointsman.contracts.keys import Role
from pointsman.contracts.tenants import new_key
from pointsman.router import tenant_watch
from pointsman.router.state_file import replace_file
from pointsman.router.tenant_watch import TenantWatch
from pointsman.router.tenants import Tenants
from pointsman.store.tenant_projection import ADMIN_KEYS_CHANGED, encoded_entry

KEYS = {f"t{number}": new_key() for number in range(4)}
MAX_AGE = 900.0


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class Clock:
    """Stands in for the module `time`; in whole seconds, whose sums are exact."""

    def __init__(self) -> None:
        self.now = float(int(time.monotonic()))

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


class Projection:
    """Stands in for Redis."""

    def __init__(self) -> None:
        self.chain, self.names = "c", [""]
        self.entries: dict[str, bytes] = {}
        self.admins: dict[bytes, Role] = {}
        self.away = self.empty = False
        self.reads: list[str] = []
        self.cut = 0  # changes that the stream does not hold any more
        self.meanwhile = ""  # the chain that begins while everything is read

    def put(self, name: str, *, opens: bool = True, exists: bool = True) -> None:
        keys = [{"id": "key-1", "digest": hashlib.sha256(KEYS[name].encode()).hexdigest()}] if opens else []
        self.entries[name] = encoded_entry(len(self.names), json.dumps({"name": name}) if exists else None, keys)
        self.names.append(name)

    def put_admin(self, digest: bytes) -> None:
        self.admins[digest] = Role.OPERATOR
        self.names.append(ADMIN_KEYS_CHANGED)

    def anew(self, chain: str) -> None:
        self.chain, self.names = chain, [""]

    async def revision(self) -> str | None:
        if self.away:
            raise RedisConnectionError
        return None if self.empty else f"{self.chain}.{len(self.names) - 1}"

    async def changes(self, since: str, until: str) -> set[str] | None:
        chain, _, number = since.partition(".")
        if chain != self.chain or int(number) < self.cut or int(number) > len(self.names) - 1:
            return None
        return set(self.names[int(number) + 1 :])

    async def some(self, names: Iterable[str]) -> dict[str, bytes | None]:
        self.reads += sorted(names)
        return {name: self.entries.get(name) for name in names}

    async def all(self) -> AsyncIterator[tuple[str, bytes]]:
        self.reads.append("all")
        for item in list(self.entries.items()):
            yield item
            yield item  # one may come twice
        if self.meanwhile:
            self.chain = self.meanwhile

    async def admin_keys(self) -> dict[bytes, Role]:
        self.reads.append("admins")
        return dict(self.admins)


class Router:
    """A router's tenants, and what it lets in."""

    def __init__(self, projection: Projection, known: Path) -> None:
        pool = {
            "name": "p",
            "model": "m",
            "modes": ["think"],
            "engine": "simulated",
            "prices": {"input": 1, "output": 1},
        }
        self.tenants = Tenants(Config.model_validate({"pools": [pool]}))
        self.watch = TenantWatch(projection, self.tenants, known, max_age=MAX_AGE)  # type: ignore[arg-type]

    @property
    def open_to(self) -> set[str]:
        found = set()
        for name, key in KEYS.items():
            try:
                found.add(self.tenants.show(key.encode(), hashlib.sha256(key.encode()).digest()).tenant.name)
            except Unauthenticated:
                continue
            assert name in found
        return found


@pytest.fixture
def projection() -> Projection:
    return Projection()


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "tenants.json"


@pytest.fixture
def router(projection: Projection, known: Path) -> Router:
    return Router(projection, known)


@in_a_loop
async def test_nothing_but_what_changed_is_read(projection: Projection, router: Router) -> None:
    projection.put("t0")
    projection.put("t1")
    await router.watch.look()
    assert (router.open_to, projection.reads) == ({"t0", "t1"}, ["admins", "all"])
    projection.reads.clear()
    await router.watch.look()
    assert projection.reads == []
    projection.put("t0", opens=False)
    projection.put("t2")
    projection.put_admin(bytes(32))
    await router.watch.look()
    assert (router.open_to, projection.reads) == ({"t1", "t2"}, ["admins", "t0", "t2"])
    assert router.tenants.admins == {bytes(32): Role.OPERATOR}
    del projection.entries["t2"]  # which Redis has lost
    projection.names.append("t2")
    await router.watch.look()
    assert router.open_to == {"t1"}


@in_a_loop
async def test_who_is_too_far_behind_reads_everything(projection: Projection, router: Router) -> None:
    projection.put("t0")
    projection.put("t1")
    await router.watch.look()
    projection.put("t2")
    del projection.entries["t0"]
    projection.cut = 3
    await router.watch.look()
    assert router.open_to == {"t1", "t2"}


@in_a_loop
async def test_what_is_written_anew_goes_before_newer_numbers(projection: Projection, router: Router) -> None:
    for _ in range(5):
        projection.put("t0")
    projection.put("t1")
    await router.watch.look()
    projection.anew("d")  # from a copy of the database, say, whose numbers are lower
    projection.put("t0", opens=False)
    del projection.entries["t1"]
    projection.meanwhile = "e"
    await router.watch.look()
    assert "t1" in router.open_to  # it may only not have been found
    projection.meanwhile = ""
    await router.watch.look()
    assert router.open_to == set()
    assert projection.reads.count("all") == 3


@in_a_loop
async def test_what_is_known_holds_while_redis_is_away_or_empty_but_not_forever(
    projection: Projection, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(tenant_watch, "INTERVAL", 0.001)
    monkeypatch.setattr(tenant_watch, "time", clock)
    projection.put("t0")
    await router.watch.begin()
    task = asyncio.create_task(router.watch.follow())

    async def comes(stale: bool, trouble: str | None, *, after: float) -> bool:
        await asyncio.sleep(0.02)  # a round that is under way heard before the clock went on
        clock.now += after
        await asyncio.sleep(0.02)
        for _ in range(500):  # a busy machine may take its time for the next round
            if router.tenants.stale is stale and router.watch.trouble() == trouble:
                return True
            await asyncio.sleep(0.01)
        return False

    for trouble, said in (("away", "tenants: those that were known last"), ("empty", None)):
        setattr(projection, trouble, True)
        assert await comes(False, said, after=MAX_AGE - 1)
        assert router.open_to == {"t0"}
        assert await comes(True, "tenants: cut off for too long, nobody is let in", after=1)
        setattr(projection, trouble, False)
        assert await comes(False, None, after=1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_a_loop
async def test_where_nobody_ever_made_a_tenant_there_is_nothing_to_be_told_of(
    projection: Projection, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(tenant_watch, "time", clock)
    projection.empty = True
    await router.watch.begin()
    clock.now += 2 * MAX_AGE
    await router.watch.look()
    assert not router.tenants.stale


@pytest.mark.parametrize("trouble", ["away", "empty"])
@in_a_loop
async def test_a_process_that_starts_without_redis_begins_with_what_was_known(
    projection: Projection, router: Router, known: Path, trouble: str
) -> None:
    projection.put("t0")
    projection.put("t1")
    projection.put_admin(bytes(32))
    await router.watch.begin()
    await router.watch.kept.write()
    assert os.stat(known).st_mode & 0o777 == 0o600
    projection.put("t1", opens=False)
    await router.watch.look()
    await router.watch.kept.write()
    told = time.time() - MAX_AGE / 2
    os.utime(known, (told, told))
    setattr(projection, trouble, True)

    later = Router(projection, known)
    await later.watch.begin()
    assert (later.open_to, later.tenants.admins) == ({"t0"}, {bytes(32): Role.OPERATOR})
    assert not later.tenants.stale

    told = time.time() - MAX_AGE - 1
    os.utime(known, (told, told))
    later = Router(projection, known)
    await later.watch.begin()
    assert later.tenants.stale
    setattr(projection, trouble, False)
    projection.put("t0", opens=False)
    await later.watch.look()
    assert (later.open_to, later.tenants.stale) == (set(), False)

    for broken in (b"", b"\xff\n\0", b'{\n"t0":5\n,"":[1]\n,"t1"\n}', b'{\n"":{"00":"owner","zz":"x"}\n}'):
        replace_file(known, broken)
        projection.away = True
        later = Router(projection, known)
        await later.watch.begin()
        assert later.open_to == set()


@in_a_loop
async def test_streams_go_on_while_many_tenants_are_taken_up(projection: Projection, router: Router) -> None:
    for number in range(1000):
        projection.entries[f"many{number}"] = encoded_entry(1, '{"name":"x"}', [])
    projection.put("t0")
    turns = 0

    async def stream() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    streaming = asyncio.create_task(stream())
    await router.watch.look()
    streaming.cancel()
    assert turns >= 10
    assert "t0" in router.open_to
