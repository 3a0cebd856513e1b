"""What clients wait for: a Redis that stands still, an answer that may still be thrown away, one of before.

Phases with and without take turns on the same connections, and what is held against the bound is the median of the
differences within pairs: whatever else the machine does reaches both sides of a pair alike.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pytest
import uvloop
from redis import Redis

from soak.client import Connection
from soak.gateways import SoakGateway
from soak.mix import simulated
from soak.streams import chat, percentile
from support.gateway import wait_for

MOST_ADDED = 0.005
"""Seconds that a request may take longer with Redis paused, at the 99th percentile."""

RATE = 10.0
"""Requests a second of each of several connections: far less than the gateway can do."""

PHASE = 400
"""Requests of one phase."""

TENANTS: list[dict[str, Any]] = [
    {"name": "plain"},
    {"name": "limited", "limits": {"requests_per_minute": 600_000, "tokens_per_minute": 600_000_000}},
    {"name": "cached", "cache": {"enabled": True}},
    {"name": "escalates", "policy": {"default_mode": "no_think"}},
    {"name": "stays", "policy": {"default_mode": "no_think", "escalation": {"triggers": []}}},
]
RECOVERED = 1.0
"""Seconds that leases and the ledger get to be told again after a pause."""

MOST_LATER = 1.05
"""How much later the first token may come where the answer may be asked for once more with thinking."""

APART = 500.0
"""Tokens a second of a stream: the first is read alone, as what comes in one read is passed on in one write."""

MOST_FOR_A_HIT = {"process": 0.0003, "Redis": 0.001}
"""Seconds that an answer from the response cache may take at the median, by where it is found."""

ANSWERS = 200
"""Recorded answers that are asked for in turn: more than `ROOM` holds, so that none is left when its turn comes."""

ROOM = 64 * 1024
"""Bytes of answers that the process holds: some twenty."""


@pytest.mark.parametrize("connections", [1, 32])
@pytest.mark.parametrize("tenant", ["plain", "limited", "cached"])
def test_a_paused_redis_delays_nobody(
    folder: Path, short: bool, say: Callable[[str, object], None], tenant: str, connections: int
) -> None:
    pool = simulated("fast", "sound", "no_think", decode_speed=1e9, answer_tokens=8)
    with SoakGateway(folder, pools=[pool], tenants=TENANTS) as gateway:
        usual, paused = uvloop.run(by_turns(gateway, tenant, connections, pairs=5 if short else 15))
    each = [percentile(late, 0.99) - percentile(before, 0.99) for before, late in zip(usual, paused, strict=True)]
    before, late = list(chain(*usual)), list(chain(*paused))
    say("requests with Redis paused", len(late))
    say("usual p50 and p99 (ms)", f"{median(before) * 1e3:.2f} {percentile(before, 0.99) * 1e3:.2f}")
    say("with Redis paused (ms)", f"{median(late) * 1e3:.2f} {percentile(late, 0.99) * 1e3:.2f}")
    say("added at p99, median of pairs (ms)", f"{median(each) * 1e3:.2f} (bound: {MOST_ADDED * 1e3:g})")
    assert median(each) <= MOST_ADDED


async def by_turns(
    gateway: SoakGateway, tenant: str, number: int, *, pairs: int
) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds of the requests of each phase, in pairs: as usual, and with Redis paused."""
    usual, paused = [], []
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(Connection(gateway.port)) for _ in range(number)]
        await phase(gateway, tenant, connections)
        for _ in range(pairs):
            usual.append(await phase(gateway, tenant, connections))
            async with redis_paused(gateway):
                paused.append(await phase(gateway, tenant, connections))
            await asyncio.sleep(RECOVERED)
    return usual, paused


@asynccontextmanager
async def redis_paused(gateway: SoakGateway) -> AsyncIterator[None]:
    gateway.valkey.popen.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        gateway.valkey.popen.send_signal(signal.SIGCONT)


async def phase(gateway: SoakGateway, tenant: str, connections: list[Connection]) -> list[float]:
    """Seconds that each request took: one after the other on a connection, at a `RATE` where there are several."""
    request = chat(gateway.keys[tenant], "sound", "how long does it take?", stream=False, temperature=0)
    each = PHASE // len(connections)
    seconds: list[float] = []

    async def ask(connection: Connection, at: int) -> None:
        due = perf_counter() + at / len(connections) / RATE
        for _ in range(each):
            if len(connections) > 1:
                await asyncio.sleep(max(0.0, due - perf_counter()))
                due += 1 / RATE
            began = perf_counter()
            connection.write(request)
            answer = await connection.answer()
            seconds.append(perf_counter() - began)
            assert answer.status == 200, answer.body

    async with asyncio.TaskGroup() as group:
        for at, connection in enumerate(connections):
            group.create_task(ask(connection, at))
    return seconds


