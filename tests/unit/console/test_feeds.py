"""Feeds: one question however many look, a pace that holds for all, and nothing for those who look no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from pointsman.console import feeds as module
from pointsman.console.admin_client import AdminError, Answer
from pointsman.console.feeds import Feeds, Fetched


class Router:
    """Counts what it is asked; refuses the keys in `unknown`, does not answer while `away`."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str, str]] = []
        self.unknown: set[str] = set()
        self.away = False
        self.takes = 0.005

    async def ask(self, key: str, method: str, path: str, *, params: Any = None) -> Answer:
        self.asked.append((time.monotonic(), key, path))
        await asyncio.sleep(self.takes)
        if self.away:
            raise AdminError("The router does not answer.")
        if key in self.unknown:
            raise AdminError("unknown", status=401)
        return Answer({"path": path, "number": len(self.asked)}, None, {})


class World:
    """Feeds of one router, whose refusals are noted."""

    def __init__(self) -> None:
        self.router = Router()
        self.refused: list[str] = []
        client: Any = self.router
        self.feeds = Feeds(client, self.refused.append)

    def run(self, what: Callable[[], Any]) -> None:
        async def both() -> None:
            task = asyncio.create_task(self.feeds.run())
            try:
                await what()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        asyncio.run(both())


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds, however busy the machine is."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


@pytest.fixture
def world() -> World:
    return World()


def test_many_who_look_at_the_same_share_one_question(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACE", 0.05)
    shown: list[list[Fetched]] = [[] for _ in range(20)]

    async def look() -> None:
        for one in shown:
            world.feeds.look("k", "/live", None, every=0.1, show=one.append, wants=lambda: True)
        await until(lambda: len(shown[0]) >= 4)

    world.run(look)
    assert len(world.router.asked) <= len(shown[0]) + 1
    assert all(len(one) == len(shown[0]) >= 3 for one in shown)
    assert shown[0][-1].body["path"] == "/live"


def test_all_feeds_together_keep_the_pace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACE", 0.05)
    seen: set[str] = set()

    async def look() -> None:
        for number in range(8):
            show = lambda fetched: seen.add(fetched.body["path"])  # noqa: E731
            world.feeds.look(f"k{number}", f"/{number}", None, every=0.01, show=show, wants=lambda: True)
        await until(lambda: len(seen) == 8)

    world.run(look)
    moments = [at for at, _, _ in world.router.asked]
    assert moments[-1] - moments[0] > 0.045 * (len(moments) - 1)
    assert seen == {f"/{number}" for number in range(8)}, "everybody gets a turn"


def test_nothing_is_asked_for_those_who_look_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACE", 0.01)
    looking = True

    async def look() -> None:
        nonlocal looking
        one = world.feeds.look("k", "/a", None, every=0.02, show=lambda _: None, wants=lambda: looking)
        await until(lambda: world.router.asked)
        looking = False
        await asyncio.sleep(0.03)
        so_far = len(world.router.asked)
        await asyncio.sleep(0.1)
        assert len(world.router.asked) == so_far
        looking = True
        await until(lambda: len(world.router.asked) > so_far)  # within a second, usually
        one.cancel()
        await asyncio.sleep(0.03)
        so_far = len(world.router.asked)
        await asyncio.sleep(0.1)
        assert len(world.router.asked) == so_far

    world.run(look)


def test_an_answer_is_good_for_its_age_and_for_its_key_alone(world: World) -> None:
    async def ask() -> None:
        get = world.feeds.get
        first, same = await asyncio.gather(get("k", "/a"), get("k", "/a"))
        assert first == same == await get("k", "/a", max_age=5)
        assert len(world.router.asked) == 1
        assert await get("k", "/a", max_age=0) != first
        await get("other", "/a", max_age=60)
        await get("k", "/a", {"by": "mode"}, max_age=60)
        await get("k", "/a", {"by": "mode", "none": None}, max_age=60)
        assert len(world.router.asked) == 4
        world.feeds.outdated("k")
        await get("k", "/a", max_age=60)
        await get("other", "/a", max_age=60)
        assert len(world.router.asked) == 5, "a change makes what its own key has seen old"

    world.run(ask)


def test_what_was_shown_stays_while_the_router_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACE", 0.01)
    shown: list[Fetched] = []

    async def look() -> None:
        world.feeds.look("k", "/a", None, every=0.03, show=shown.append, wants=lambda: True)
        await until(lambda: shown)
        world.router.away = True
        await until(lambda: shown[-1].error)
        world.router.away = False
        with pytest.raises(AdminError):
            raise shown[-1].error or AssertionError("it was away")
        assert shown[-1].body is not None
        await until(lambda: shown[-1].error is None)

    world.run(look)
    assert shown[0].error is None
    assert shown[-1].error is None


def test_a_key_that_is_no_longer_known_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACE", 0.01)
    world.router.unknown.add("k")

    async def look() -> None:
        world.feeds.look("k", "/a", None, every=1, show=lambda _: None, wants=lambda: True)
        await until(lambda: world.refused)

    world.run(look)
    assert set(world.refused) == {"k"}


def test_a_page_that_fails_blinds_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACE", 0.01)
    shown: list[Fetched] = []

    def fail(fetched: Fetched) -> None:
        raise KeyError("a field that is not there")

    async def look() -> None:
        for show in (fail, shown.append, fail):
            world.feeds.look("k", "/a", None, every=0.03, show=show, wants=lambda: True)
        await until(lambda: shown)

    world.run(look)
    assert shown


def test_answers_that_take_longer_than_the_pace_hold_nobody_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACE", 0.01)
    world.router.takes = 0.1
    shown: list[Fetched] = []

    async def look() -> None:
        world.feeds.look("k", "/a", None, every=0.02, show=shown.append, wants=lambda: True)
        await until(lambda: len(shown) >= 3)

    world.run(look)
    assert len(world.router.asked) <= len(shown) + 1
