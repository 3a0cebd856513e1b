"""The queue: who is named twice is looked at once, never by two at a time, and nothing that was named is lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from pointsman.operators import queue
from pointsman.operators.queue import Away, WorkQueue


def working(handle: Callable[[str], Awaitable[float | None]], script: Callable[[WorkQueue[str]], Any]) -> None:
    """Run a queue of three workers for as long as `script` takes."""

    async def run() -> None:
        work: WorkQueue[str] = WorkQueue(handle, workers=3, name="test")
        running = asyncio.create_task(work.run())
        try:
            async with asyncio.timeout(20):
                await script(work)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 (nobody tells when)
        await asyncio.sleep(0.001)


async def emptied(work: WorkQueue[str]) -> None:
    await until(lambda: not len(work))


def test_whoever_is_named_is_looked_at_afterwards_and_by_one_alone() -> None:
    """The looks see the world as it was at the last naming, however names and looks fall together."""
    chance = random.Random(4)
    world: Counter[str] = Counter()
    seen: dict[str, int] = {}
    busy: set[str] = set()
    most = looks = 0

    async def look(name: str) -> None:
        nonlocal most, looks
        assert name not in busy
        busy.add(name)
        most, looks = max(most, len(busy)), looks + 1
        value = world[name]
        await asyncio.sleep(chance.random() * 0.003)
        seen[name] = value
        busy.discard(name)

    async def script(work: WorkQueue[str]) -> None:
        for _ in range(2000):
            name = chance.choice("abcdefgh")
            world[name] += 1
            work.add(name)
            if chance.random() < 0.05:
                await asyncio.sleep(chance.random() * 0.004)
        await emptied(work)

    working(look, script)
    assert seen == dict(world)
    assert most == 3
    assert looks < 1000  # of 2000 namings


def test_a_name_that_fails_comes_back_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "FIRST_DELAY", 0.02)
    at: list[float] = []

    async def look(name: str) -> None:
        at.append(asyncio.get_running_loop().time())
        if len(at) < 5:
            raise RuntimeError("not yet")

    async def script(work: WorkQueue[str]) -> None:
        work.add("a")
        await until(lambda: len(at) == 5)
        assert work.failed == 4

    working(look, script)
    waits = [after - before for before, after in pairwise(at)]
    assert all(wait >= 0.02 * 2**power for power, wait in enumerate(waits))


def test_all_wait_while_the_other_side_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "FIRST_PAUSE", 0.05)
    away = True
    done: list[str] = []
    tries = 0

    async def look(name: str) -> None:
        nonlocal tries
        tries += 1
        if away:
            raise Away("gone")
        done.append(name)

    async def script(work: WorkQueue[str]) -> None:
        nonlocal away
        names = [str(number) for number in range(500)]
        for name in names:
            work.add(name)
        await asyncio.sleep(0.3)
        assert work.paused
        assert tries < 20  # not each of them
        away = False
        await emptied(work)
        assert sorted(done) == sorted(names)
        assert not work.paused

    working(look, script)


def test_what_wants_to_be_looked_at_again_is_and_the_earlier_time_counts() -> None:
    looks: list[str] = []

    async def look(name: str) -> float | None:
        looks.append(name)
        return 0.02 if name == "clock" and looks.count("clock") < 3 else None

    async def script(work: WorkQueue[str]) -> None:
        work.add("late", after=60)
        work.add("late", after=0.02)
        work.add("late", after=30)
        work.add("clock")
        await until(lambda: looks.count("clock") == 3 and "late" in looks)
        await asyncio.sleep(0.05)

    working(look, script)
    assert Counter(looks) == {"clock": 3, "late": 1}


def test_what_was_changed_goes_before_what_is_only_looked_over() -> None:
    looks: list[str] = []

    async def look(name: str) -> None:
        looks.append(name)
        await asyncio.sleep(0.001)

    async def script(work: WorkQueue[str]) -> None:
        listed = [str(number) for number in range(100)]
        for name in listed:
            work.add(name, last=True)
        await until(lambda: bool(looks))
        begun = set(looks)
        work.add("new")
        work.add("90")
        work.add("90", last=True)  # it has been changed all the same
        await emptied(work)
        assert Counter(looks) == Counter(["new", *listed])
        assert set(looks[len(begun) : len(begun) + 2]) == {"new", "90"}

    working(look, script)
