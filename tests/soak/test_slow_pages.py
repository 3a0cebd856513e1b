"""The slowest page of the admin process, asked for all the time: streams hardly notice.

Router and admin process run on different cores, as a deployment would place them; whoever asks for pages shares
the admin's. Rounds with and without take turns, and medians are compared. Without, that other core is kept just as
busy: two cores may be one core's threads, and how that one slows the router down is not the router's doing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest
import uvloop

from soak.gateways import SoakGateway, pin
from soak.mix import GOOD, simulated
from soak.streams import chat, percentile, together

PAGES = ["/docs", "/openapi.json", "/metrics", "/v1/models", "/static-offline-docs/swagger-ui-bundle.js"]
STREAMS = 40
RATE = 20
"""Tokens per second of each stream."""
READERS = 4
"""Connections that ask for the page."""
TENANTS = 50
"""Each of them has counters of its own on the metrics page."""

ADDED = 5.0
"""Milliseconds that the page may add to the 99th percentile of the time between tokens."""


@pytest.fixture
def rounds(short: bool) -> int:
    return 5 if short else 15


def test_the_slowest_page_does_not_stall_streams(
    folder: Path, rounds: int, say: Callable[[str, object], None]
) -> None:
    seconds = 3
    pool = simulated("fast", "sound", "no_think", decode_speed=RATE, answer_tokens=seconds * RATE)
    tenants = [{"name": GOOD}, *({"name": f"tenant-{number}"} for number in range(TENANTS))]
    with SoakGateway(folder, pools=[pool], copies={"fast": 2}, tenants=tenants) as gateway:
        first, *others = sorted(os.sched_getaffinity(0))
        last = {others[-1] if others else first}
        pin(gateway.admin.popen.pid, last)
        pin(gateway.router.popen.pid, {first})
        for engine in gateway.engines["fast"]:
            pin(engine.process.popen.pid, {first, *others} - last or {first})
        before = os.sched_getaffinity(0)
        pin(os.getpid(), {first, *others} - last or {first})
        try:
            everybody = [chat(key, "sound", "hello") for key in gateway.keys.values()]
            uvloop.run(together(gateway.port, everybody, over=1))
            took = {page: slowness(gateway, page) for page in PAGES}
            page = max(took, key=took.__getitem__)
            say("pages and their medians (ms)", {name: round(value * 1e3, 1) for name, value in took.items()})
            without: list[float] = []
            with_page: list[float] = []
            asked = 0
            for _ in range(rounds):
                with kept_busy(last):
                    without.append(one_round(gateway))
                reader = start_reader(gateway, page, last)
                with_page.append(one_round(gateway))
                answered, _ = reader.communicate(timeout=30)
                assert reader.returncode == 0
                asked += int(answered)
        finally:
            pin(os.getpid(), before)
    added = (median(with_page) - median(without)) * 1e3
    say(f"answers with {page}, over {READERS} connections", asked)
    say("time between tokens, p99, other load (ms)", [round(value * 1e3, 1) for value in without])
    say("time between tokens, p99, the page (ms)", [round(value * 1e3, 1) for value in with_page])
    say("added, medians (ms)", f"{added:.1f} (bound: {ADDED:g})")
    assert asked > rounds * seconds
    assert added <= ADDED


def slowness(gateway: SoakGateway, page: str) -> float:
    """The median of the seconds that `page` takes."""
    times = []
    with gateway.client() as client:
        for _ in range(9):
            began = perf_counter()
            assert client.get(page).status_code == 200, page
            times.append(perf_counter() - began)
    return median(times)


def start_reader(gateway: SoakGateway, page: str, cores: set[int]) -> subprocess.Popen[str]:
    """Somebody who asks for `page` without end, on `cores`."""
    argv = [sys.executable, str(Path(__file__).with_name("page_reader.py"))]
    argv += [str(gateway.port), gateway.key, page, str(READERS)]
    reader = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pin(reader.pid, cores)
    return reader


@contextmanager
def kept_busy(cores: set[int]) -> Iterator[None]:
    """Somebody computes without end, on `cores`."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        pin(busy.pid, cores)
        yield
    finally:
        busy.kill()
        busy.wait()


def one_round(gateway: SoakGateway) -> float:
    """The 99th percentile of the time between the tokens of some streams."""
    requests = [chat(gateway.key, "sound", f"question {number}") for number in range(STREAMS)]
    return percentile(uvloop.run(together(gateway.port, requests, over=1 / RATE)), 0.99)
