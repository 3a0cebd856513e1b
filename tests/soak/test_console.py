"""Many open pages, and pages that are open for hours: neither the router nor anybody's memory notices.

What the console asks the router for goes through a door that counts it. The router's processor time is measured in
rounds with and without live pages, which take turns: without, the console is frozen. Router and engines run on one
core and everybody else on the other, which is busy all the time, so that rounds differ in nothing else. Twenty tabs
are twenty sockets (`open_pages.py`): a browser that draws them all would fight the router for the machine. The page
that is open for hours is one of a real Chromium.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Self

import psutil
import sqlalchemy as sa
import uvloop
from playwright.sync_api import Page, sync_playwright

from pointsman.console.pages import ALL
from pointsman.contracts.names import StateFile
from pointsman.store.tenant_changes import tenants
from soak.gateways import MIB, pin
from soak.mix import SHORT, simulated
from soak.open_pages import OpenPages
from soak.streams import chat, one
from support.browser import Visitor, settled, start_chromium
from support.console import ConsoleGateway
from support.gateway import wait_for

TABS = 20

MOST_CALLS = 2.0
"""What all pages together may ask the router for in a second."""

MOST_CPU = 1.05
"""The router's processor time for a request beside live pages, over that without."""

MOST_ROUNDS = 25
"""Pairs of phases at most, as many as are needed: a busy machine reaches both figures, and rarely both at once."""

RATE = 250
"""Requests a second that clients make meanwhile."""

POINTS = 3600
"""Points of a live chart: an hour."""

HEAP = 1.0
"""MiB by which a page may grow in all hours after the first: less than another hour's points would take."""

LOOKS = 8
"""How often the heap is looked at, half a second apart."""

MEMORY = 8.0
"""MiB by which the console may."""

TENANTS = 10_000

INTERACTIVE = 1.5
"""Seconds from asking for a page until it takes clicks."""

POOLS = [
    simulated("fast", "sound", "no_think", decode_speed=1e9, **SHORT),
    simulated("deep", "sound", "think", decode_speed=1e9, **SHORT),
]

CHARTS = """() => Array.from(document.querySelectorAll("#main .pm-chart"), (chart) => {
    const component = getElement(Number(chart.id.slice(1)));
    return [component.last, component.size()];
})"""
"""Of each live chart of a page: the time of its last point in seconds, and how many each of its lines holds."""


