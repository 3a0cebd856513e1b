"""SIGTERM under load: what runs ends well, nothing new is let in, and the process ends with status 0 in time."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import uvloop

from soak.client import Answer, Connection
from soak.gateways import SoakGateway
from soak.mix import GOOD, simulated
from soak.streams import chat, one
from support.gateway import wait_for

STREAMS, WHOLE, IDLE = 180, 20, 20
"""Answers that run, streamed and not, and connections that only wait, when the signal comes."""

DEADLINE = 20.0
"""The router's `drain_timeout`."""

TOKENS = 160


def test_a_router_that_is_told_to_stop_finishes_what_it_began(
    folder: Path, say: Callable[[str, object], None]
) -> None:
    pool = simulated("fast", "sound", "no_think", decode_speed=20, answer_tokens=TOKENS)
    router = {"drain_timeout": DEADLINE}
    with SoakGateway(folder, pools=[pool], copies={"fast": 3}, tenants=[{"name": GOOD}], router=router) as gateway:
        answers, seconds, refused_after = uvloop.run(stop_under_load(gateway))
        status = gateway.router.popen.wait(1)
    say("answers that were running, all read whole", len(answers))
    say("new connections refused after (s)", f"{refused_after:.2f}")
    say("seconds from the signal to the end", f"{seconds:.1f} (bound: {DEADLINE:g})")
    say("exit status", status)
    assert len(answers) == STREAMS + WHOLE
    assert all(answer.status == 200 for answer in answers)
    assert refused_after < 1
    assert seconds < DEADLINE
    assert status == 0


async def stop_under_load(gateway: SoakGateway) -> tuple[list[Answer], float, float]:
    """The answers; seconds from the signal to the end; seconds until a new connection was refused."""
    requests = [
        (chat(gateway.key, "sound", f"question {number}", stream=number < STREAMS), number < STREAMS)
        for number in range(STREAMS + WHOLE)
    ]
    async with asyncio.TaskGroup() as group:
        idle = [group.create_task(wait_idle(gateway.port)) for _ in range(IDLE)]
        asked = [group.create_task(one(gateway.port, data, stream=stream)) for data, stream in requests]
        await asyncio.to_thread(wait_for, lambda: gateway.running() == len(requests), "all answers to run")
        told = monotonic()
        gateway.router.popen.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_for, lambda: not accepts(gateway.port), "new connections to be refused")
        refused_after = monotonic() - told
        assert all([await task for task in idle])
        await asyncio.to_thread(gateway.router.popen.wait, DEADLINE + 10)
        seconds = monotonic() - told
    return [task.result() for task in asked], seconds, refused_after


async def wait_idle(port: int) -> bool:
    """Connect and say nothing; True once the other end has closed."""
    async with Connection(port) as connection:
        return await connection.ended()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
