"""Thousands of slow streams on one router process: no error, little memory, no token much delayed.

The upstream and the client are the C programs of `tests/benchmarks/gateway`: Python ones would be measured instead
of the router. Rounds without the router in between and rounds through it take turns; what it adds is the difference
of their medians.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks.gateway.tools import Cell, Cores, Target, Tools, Upstream
from soak.gateways import SoakGateway, pin
from soak.mix import GOOD
from support.gateway import wait_for

MEMORY = 1024.0
"""MiB of memory that the router may use."""

ADDED = 50.0
"""Milliseconds that the router may add to the 99th percentile of the time between tokens."""

ROUNDS = 3

PORTS = 4
"""Replicas, as the router sees them: ports of one upstream process."""


@dataclass(frozen=True, slots=True)
class Size:
    """`streams` at a time, opened at `ramp` a second, measured for `seconds`; each has `tokens`, one a second."""

    streams: int
    ramp: int
    seconds: int
    tokens: int


@pytest.fixture
def size(short: bool) -> Size:
    if short:
        return Size(streams=500, ramp=500, seconds=5, tokens=15)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Size(streams=10_000 if files >= 32_768 else 4_000, ramp=250, seconds=20, tokens=45)


@pytest.fixture
def cores() -> Cores:
    """The first core is the router's alone, where there are two."""
    first, *others = sorted(os.sched_getaffinity(0))
    return Cores(gateway=first, others=others[-1] if others else first)


@pytest.fixture
def tools(folder: Path, cores: Cores) -> Tools:
    tools = Tools(folder / "tools", cores)
    tools.build()
    return tools


@pytest.fixture
def upstream(tools: Tools, size: Size) -> Iterator[Upstream]:
    """Says one token of about 120 bytes a second in each stream."""
    with tools.upstream(ports=PORTS, tokens=size.tokens, event_bytes=120, interval=1000) as upstream:
        yield upstream


def test_thousands_of_slow_streams(
    folder: Path, tools: Tools, upstream: Upstream, size: Size, say: Callable[[str, object], None]
) -> None:
    pool = {
        "name": "bench",
        "model": "bench",
        "modes": ["no_think"],
        "engine": "openai",
        "urls": [f"http://127.0.0.1:{port}" for port in upstream.ports],
        "prices": {"input": 0.02, "output": 0.06},
        "max_ongoing_requests": 10_000,
    }
    direct: list[dict[str, Any]] = []
    through: list[dict[str, Any]] = []
    with SoakGateway(folder, pools=[pool], tenants=[{"name": GOOD}]) as gateway:
        pid = gateway.router.popen.pid
        pin(pid, {tools.cores.gateway})
        before = gateway.memory()
        keyed = (f"authorization: Bearer {gateway.key}",)
        for _ in range(ROUNDS):
            direct.append(measure(tools, size, Target(upstream.ports[0])))
            through.append(measure(tools, size, Target(gateway.port, headers=keyed, gateway=(pid,))))
        most = peak_memory(pid)
        wait_for(lambda: gateway.in_flight() == 0, "the router to be idle")
    added = median(gaps(through)) - median(gaps(direct))
    errors = Counter({name: count for run in through for name, count in run["errors"].items() if count})
    say(
        "streams at a time", f"{size.streams}, {ROUNDS} times for {size.seconds} s; the router on a core of its own"
    )
    say("tokens a second", [round(run["tokens"] / run["seconds"]) for run in through])
    say("errors", dict(errors) or "none")
    say(f"router's memory before, at most (MiB; bound: {MEMORY:g})", f"{before:.0f}, {most:.0f}")
    say("router's share of its core", [f"{run['cpu'] / run['seconds']:.0%}" for run in through])
    say("time between tokens, p99 of each round, direct (ms)", gaps(direct))
    say("time between tokens, p99 of each round, through (ms)", gaps(through))
    say("added, medians (ms)", f"{added:.1f} (bound: {ADDED:g})")
    say("from sent to read, p50 of each round (ms)", [round(run["delay"]["p50"] / 1e3, 2) for run in through])
    say("from sent to read, p99 of each round (ms)", [round(run["delay"]["p99"] / 1e3, 2) for run in through])
    for run in (*direct, *through):
        assert not any(run["errors"].values()), run["complaint"]
        assert run["tokens"] > 0.9 * size.streams * run["seconds"]
    assert most < MEMORY
    assert added < ADDED


def gaps(runs: list[dict[str, Any]]) -> list[float]:
    """The 99th percentile of the time between tokens of each of `runs`, in milliseconds."""
    return [round(run["gap"]["p99"] / 1e3, 1) for run in runs]


def measure(tools: Tools, size: Size, target: Target) -> dict[str, Any]:
    """What the load generator counted; times in microseconds."""
    cell = Cell("stream", size.streams, 300)
    return tools.measure(target, cell, seconds=size.seconds, warm_up=2, ramp=size.ramp, tokens=size.tokens)


def peak_memory(pid: int) -> float:
    """The most MiB that the process ever had in memory."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