class Door:
    """Leads to a router's port, and notes when it was asked for something."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.calls: list[float] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._let_in)

    def close(self) -> None:
        self._listener.close()

    def between(self, since: float, until: float) -> int:
        """How often, in monotonic seconds."""
        return sum(since <= at < until for at in self.calls)

    def _start(self, what: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=what, args=arguments, daemon=True).start()

    def _let_in(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._start(self._carry, near, far, True)
                self._start(self._carry, far, near, False)

    def _carry(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                if counts:
                    self.calls += [time.monotonic()] * data.count(b" HTTP/1.1\r\n")
                sink.sendall(data)


class SoakConsole(ConsoleGateway):
    """
    A gateway and its console, behind a door that counts. With `sped_up`, the console's live numbers are as many
    seconds as that file says (`sped_up_console.py`).
    """

    def __init__(self, folder: Path, *, sped_up: Path | None = None) -> None:
        super().__init__(folder, pools=POOLS)
        self._sped_up = sped_up
        self.door: Door

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def start_console(self) -> None:
        self.door = Door(self.port)
        script = str(Path(__file__).with_name("sped_up_console.py"))
        by = ["-m", "pointsman.cli"] if self._sped_up is None else [script, str(self._sped_up)]
        options = ["--redis-url", self.redis_url, "--url", self.door.url, "--port", str(self.console_port)]
        self.console = self._process("console", [sys.executable, *by, "console", *options])
        wait_for(self.console_answers, "the console to start", self.console)


@contextmanager
def visitor(gateway: SoakConsole) -> Iterator[Visitor]:
    """An administrator with a Chromium of their own."""
    with sync_playwright() as playwright:
        chromium = start_chromium(playwright)
        come = Visitor(chromium, gateway.console_url)
        come.log_in(gateway.admin_key)
        yield come
        problems = come.taken_problems()
        chromium.close()
    gateway.door.close()
    assert not problems, "\n".join(problems)


def test_many_open_pages_cost_the_router_next_to_nothing(
    folder: Path, short: bool, say: Callable[[str, object], None]
) -> None:
    # Never frozen for long: sockets that are silent for four seconds are given up.
    rounds, seconds, watched = (4, 2.0, 8.0) if short else (MOST_ROUNDS, 2.0, 30.0)
    allowed = os.sched_getaffinity(0)
    first, *others = sorted(allowed)
    last = {others[-1] if others else first}
    without: list[float] = []
    beside: list[float] = []
    calls = 0
    try:
        with (
            SoakConsole(folder) as gateway,
            OpenPages(gateway.console_url, gateway.admin_key, "/", TABS) as pages,
        ):
            engines = [engine.process for pool in gateway.engines.values() for engine in pool]
            for process in (gateway.router, *engines):
                pin(process.popen.pid, {first})
            for pid in (gateway.console.popen.pid, gateway.admin.popen.pid, os.getpid()):
                pin(pid, last)
            wait_for(lambda: min(pages.sent) > 0, "all pages to go on")
            before = list(pages.sent)
            since = time.monotonic()
            load(gateway, watched)
            until = time.monotonic()
            asked = gateway.door.between(since, until) / (until - since)
            sent = [now - then for now, then in zip(pages.sent, before, strict=True)]
            with kept_busy():
                for number in range(MOST_ROUNDS):
                    if number >= rounds and min(ratios_of(beside, without)) <= MOST_CPU:
                        break
                    for live in (number % 2 == 0, number % 2 == 1):
                        if live:
                            since = time.monotonic()
                            beside.append(cpu_per_request(gateway, seconds))
                            calls += gateway.door.between(since, time.monotonic())
                        else:
                            with frozen(gateway.console.popen.pid):
                                without.append(cpu_per_request(gateway, seconds))
            wait_for(lambda: pages.connected == TABS, "all pages to have their sockets", gateway.console)
            gateway.door.close()
    finally:
        pin(os.getpid(), allowed)
    least, middle = ratios_of(beside, without)
    say(f"calls a second of {TABS} tabs together", f"{asked:.2f} (bound: {MOST_CALLS:g})")
    say(f"updates that a tab was sent in {watched:g} s, least and most", f"{min(sent)}, {max(sent)}")
    say("router's CPU a request without live pages (us)", [round(value * 1e6) for value in without])
    say(f"router's CPU a request beside {TABS} tabs (us)", [round(value * 1e6) for value in beside])
    say("calls in those rounds", calls)
    say("ratio of the least", f"{least:.3f}")
    say("ratios of pairs, median", f"{middle:.3f} (bound of the lower of both: {MOST_CPU:g})")
    assert 0 < asked <= MOST_CALLS
    assert min(sent) > 0
    assert calls >= rounds
    assert min(least, middle) <= MOST_CPU


def ratios_of(beside: Sequence[float], without: Sequence[float]) -> tuple[float, float]:
    """How many times as much `beside` is: the least against the least, and the median of the pairs."""
    pairs = [one / other for one, other in zip(beside, without, strict=True)]
    return min(beside) / min(without), median(pairs)


def test_charts_that_go_on_for_hours_keep_one(
    folder: Path, short: bool, say: Callable[[str, object], None]
) -> None:
    hours = 2 if short else 5
    wanted = folder / "seconds"
    wanted.write_text("1")
    heaps: list[float] = []
    memories: list[float] = []
    with SoakConsole(folder, sped_up=wanted) as gateway, visitor(gateway) as somebody:
        page = somebody.open("/")
        began = latest(page)
        started = time.monotonic()
        # The first is a little longer than an hour: from its end on, every point pushes another one out.
        for hour in range(1, hours + 1):
            end = hour * POINTS + 300
            wanted.write_text(str(end))
            arrived = partial(has_come_to, page, began + end - 2)
            wait_for(arrived, f"hour {hour}", gateway.console, seconds=600)
            say(f"seconds for hour {hour}", f"{time.monotonic() - started:.0f}")
            heaps.append(heap(page))
            memories.append(psutil.Process(gateway.console.popen.pid).memory_info().rss / MIB)
            assert sizes(page) == {POINTS}
        fresh = sizes(somebody.open("/", somebody.context.new_page()))
    say("the browser's heap after each hour (MiB)", [round(value, 2) for value in heaps])
    say("the console's memory after each hour (MiB)", [round(value, 1) for value in memories])
    say("points that a page starts with", fresh)
    assert fresh == {POINTS}
    assert max(heaps[1:]) - heaps[0] <= HEAP
    assert max(memories[1:]) - memories[0] <= MEMORY


def test_pages_can_be_used_soon_beside_ten_thousand_tenants(
    folder: Path, short: bool, say: Callable[[str, object], None]
) -> None:
    tries, turns = (2, 3) if short else (7, 20)
    with SoakConsole(folder) as gateway, visitor(gateway) as somebody:
        write_tenants(gateway.state / StateFile.DATABASE, TENANTS)
        paths = ["/tenants"] if short else [page.path for page in ALL if page.listed]
        middle = f"/tenants?after=tenant-{TENANTS // 2:05}"
        took: dict[str, list[float]] = {path: [] for path in (*paths, middle, "/tenants?prefix=tenant-09")}
        for _ in range(tries + 1):
            for path, seconds in took.items():
                began = time.perf_counter()
                somebody.open(path)
                seconds.append(time.perf_counter() - began)
        page = somebody.open("/tenants?prefix=tenant-")
        turned: list[float] = []
        for number in range(turns):
            began = time.perf_counter()
            page.get_by_role("link", name="Next page →").click()
            page.get_by_role("link", name=f"tenant-{50 * (number + 1):05}", exact=True).wait_for()
            settled(page)
            turned.append(time.perf_counter() - began)
    for path, seconds in took.items():
        say(
            f"seconds until {path} can be used: least, median", f"{min(seconds[1:]):.2f}, {median(seconds[1:]):.2f}"
        )
    say("seconds until the next page of tenants can be used", f"{min(turned):.2f}, {median(turned):.2f}")
    for seconds in (turned, *(seconds[1:] for seconds in took.values())):
        assert min(seconds) <= INTERACTIVE


def write_tenants(file: Path, number: int) -> None:
    """`tenant-00000` and so on, as the admin API would have left them in the database."""
    now = int(time.time() * 1000)
    names = [f"tenant-{each:05}" for each in range(number)]
    document = {"limits": {"requests_per_minute": 600}, "budgets": {"daily": {"hard_usd": "25"}}}
    rows = [
        {
            "name": name,
            "version": 1,
            "document": json.dumps({"name": name, **document}),
            "managed_by": "api",
            "created_at": now,
            "updated_at": now,
            "updated_by": "soak",
            "origin": None,
        }
        for name in names
    ]
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(sa.insert(tenants), rows)
    engine.dispose()


def load(gateway: SoakConsole, seconds: float) -> int:
    """Ask for `seconds`, steadily; returns how many questions were answered."""
    requests = [
        chat(gateway.key, "sound", f"question {number}", stream=False) for number in range(int(RATE * seconds))
    ]

    async def all_of_them() -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, request in enumerate(requests):
                group.create_task(one(gateway.port, request, stream=False))
                await asyncio.sleep(began + number / RATE - time.monotonic())
        await asyncio.sleep(began + seconds - time.monotonic())

    uvloop.run(all_of_them())
    return len(requests)


def cpu_per_request(gateway: SoakConsole, seconds: float) -> float:
    """Seconds of the router's processor time for each request of `seconds` of load."""
    before = processor_time(gateway.router.popen.pid)
    answered = load(gateway, seconds)
    return (processor_time(gateway.router.popen.pid) - before) / answered


