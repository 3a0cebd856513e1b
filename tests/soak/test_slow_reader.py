"""One client that reads an endless stream more slowly than it comes: it costs the others and the router nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
import uvloop

from soak.endless import EndlessUpstream
from soak.gateways import SoakGateway
from soak.mix import GOOD, RUDE, simulated
from soak.streams import chat, percentile, together

STREAMS = 20
"""Streams of the other tenant, one after another in each place."""

RATE = 20
"""Their tokens per second."""

READ, EVERY = 512, 0.25
"""The slow client takes so many bytes once in so many seconds."""

GROWTH = 4.0
"""MiB of memory that the router may grow by."""

SLACK = 256 * 1024
"""Bytes by which buffers on the way may move in one lump."""

HARM = 0.05
"""Seconds by which the others' 99th percentile between tokens may grow: a busy machine makes as much."""


@pytest.fixture
def seconds(short: bool) -> int:
    return 15 if short else 60


def test_a_slow_reader_is_held_back_alone(folder: Path, seconds: int, say: Callable[[str, object], None]) -> None:
    steady = simulated("fast", "sound", "no_think", decode_speed=RATE, answer_tokens=seconds * RATE // 3)
    with EndlessUpstream() as upstream:
        endless = {
            "name": "endless",
            "model": "endless",
            "modes": ["no_think"],
            "engine": "openai",
            "urls": [upstream.url],
            "prices": {"input": 0.02, "output": 0.06},
        }
        tenants = [{"name": GOOD}, {"name": RUDE}]
        with SoakGateway(folder, pools=[steady, endless], copies={"fast": 2}, tenants=tenants) as gateway:
            before, during, memory, sent, taken = uvloop.run(read_slowly(gateway, upstream, seconds))
    say("bytes that the slow client took", taken)
    say("bytes that its engine sent, at the middle and at the end", f"{sent[0]}, {sent[1]}")
    say("router's memory before, at most (MiB)", f"{memory[0]:.1f}, {max(memory):.1f} (bound: +{GROWTH:g})")
    say("the others' time between tokens, p99, before and during (ms)", f"{before * 1e3:.1f}, {during * 1e3:.1f}")
    assert 0 < taken < 2 * seconds * READ / EVERY
    assert max(memory) - memory[0] < GROWTH
    assert sent[1] - sent[0] < taken + SLACK
    assert during < before + HARM


async def read_slowly(
    gateway: SoakGateway, upstream: EndlessUpstream, seconds: int
) -> tuple[float, float, list[float], tuple[int, int], int]:
    """The others' p99 before and during; the memory over time; the engine's bytes twice; the client's bytes."""

    async def others() -> float:
        requests = [chat(gateway.keys[GOOD], "sound", f"{number}") for number in range(STREAMS)]
        return percentile(await together(gateway.port, requests, over=1 / RATE), 0.99)

    await asyncio.to_thread(take, gateway, 2.0, 0.0)  # what the first fast stream allocates once
    before = await others()
    memory = [gateway.memory()]
    slow = asyncio.create_task(asyncio.to_thread(take, gateway, float(seconds), EVERY))
    p99: list[float] = []
    sent: list[int] = []
    began = monotonic()
    while monotonic() - began < seconds:
        neighbours = asyncio.create_task(others())
        while not neighbours.done():
            await asyncio.sleep(0.5)
            memory.append(gateway.memory())
            if not sent and monotonic() - began > seconds / 2:
                sent.append(upstream.sent)
        p99.append(await neighbours)
        sent[1:] = [upstream.sent]
    return before, max(p99), memory, (sent[0], sent[1]), await slow


def take(gateway: SoakGateway, seconds: float, every: float) -> int:
    """Read the endless stream for `seconds`, a little once `every` seconds, and return how many bytes came."""
    taken = 0
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(chat(gateway.keys[RUDE], "endless", "go on"))
        deadline = monotonic() + seconds
        while monotonic() < deadline:
            taken += len(connection.recv(READ))
            time.sleep(every)
    return taken
