"""Sessions: what Redis holds of them, when they end, and what they are without Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Gone

from pointsman.console import sessions as module
from pointsman.console.sessions import IDLE, LONGEST, Sessions, SessionsAway
from pointsman.console.who import Who
from pointsman.contracts.keys import Role

KEY = "pk-a-secret-that-nobody-may-read"
OWNER = Who("1a2b3c4d", Role.OWNER, None)


class Redis:
    """As much of a Redis as sessions use; its clock stands still."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.ends: dict[str, int] = {}
        self.away = False

    async def set(self, name: str, value: bytes, ex: int) -> None:
        self._answer()
        self.kept[name], self.ends[name] = value, ex

    async def getex(self, name: str, ex: int) -> bytes | None:
        self._answer()
        return self.kept.get(name)

    async def expire(self, name: str, seconds: int) -> bool:
        self._answer()
        return name in self.kept

    async def delete(self, name: str) -> None:
        self._answer()
        self.kept.pop(name, None)

    def _answer(self) -> None:
        if self.away:
            raise Gone


class World:
    """One Redis, and the clocks that tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.redis = Redis()
        self.now = 1_000_000.0
        monkeypatch.setattr(module.time, "time", lambda: self.now)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def sessions(self) -> Sessions:
        redis: Any = self.redis
        return Sessions(redis)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_redis_holds_neither_the_word_nor_the_key(world: World) -> None:
    word = asyncio.run(world.sessions().open(KEY, OWNER))
    ((name, kept),) = world.redis.kept.items()
    assert world.redis.ends[name] == IDLE
    assert len(word) >= 43
    for secret in (word, KEY, "1a2b3c4d", "owner"):
        assert secret not in name
        assert secret.encode() not in kept
    again = asyncio.run(world.sessions().open(KEY, OWNER))
    assert again != word
    assert len(set(world.redis.kept.values())) == 2, "the same is encrypted in another way each time"


def test_another_console_knows_the_session_too(world: World) -> None:
    word = asyncio.run(world.sessions().open(KEY, OWNER))
    session = asyncio.run(world.sessions().find(word))
    assert session is not None
    assert (session.key, session.who) == (KEY, OWNER)
    assert word not in session.identity


@pytest.mark.parametrize(
    "other", ["", "x", "x" * 5000, "\udcff", "é"], ids=["empty", "short", "long", "bytes", "text"]
)
def test_another_word_is_no_session(world: World, other: str) -> None:
    sessions = world.sessions()
    word = asyncio.run(sessions.open(KEY, OWNER))
    assert asyncio.run(sessions.find(other)) is None
    assert asyncio.run(sessions.find(word + "x")) is None


def test_what_somebody_else_has_written_is_no_session(world: World) -> None:
    sessions = world.sessions()
    one, two = asyncio.run(sessions.open(KEY, OWNER)), asyncio.run(sessions.open("pk-2", OWNER))
    first, second = world.redis.kept
    world.redis.kept[first] = world.redis.kept[second]
    assert asyncio.run(sessions.find(one)) is None
    for nonsense in (b"", b"short", b"x" * 300):
        world.redis.kept[second] = nonsense
        assert asyncio.run(world.sessions().find(two)) is None


def test_a_session_ends_with_a_log_out_here_and_elsewhere(world: World) -> None:
    here, there = world.sessions(), world.sessions()
    word = asyncio.run(here.open(KEY, OWNER))
    session, same = asyncio.run(here.find(word)), asyncio.run(there.find(word))
    assert session is not None
    assert same is not None
    asyncio.run(here.close(session))
    assert asyncio.run(here.find(word)) is None
    assert not asyncio.run(there.is_there(same))
    world.now += module.FRESH + 1
    assert asyncio.run(there.find(word)) is None


def test_a_session_ends_in_any_case(world: World) -> None:
    sessions = world.sessions()
    word = asyncio.run(sessions.open(KEY, OWNER))
    session = asyncio.run(sessions.find(word))
    assert session is not None
    world.now += LONGEST - 1
    assert asyncio.run(sessions.find(word)) is not None
    world.now += 2
    assert asyncio.run(sessions.find(word)) is None
    assert not asyncio.run(sessions.is_there(session))


def test_without_redis_those_who_are_known_stay_and_nobody_comes(world: World) -> None:
    sessions = world.sessions()
    word = asyncio.run(sessions.open(KEY, OWNER))
    session = asyncio.run(sessions.find(word))
    assert session is not None
    world.redis.away = True
    world.now += module.FRESH + 1
    assert asyncio.run(sessions.find(word)) is session
    assert asyncio.run(sessions.is_there(session))
    for refused in (sessions.find("another"), sessions.open(KEY, OWNER), world.sessions().find(word)):
        with pytest.raises(SessionsAway):
            asyncio.run(refused)
    with pytest.raises(SessionsAway):
        asyncio.run(sessions.close(session))
