"""From a spool to the stream in Redis, and the word back that the database has it.

Stands between `spool.py` and the ledger writer. The stream is only a way: an entry stays in the spool until the
writer has told that SQL has committed it, and what Redis has lost, because it was emptied or killed, is found
missing and sent again. So few batches are under way at once that the stream stays small however long the database
is away: the spool is where entries wait.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from pointsman.contracts.names import RedisKey
from pointsman.router.ledger.spool import FIRST, SETTLEMENT, Segment, Spool

log = logging.getLogger(__name__)

LARGEST = 128 * 1024
"""Bytes of one batch, about."""

MOST_ENTRIES = 500
"""Entries of one batch."""

MOST_FRESH = 5000
"""Settlements that are kept in memory until they are sent: to read them from the spool costs more."""

UNDER_WAY = 32
"""Batches of one spool that may be in the stream at once."""

PER_ROUND = 8
"""Batches that one round sends: the rest wait for the next, so that no stream does."""

CLOSED = b"closed"
"""What the writer tells of a run that has ended, and that the database has all of."""

_ASK = """
local said = {redis.call('HGET', KEYS[1], ARGV[1]) or false}
for at = 2, #ARGV do
  said[at] = #redis.call('XRANGE', KEYS[2], ARGV[at], ARGV[at])
end
return said
"""
"""What the writer has told of a run, and whether each of these batches is still in the stream, at one moment."""


class Batch(NamedTuple):
    """Settlements that are in the stream. `end`: the number after the last one."""

    end: int
    identity: bytes


class Place(NamedTuple):
    """Where reading goes on. `number`: of the next settlement from `at` on."""

    segment: Segment
    at: int
    number: int


class Shipping:
    """
    Brings the settlements of `spool` to the database, in order, once or more.

    `committed`: the number of the first one that the database has not told to have. `ends`: nothing will be added
    any more; `finished`: the database has all, and has closed the run's account. `fresh`: where whoever writes
    settlements to the spool may add them as well.
    """

    def __init__(self, redis: Redis, spool: Spool) -> None:
        self._redis = redis
        self._spool = spool
        self._ask = redis.register_script(_ASK)
        self._run = spool.folder.name
        self._sent: deque[Batch] = deque()
        self._number = 0
        self._place: Place | None = None
        self._fresh_from: int | None = None
        self.fresh: list[bytes] = []
        self._told_end = False
        self._reachable = True
        self.committed = 0
        self.ends = False
        self.finished = False

    async def round(self) -> None:
        """Send what is new, and hear what the database has. Redis being away is waited out."""
        if self.finished:
            return
        if self._fresh_from is None or len(self.fresh) > MOST_FRESH:
            self._fresh_from = None
            self.fresh.clear()
        try:
            for _ in range(PER_ROUND):
                if len(self._sent) >= UNDER_WAY or not await self._send():
                    break
            await self._hear()
            self._reachable = True
        except (RedisError, OSError) as error:
            if self._reachable:
                log.warning("the ledger's entries wait for Redis: %s", type(error).__name__)
            self._reachable = False

    async def _send(self) -> bool:
        found, first = self._next()
        end = first + len(found)
        closes = self.ends and not self._told_end and end == self._spool.number
        if not found and not closes:
            return False
        fields: dict[Any, Any] = {
            "run": self._run,
            "first": first,
            "base": self.committed,
            "entries": b"[%b]" % b",".join(found),
        }
        if self.ends:
            fields["dead"] = 1
        if closes:
            fields["closed"] = 1
        identity: Any = await self._redis.xadd(RedisKey.LEDGER, fields)
        self._sent.append(Batch(end, identity))
        self._number = end
        self._told_end = self._told_end or closes
        return True

    async def _hear(self) -> None:
        if not self._sent:
            return
        arguments: list[Any] = [self._run, *(batch.identity for batch in self._sent)]
        said, *there = await self._ask(keys=[RedisKey.LEDGER_COMMITTED, RedisKey.LEDGER], args=arguments)
        if said == CLOSED:
            self.committed = self._spool.number
            self.finished = self._told_end
        elif said is not None:
            self.committed = max(self.committed, int(said))
        self._spool.forget(self.committed)
        if self._place is not None and self._place.segment not in self._spool.segments:
            self._place = None  # it may be written to again
        if self.finished:
            await self._redis.hdel(RedisKey.LEDGER_COMMITTED, self._run)
            return
        sent = self._sent
        missing = False
        for batch, found in zip(tuple(sent), there, strict=True):
            if batch.end <= self.committed and not found:
                sent.remove(batch)
            elif not found:
                missing = True
        if missing or (not sent and self._told_end):
            log.warning("Redis has lost entries of the ledger: they are sent again")
            sent.clear()
            self._number = self.committed
            self._told_end = False

    def _next(self) -> tuple[list[bytes], int]:
        """Settlements that were not sent yet, and the number of the first one. Forgets those of `fresh`."""
        first = self._number
        if self._fresh_from == first:
            found = self.fresh[:MOST_ENTRIES]
            del self.fresh[:MOST_ENTRIES]
            self._fresh_from += len(found)
            return found, first
        found, first = self._read(first)
        if first + len(found) == self._spool.number:
            self.fresh.clear()
            self._fresh_from = self._spool.number
        return found, first

    def _read(self, first: int) -> tuple[list[bytes], int]:
        """Some settlements from the number `first` on, or from the first one that there is behind it."""
        segments = self._spool.segments
        if not segments:
            return [], first
        place = self._place
        if place is None or place.number != first or place.segment not in segments:
            place = self._found(first)
        index = segments.index(place.segment)
        segment, at, number = place
        first, size = number, 0
        found: list[bytes] = []
        while size < LARGEST and len(found) < MOST_ENTRIES:
            record = segment.record(at)
            if record is not None:
                kind, settled, at = record
                if kind == SETTLEMENT:
                    found.append(settled or b"null")
                    size += len(settled)
                    number += 1
                continue
            if segment is segments[-1]:
                break
            index += 1
            segment, at = segments[index], FIRST
            if segment.first != number:  # what was between them was committed, and is deleted
                number = segment.first
                if found:
                    break
                first = number
        self._place = Place(segment, at, number)
        return found, first

    def _found(self, wanted: int) -> Place:
        """Where the settlement `wanted` is, or will be."""
        segments = self._spool.segments
        segment = segments[0]
        for later in segments:
            if later.first <= wanted:
                segment = later
        at, number = FIRST, segment.first
        while number < wanted and (record := segment.record(at)) is not None:
            kind, _, at = record
            number += kind == SETTLEMENT
        return Place(segment, at, number)
