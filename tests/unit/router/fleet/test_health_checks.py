"""Health checks against real sockets: what counts as an answer, how often, and how many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from time import monotonic

import pytest

from pointsman.router.fleet import Replica
from pointsman.router.fleet.health_checks import BATCH, HealthChecks, answers

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def replica_that(handler: Handler, stack: AsyncExitStack) -> Replica:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    stack.push_async_callback(server.wait_closed)
    stack.callback(server.close)
    port = server.sockets[0].getsockname()[1]
    return Replica("p", f"127.0.0.1:{port}", "i")


def saying(data: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        writer.close()

    return handle


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("data", "healthy"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 204 \r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", True),
        (b"HTTP/1.1 500 Oh\r\n\r\n", False),
        (b"HTTP/1.1 503\r\n\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"HTTP/1.1 200 OK", False),
        (b"SSH-2.0-OpenSSH_9.9 200 \r\n", False),
        (b"HTTP/1.1 two OK\r\n", False),
        (b"\r\n", False),
        (b"", False),
        (b"x" * 100_000, False),
    ],
)
def test_what_is_an_answer(data: bytes, healthy: bool) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            replica = await replica_that(saying(data), stack)
            assert await answers(replica, 5.0) is healthy

    asyncio.run(scenario())


def test_silence_and_nobody_there_are_no_answers() -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            mute = await replica_that(silent, stack)
            began = monotonic()
            assert await answers(mute, 0.2) is False
            assert 0.15 < monotonic() - began < 30
        assert await answers(Replica("p", "127.0.0.1:1", "i"), 5.0) is False

    asyncio.run(scenario())


async def run_for(checks: HealthChecks, seconds: float) -> None:
    task = asyncio.create_task(checks.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_each_replica_is_asked_at_its_interval() -> None:
    async def scenario() -> None:
        told: list[tuple[Replica, bool]] = []
        checks = HealthChecks(lambda *what: told.append(what), lambda replica: 0.2)
        async with AsyncExitStack() as stack:
            one, two = [await replica_that(saying(b"HTTP/1.1 200 OK\r\n\r\n"), stack) for _ in range(2)]
            for replica in (one, two):
                checks.at(replica, monotonic())
            await run_for(checks, 1.5)
        for replica in (one, two):
            assert 4 <= told.count((replica, True)) <= 11
            assert replica.failing == 0

    asyncio.run(scenario())


def test_a_replica_that_is_silent_is_asked_once_at_a_time_and_holds_up_nobody() -> None:
    async def scenario() -> None:
        asked = 0

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            await silent(reader, writer)

        told: list[Replica] = []
        checks = HealthChecks(lambda replica, _: told.append(replica), lambda replica: 0.1, timeout=60.0)
        async with AsyncExitStack() as stack:
            mute = await replica_that(count, stack)
            lively = await replica_that(saying(b"HTTP/1.1 200 OK\r\n\r\n"), stack)
            for replica in (mute, lively):
                checks.at(replica, monotonic())
            task = asyncio.create_task(checks.run())
            for _ in range(10):
                await asyncio.sleep(0.1)
                checks.soon(mute)
                checks.at(mute, monotonic())
            assert asked == 1
            assert told.count(lively) >= 3
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())


def test_failures_are_counted_and_asked_after_ever_more_slowly() -> None:
    async def scenario() -> None:
        told: list[tuple[float, bool]] = []
        checks = HealthChecks(lambda _, healthy: told.append((monotonic(), healthy)), lambda replica: 60.0)
        dead = Replica("p", "127.0.0.1:1", "i")
        checks.at(dead, monotonic())
        await run_for(checks, 2.5)
        assert [healthy for _, healthy in told] == [False] * len(told)
        assert dead.failing == len(told)
        assert 2 <= len(told) <= 4  # after half a second, one, two
        assert told[1][0] - told[0][0] < 2.0, "after half a second, where the machine has time"

    asyncio.run(scenario())


def test_a_large_pool_is_not_asked_in_one_burst() -> None:
    async def scenario() -> None:
        starts: list[float] = []
        checks = HealthChecks(lambda *_: None, lambda replica: 60.0)
        replicas = [Replica("p", f"127.0.0.1:{port}", "i") for port in range(1, 301)]
        for replica in replicas:
            checks.at(replica, 0.001)
        for turn in range(1, 100):
            checks._begin_due(float(turn))
            begun = sum(replica.checking for replica in replicas)
            starts.append(begun)
            assert begun <= turn * BATCH
        assert starts[-1] == 300
        for task in checks._running:
            task.cancel()

    asyncio.run(scenario())


def test_who_has_left_is_asked_no_more_and_told_of_no_more() -> None:
    async def scenario() -> None:
        told: list[Replica] = []
        asked = asyncio.Event()

        async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await silent(reader, writer)

        checks = HealthChecks(lambda replica, _: told.append(replica), lambda replica: 0.1)
        async with AsyncExitStack() as stack:
            mute = await replica_that(listens, stack)
            waiting = Replica("p", "127.0.0.1:1", "i")
            checks.at(mute, monotonic())
            task = asyncio.create_task(checks.run())
            await asyncio.wait_for(asked.wait(), 60)
            assert mute.checking
            checks.at(waiting, monotonic() + 0.1)
            checks.forget(mute)
            checks.forget(waiting)
            checks.soon(waiting)
            await asyncio.sleep(0.4)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert told == []

    asyncio.run(scenario())
