"""The answers in Redis, as one router process sees them: asked for many at a time, and never waited for long.

A few tasks of the process do all that is asked of Redis, so that no request has a task or a connection of its own.
One looks answers up, a batch at a time, while the next batch gathers. Another writes what was recorded, a third
says of what is being worked on that it still is, and follows what was invalidated. Whoever looks hears within
`PATIENCE` seconds; if not of an answer, then that Redis is away, and nobody asks until it was heard of again.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from functools import partial
from secrets import token_hex
from time import perf_counter, time

from redis.exceptions import RedisError

from pointsman.contracts.names import Metric
from pointsman.router.metrics import Metrics
from pointsman.router.response_cache.recorded import Recorded, Seal, Wrong
from pointsman.store.response_cache import FLIGHT_TTL, AnswerKey, AnswerStore, Look, generation_fields

log = logging.getLogger(__name__)

SLOW = 0.02
"""Seconds after which a look that has no answer yet keeps others from looking."""

PATIENCE = 0.25
"""Seconds that a look takes at most."""

STALLED = 0.05
"""Seconds from which on a look was so slow that those after it are not worth their wait either, for a while."""

REST = 5
"""How many times as long as a look that stalled nobody looks then: requests wait a sixth of their time at most."""

EVERY = 0.5
"""Seconds between two rounds of the second task."""

MOST_LOOKS = 64
"""Answers that are looked up in one go."""

MOST_UNWRITTEN = 64 * 1024 * 1024
"""Bytes of answers that may wait to be written; with more, what comes is dropped."""

MOST_WRITES = 100_000
"""Answers and ends of flights that may wait to be written, likewise."""

TURN = 0.005
"""Seconds of giving answers after which other work of the process gets its turn: a long one takes milliseconds."""

BULKY = 128 * 1024
"""Bytes from which on an answer is packed in a thread."""

LAST_FLUSH = 1.0
"""Seconds that the last answers get to reach Redis when the process ends."""

_FAILURES = (RedisError, OSError, ValueError)
"""What a Redis that is away, or holds what it should not, gives. TimeoutError is an OSError."""


class Absent(Enum):
    """What was found instead of an answer."""

    CLAIMED = "claimed"
    """There is none, and whoever looked is the one to make it."""
    HELD = "held"
    """There is none, and somebody else is making it."""
    REFUSED = "refused"
    """What there is can't be trusted."""
    UNKNOWN = "unknown"
    """Redis is away, or was too slow."""


Found = Callable[[Recorded | Absent, str], None]
"""Hears what was found, and where it is being made the fingerprint of the request that it is made for."""


class _Wanted:
    __slots__ = ("claim", "found", "key")

    def __init__(self, key: AnswerKey, claim: bytes, found: Found) -> None:
        self.key = key
        self.claim = claim
        self.found: Found | None = found

    def tell(self, what: Recorded | Absent, fingerprint: str = "") -> bool:
        """Whether whoever looked still waited for it."""
        found, self.found = self.found, None
        if found is None:
            return False
        try:
            found(what, fingerprint)
        except Exception as error:  # of one request: the others still want to hear of theirs
            # Only the kind of the failure is logged: its text may quote the request.
            log.error("an answer could not be given: %s\n%s", type(error).__name__, _frames(error))
        return True


