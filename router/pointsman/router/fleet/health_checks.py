"""Active health checks: every replica is asked at an interval, whether requests run on it or not.

Stands beside the registrations as a task of its own, so that a slow Redis delays no check and a slow replica
no registration. Asks on connections of its own, because it is about accepting new ones as well. A replica is
never asked twice at a time, and the checks of a large pool are spread: by jitter, and by a bound on how many
begin at once.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from itertools import count
from time import monotonic

from pointsman.router.fleet.replica import Replica
from pointsman.router.http.wire import request_head

TIMEOUT = 5.0
"""Seconds a replica has to answer its health endpoint: an engine that is busy with a long prompt may need some."""

TICK = 0.05
"""Seconds between two looks at which checks are due."""

BATCH = 16
"""Checks that begin in one look at most: 320 a second."""

SOONEST = 0.5
"""Seconds between two checks of one replica at least; doubled with each check that fails, up to the interval."""

JITTER = 0.25
"""Share by which an interval may be shorter or longer."""

MAX_LINE = 1024
"""Bytes of an answer's first line."""


class HealthChecks:
    """Asks replicas; `told(replica, healthy)` hears each answer. `interval(replica)` is in seconds."""

    def __init__(
        self,
        told: Callable[[Replica, bool], None],
        interval: Callable[[Replica], float],
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        self._told = told
        self._interval = interval
        self._timeout = timeout
        self._due: list[tuple[float, int, Replica]] = []
        self._numbers = count()  # tell equal times apart
        self._running: set[asyncio.Task[None]] = set()

    def at(self, replica: Replica, when: float) -> None:
        """The next check of `replica` is due at `when` (`monotonic` seconds), whatever was planned before."""
        replica.next_check = when
        heapq.heappush(self._due, (when, next(self._numbers), replica))

    def soon(self, replica: Replica) -> None:
        """`replica` is in doubt: check it now, or as soon as it may be checked again."""
        soonest = max(monotonic(), replica.checked_at + SOONEST)
        if soonest < replica.next_check:
            self.at(replica, soonest)

    def forget(self, replica: Replica) -> None:
        """Ask `replica` no more."""
        replica.next_check = 0.0

    async def run(self) -> None:
        """Check until cancelled."""
        try:
            while True:
                self._begin_due(monotonic())
                await asyncio.sleep(TICK)
        finally:
            for task in self._running:
                task.cancel()

    def _begin_due(self, now: float) -> None:
        due = self._due
        begun = 0
        while due and due[0][0] <= now and begun < BATCH:
            when, _, replica = heapq.heappop(due)
            if when != replica.next_check or replica.checking:
                continue  # planned anew since, forgotten, or being asked
            replica.checking = True
            replica.checked_at = now
            begun += 1
            task = asyncio.get_running_loop().create_task(self._check(replica))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _check(self, replica: Replica) -> None:
        asked_for = replica.next_check
        try:
            healthy = await answers(replica, self._timeout)
        finally:
            replica.checking = False
        if replica.next_check == 0.0:
            return  # it has left meanwhile
        replica.failing = 0 if healthy else replica.failing + 1
        if replica.next_check == asked_for:
            interval = self._interval(replica)
            if not healthy:
                interval = min(interval, SOONEST * 2 ** min(replica.failing - 1, 10))
            self.at(replica, monotonic() + interval * random.uniform(1 - JITTER, 1 + JITTER))
        else:
            self.at(replica, replica.next_check)  # planned anew meanwhile; it may have come due unnoticed
        self._told(replica, healthy)


async def answers(replica: Replica, timeout: float) -> bool:
    """Whether the health endpoint answers with anything but a server error; 404 is an engine without one."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(replica.host, replica.port, limit=MAX_LINE)
            try:
                headers = [("host", replica.address), ("connection", "close")]
                writer.write(request_head("GET", "/health", headers, length=0))
                version, status, *_ = (await reader.readuntil(b"\r\n")).split(None, 2)
                return version.startswith(b"HTTP/1.") and 200 <= int(status) < 500
            finally:
                writer.transport.abort()
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False  # TimeoutError is an OSError
