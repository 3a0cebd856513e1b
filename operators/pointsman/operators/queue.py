"""A queue of names to look at: who is named twice is looked at once, and never by two at a time.

Between those who notice that something may have changed (watches, lists, clocks) and the one who makes it right.
An entry carries no news, only a name: the worker looks at how things are when it gets there, so that nothing is
lost by what came late, twice or not at all. What somebody has just changed goes before what is only looked over:
with ten thousand names of a list before it a change would wait for half a minute. A name that failed comes back
later and later; where nothing can work because the other side is away, all wait.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
"""Seconds until a name that failed is looked at again, the first time and at most."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds for which all wait where the other side is away."""

_LONGEST_SLEEP = 3600.0

K = TypeVar("K", bound=Hashable)


class Away(Exception):
    """The other side does not answer: there is no use in trying other names meanwhile."""


class WorkQueue(Generic[K]):
    """
    Calls `handle` for every name that was added, with at most `workers` at a time.

    `handle` returns the seconds after which the name wants to be looked at again, or None. What it raises is logged
    by its kind, and the name comes back; `Away` makes all wait. For one event loop.
    """

    def __init__(self, handle: Callable[[K], Awaitable[float | None]], *, workers: int, name: str) -> None:
        self._handle = handle
        self._name = name
        self._limit = asyncio.Semaphore(workers)
        self._ready: dict[K, None] = {}  # a set in the order of arrival
        self._last: dict[K, None] = {}  # another, whose turn comes when nothing is in the first
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._due: dict[K, float] = {}
        self._clock: list[tuple[float, int, K]] = []
        self._counted = 0
        self._failures: dict[K, int] = {}
        self._pauses = 0
        self._paused_until = 0.0
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.done = 0
        self.failed = 0

    def add(self, key: K, *, after: float = 0.0, last: bool = False) -> None:
        """Have `key` looked at, `after` seconds from now at the latest; `last`: once nothing else waits."""
        if after > 0:
            when = monotonic() + after
            if key in self._ready or self._due.get(key, when + 1) <= when:
                return
            self._due[key] = when
            self._counted += 1
            heapq.heappush(self._clock, (when, self._counted, key))
        elif key in self._running:
            self._again.add(key)
            return
        elif last and key not in self._ready:
            self._last[key] = None
        else:
            self._last.pop(key, None)
            self._ready[key] = None
        self._wake.set()

    def __len__(self) -> int:
        """Names that are looked at or wait for it; not those whose time has not come."""
        return len(self._ready) + len(self._last) + len(self._running)

    @property
    def paused(self) -> bool:
        """Whether all wait because the other side is away."""
        return self._pauses > 0

    async def run(self) -> None:
        """Work until cancelled; what is being looked at then is cancelled too."""
        try:
            while True:
                await self._limit.acquire()
                key = await self._next()
                self._running.add(key)
                task = asyncio.create_task(self._look(key))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next(self) -> K:
        while True:
            now = monotonic()
            while self._clock and self._clock[0][0] <= now:
                when, _, key = heapq.heappop(self._clock)
                if self._due.get(key) == when:
                    del self._due[key]
                    self.add(key)
            if now < self._paused_until:
                await asyncio.sleep(self._paused_until - now)
                continue
            if waiting := self._ready or self._last:
                key = next(iter(waiting))
                del waiting[key]
                return key
            self._wake.clear()
            sleep = min(self._clock[0][0] - now, _LONGEST_SLEEP) if self._clock else None
            try:
                await asyncio.wait_for(self._wake.wait(), sleep)
            except TimeoutError:
                continue

    async def _look(self, key: K) -> None:
        after: float | None = None
        try:
            after = await self._handle(key)
            self.done += 1
            self._pauses = 0
            self._failures.pop(key, None)
        except asyncio.CancelledError:
            raise
        except Away as error:
            self._pause(error)
            self._again.add(key)
        except Exception as error:
            self.failed += 1
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            after = min(FIRST_DELAY * 2 ** min(failures - 1, 30), LONGEST_DELAY)
            level = logging.WARNING if failures == 1 else logging.DEBUG
            log.log(level, "%s: %s failed (%s), again in %.1f s", self._name, key, type(error).__name__, after)
        finally:
            self._running.discard(key)
            self._limit.release()
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif after is not None:
                self.add(key, after=max(after, 0.001))

    def _pause(self, error: Away) -> None:
        now = monotonic()
        if now < self._paused_until:  # several were at it when it went away
            return
        pause = min(FIRST_PAUSE * 2 ** min(self._pauses, 30), LONGEST_PAUSE)
        if not self._pauses:
            log.warning("%s: all wait: %s", self._name, error)
        self._pauses += 1
        self._paused_until = now + pause