class Shared:
    """
    Answers in Redis. `away`: nothing may be looked up; `slow`: whoever looked now would wait for too long.
    `changed` is called when answers have been invalidated.

    Owned by one event loop.
    """

    def __init__(self, store: AnswerStore, seal: Seal, metrics: Metrics, changed: Callable[[], None]) -> None:
        self._store = store
        self._seal = seal
        self._changed = changed
        self._refused = {why: metrics.counter(Metric.CACHE_REFUSED, {"reason": why.value}) for why in Wrong}
        self._run = token_hex(8)
        self._number = 0
        self._queue: deque[_Wanted] = deque()
        self._wanted = asyncio.Event()
        self._writes: deque[Callable[[], Awaitable[object]]] = deque()
        self._written = asyncio.Event()
        self._unwritten = 0
        self._held: dict[bytes, AnswerKey] = {}
        self._generations: dict[str, int] = {}
        self._revision: str | None = None
        self.away = True  # until the generations are known
        self.slow = False

    def generation(self, scope: str, model: str) -> int:
        """The generation of the answers of `scope` by `model` that are valid now."""
        known = self._generations
        return sum(known.get(field, 0) for field in generation_fields(scope, model)) if known else 0

    def claim(self, fingerprint: str) -> bytes:
        """What a flight is claimed with, for a request that `fingerprint` tells from others."""
        self._number += 1
        return f"{self._run}.{self._number}:{fingerprint}".encode()

    def look(self, key: AnswerKey, claim: bytes, found: Found) -> Callable[[], None]:
        """
        Look for the answer under `key`, and claim its flight where there is none. `found` hears of it later, unless
        what is returned is called; then the flight is let go if it was claimed.
        """
        wanted = _Wanted(key, claim, found)
        self._queue.append(wanted)
        self._wanted.set()

        def forget() -> None:
            wanted.found = None

        return forget

    def keep(self, key: AnswerKey, recorded: Recorded, *, model: str, generation: int, claim: bytes) -> None:
        """Write `recorded` under `key`, and end its flight."""
        self._held.pop(claim, None)
        if self._unwritten > MOST_UNWRITTEN:
            return  # the flight ends by itself before long
        self._unwritten += len(recorded.body)

        async def write() -> None:
            self._unwritten -= len(recorded.body)
            if len(recorded.body) > BULKY:
                entry = await asyncio.to_thread(Seal.closed, self._seal, key, recorded)
            else:
                entry = self._seal.closed(key, recorded)
            ttl = int((recorded.expires_at - time()) * 1000)
            if entry is None or ttl <= 0:
                await self._store.release([(key, claim)])
            else:
                await self._store.keep(key, entry, ttl=ttl, model=model, generation=generation, claim=claim)

        self._write(write)

    def release(self, key: AnswerKey, claim: bytes) -> None:
        """End the flight of `key` without an answer: whoever waits for it makes it himself."""
        self._held.pop(claim, None)
        self._write(lambda: self._store.release([(key, claim)]))

    def invalidate(self, scopes: Iterable[str]) -> None:
        """Let no answer of `scopes` be given any more."""
        for scope in scopes:
            self._write(partial(self._store.invalidate, scope, None))

    async def begin(self) -> None:
        """Learn what is valid, as far as Redis answers."""
        await self._follow()

    async def run(self) -> None:
        """Look up and write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_up())
            tasks.create_task(self._write_down())
            tasks.create_task(self._keep_up())

    async def flush(self) -> None:
        """Write what waits, and let go of what is claimed, as far as that can be done in `LAST_FLUSH` seconds."""
        for claim, key in list(self._held.items()):
            self.release(key, claim)
        try:
            async with asyncio.timeout(LAST_FLUSH):
                await self._write_all()
        except _FAILURES:
            self._writes.clear()
            self._unwritten = 0

    # -- looking

    async def _look_up(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():
            await self._wanted.wait()
            self._wanted.clear()
            while self._queue and not task.cancelling():
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), MOST_LOOKS))]
                batch = [wanted for wanted in batch if wanted.found is not None]
                if batch:
                    await self._look_at(batch)

    async def _look_at(self, batch: list[_Wanted]) -> None:
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        timers = loop.call_later(SLOW, self._is_slow), loop.call_later(PATIENCE, self._is_late, batch)
        try:
            looks = await self._store.look([(wanted.key, wanted.claim) for wanted in batch])
        except _FAILURES as error:
            self._is_away(type(error).__name__)
            for wanted in batch:
                wanted.tell(Absent.UNKNOWN)
            return
        finally:
            for timer in timers:
                timer.cancel()
            took = loop.time() - looked_at
            if took > STALLED:
                self.slow = True
                loop.call_later(REST * min(took, PATIENCE), self._is_quick)
            else:
                self.slow = False
        began = perf_counter()
        for wanted, look in zip(batch, looks, strict=True):
            self._tell(wanted, look)
            if perf_counter() - began > TURN:
                await asyncio.sleep(0)
                began = perf_counter()

    def _is_slow(self) -> None:
        self.slow = True

    def _is_quick(self) -> None:
        self.slow = False

    def _is_late(self, batch: list[_Wanted]) -> None:
        """Let all go on that wait for `batch`, and those that wait behind it."""
        self._is_away("it is too slow")
        for wanted in [*batch, *self._queue]:
            wanted.tell(Absent.UNKNOWN)
        self._queue.clear()

    def _tell(self, wanted: _Wanted, look: Look) -> None:
        if look.answer:
            opened = self._seal.opened(wanted.key, look.answer)
            if isinstance(opened, Recorded) and opened.expires_at > time():
                wanted.tell(opened)
                return
            if isinstance(opened, Wrong):
                self._refused[opened].add(1)
            wanted.tell(Absent.REFUSED)
        elif look.holder:
            wanted.tell(Absent.HELD, look.holder.partition(b":")[2].decode("ascii", "replace"))
        else:
            self._held[wanted.claim] = wanted.key
            if not wanted.tell(Absent.CLAIMED):
                self.release(wanted.key, wanted.claim)

    # -- writing and following

    def _write(self, write: Callable[[], Awaitable[object]]) -> None:
        if len(self._writes) < MOST_WRITES:
            self._writes.append(write)
            self._written.set()

    async def _write_down(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():
            await self._written.wait()
            self._written.clear()
            await self._write_all()

    async def _write_all(self) -> None:
        while self._writes:
            write = self._writes.popleft()
            try:
                await write()
            except _FAILURES as error:
                self._is_away(type(error).__name__)
                self._writes.clear()
                self._unwritten = 0

    async def _keep_up(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():
            await asyncio.sleep(EVERY)
            await self._follow()

    async def _follow(self) -> None:
        """Say that what is being worked on still is, and learn what was invalidated."""
        try:
            if self._held:
                await self._store.renew([(key, claim) for claim, key in self._held.items()])
            revision = await self._store.revision()
            if revision != self._revision:
                self._generations = await self._store.generations()
                self._revision = revision
                self._changed()
        except _FAILURES as error:
            self._is_away(type(error).__name__)
            return
        if self.away:
            log.info("the response cache is in use")
        self.away = False

    def _is_away(self, why: str) -> None:
        if not self.away:
            log.warning("the response cache is left out until Redis can be reached (%s)", why)
        self.away = True


def _frames(error: Exception) -> str:
    return "".join(traceback.format_tb(error.__traceback__))


assert EVERY * 4 < FLIGHT_TTL