@pytest.mark.parametrize("prefill", [0.03, 0.003])
def test_an_answer_that_may_be_asked_for_again_begins_as_soon(
    folder: Path, short: bool, say: Callable[[str, object], None], prefill: float
) -> None:
    speed = 10 / prefill
    pools = [
        simulated("fast", "sound", "no_think", decode_speed=APART, prefill_speed=speed, answer_tokens=8),
        simulated("deep", "sound", "think", decode_speed=APART, prefill_speed=speed, answer_tokens=8),
    ]
    with SoakGateway(folder, pools=pools, tenants=TENANTS) as gateway:
        wait_for(lambda: gateway.startupz() == 200, "the pools", gateway.router)
        first = uvloop.run(first_tokens(gateway, 100 if short else 600))
    ratio = median(first["escalates"]) / median(first["stays"])
    for tenant, times in first.items():
        say(f"first token of a stream, tenant {tenant!r}, p50 (ms)", f"{median(times) * 1e3:.3f}")
    say("... with escalation, times without", f"{ratio:.3f} (bound: {MOST_LATER:g})")
    assert ratio <= MOST_LATER


async def first_tokens(gateway: SoakGateway, number: int) -> dict[str, list[float]]:
    """Seconds to the first token of streams without thinking, of both tenants by turns."""
    times: dict[str, list[float]] = {"escalates": [], "stays": []}
    async with Connection(gateway.port) as connection:
        for turn in range(2 * number):
            for tenant in sorted(times, reverse=turn % 2 == 1):
                request = chat(gateway.keys[tenant], "sound", "hello", temperature=0)
                began = perf_counter()
                connection.write(request)
                answer = await connection.answer()
                assert answer.status == 200, answer.body
                assert answer.header("x-pointsman-mode") == "no_think"
                assert answer.header("x-pointsman-mode-source") != "client"
                times[tenant].append(answer.arrivals[0] - began)
    return times


def test_an_answer_that_was_made_before_is_there_at_once(
    folder: Path, short: bool, say: Callable[[str, object], None]
) -> None:
    pool = simulated("fast", "sound", "no_think", decode_speed=1e9, answer_tokens=64)
    router = {"response_cache_bytes": ROOM}
    with SoakGateway(folder, pools=[pool], tenants=TENANTS, router=router) as gateway:
        took = uvloop.run(hits(gateway, rounds=5 if short else 15))
    for place, rounds in took.items():
        medians = [median(times) for times in rounds]
        say(f"a hit from {place}, p50 of each round (ms)", f"{min(medians) * 1e3:.3f} .. {max(medians) * 1e3:.3f}")
        say("... median of rounds (ms)", f"{median(medians) * 1e3:.3f} (bound: {MOST_FOR_A_HIT[place] * 1e3:g})")
        say("... p99 of all (ms)", f"{percentile(chain(*rounds), 0.99) * 1e3:.2f}")
    for place, most in MOST_FOR_A_HIT.items():
        assert median(median(times) for times in took[place]) <= most


async def hits(gateway: SoakGateway, *, rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of hits of each round, on one connection, by where they are found."""
    questions = [f"question {number}" for number in range(ANSWERS)]
    took: dict[str, list[list[float]]] = {place: [] for place in MOST_FOR_A_HIT}
    with Redis.from_url(gateway.redis_url) as redis:
        async with Connection(gateway.port) as connection:
            await cached(gateway, connection, questions)
            for _ in range(rounds):
                await cached(gateway, connection, questions[-1:])
                took["process"].append(await cached(gateway, connection, questions[-1:] * ANSWERS, hit=True))
                before = found(redis)
                took["Redis"].append(await cached(gateway, connection, questions, hit=True))
                assert found(redis) - before >= ANSWERS, "the process had them itself"
    return took


async def cached(
    gateway: SoakGateway, connection: Connection, questions: list[str], *, hit: bool = False
) -> list[float]:
    """Seconds that each answer took; `hit`: all have to be known."""
    seconds = []
    for question in questions:
        request = chat(gateway.keys["cached"], "sound", question, stream=False, temperature=0)
        began = perf_counter()
        connection.write(request)
        answer = await connection.answer()
        seconds.append(perf_counter() - began)
        assert answer.status == 200, answer.body
        assert not hit or answer.header("x-pointsman-cache") == "hit"
    return seconds


def found(redis: Redis) -> int:
    """How many keys that somebody looked up were there."""
    return int(redis.info("stats")["keyspace_hits"])