def processor_time(pid: int) -> float:
    """Seconds that all threads of a process have run for, to the nanosecond as far as the kernel counts."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def kept_busy() -> Iterator[None]:
    """Somebody computes without end where this process may run, behind everybody else."""
    busy = subprocess.Popen([sys.executable, "-c", "import os; os.nice(19)\nwhile True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def latest(page: Page) -> float:
    """The time of the last point of the page's first chart, in seconds since 1970."""
    found: float = page.evaluate(CHARTS)[0][0]
    return found


def has_come_to(page: Page, at: float) -> bool:
    """Whether the page's first chart shows what was at `at`, in seconds since 1970."""
    return latest(page) >= at


def sizes(page: Page) -> set[int]:
    """How many points the lines of the page's charts hold."""
    return {size for _, lines in page.evaluate(CHARTS) for size in lines}


def heap(page: Page) -> float:
    """
    MiB that the page's scripts keep: the least in use over some seconds.

    What has just arrived in a burst is still being drawn at the first look; what is kept is there at each.
    """
    tools = page.context.new_cdp_session(page)
    used: list[float] = []
    for _ in range(LOOKS):
        tools.send("HeapProfiler.collectGarbage")
        used.append(tools.send("Runtime.getHeapUsage")["usedSize"])
        page.wait_for_timeout(500)
    tools.detach()
    return min(used) / MIB
