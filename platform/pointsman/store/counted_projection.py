"""A copy of named entries that routers read: a hash in Redis, a counted revision, and a stream that names what
changed.

Beneath the copies of tenants and of pools, which say what an entry holds. Redis may lose it or be behind: the admin
process puts it right from the database, whose numbers of changes a copy that arrives late can't turn back. With a
hundred thousand entries nobody should read all of them for one change: the revision is `CHAIN.NUMBER`, and each
change the entry `NUMBER-0` of the stream, so that a reader sees whether it has missed one. Where everything is
written anew, a new chain begins.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar, cast

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.store.counted_scripts import FINISH, PUT, SOME

CHANGES_KEPT = 10_000
"""Changes that the stream holds at least; who is further behind reads everything."""

_AT_ONCE = 200
"""Entries read or written at a time: some hundred kilobytes, as long as streams may wait for their turn."""

_BUILT_LIVES = 600
"""Seconds after which a copy that nobody finished goes by itself."""


class Change(NamedTuple):
    """The entry called `name`, and the number of the change that made it, with which its JSON begins."""

    name: str
    version: int
    entry: bytes


class Counted(NamedTuple):
    """The keys in Redis of one copy: hash, revision and stream."""

    entries: str
    revision: str
    changes: str


class CountedProjection:
    """
    The admin process's side: writes. `version_of` tells the number of the change that made an entry, -1 where the
    entry makes no sense. Every method raises `redis.exceptions.RedisError` where Redis fails.
    """

    def __init__(self, redis: Redis, keys: Counted, *, version_of: Callable[[bytes], int]) -> None:
        self._redis = redis
        self._counted = keys
        self._version_of = version_of
        self._put = redis.register_script(PUT)
        self._finish = redis.register_script(FINISH)

    def put(self, changes: Iterable[Change]) -> str | None:
        """
        Project `changes`, but those that are older than what is there; returns the revision from now on.

        None: Redis was emptied or lost a part of it. A few entries alone would look as if all others were gone.
        """
        revision: str | None = None
        for some in _pieces(changes, _AT_ONCE):
            arguments = [part for change in some for part in change]
            revision = text_of(self._put(keys=list(self._counted), args=[CHANGES_KEPT, *arguments]))
            if revision is None:
                return None
        return revision or self.revision()

    def replace(self, changes: Iterable[Change]) -> str | None:
        """
        Make the projection these entries and nothing else; returns the new revision, None where it didn't work.

        They are written beside the present ones, which readers go on reading, and then take their place at once.
        What is put meanwhile is lost: the caller must put again what has changed since `changes` was read.
        """
        built = f"{self._counted.entries}:next:{secrets.token_hex(8)}"
        number = 0
        try:
            for some in _pieces(changes, _AT_ONCE):
                with self._redis.pipeline(transaction=False) as batch:
                    batch.hset(built, mapping={change.name: change.entry for change in some})
                    batch.expire(built, _BUILT_LIVES)
                    batch.execute()
                number += len(some)
            return text_of(self._finish(keys=[*self._counted, built], args=[f"{secrets.token_hex(8)}.0", number]))
        except BaseException:
            self._redis.unlink(built)
            raise

    def versions(self) -> Iterator[tuple[str, int]]:
        """Each entry that is there with its version; -1 where it makes no sense. One may come twice."""
        cursor = 0
        while True:
            found: tuple[int, dict[bytes, bytes]]
            found = cast(Any, self._redis.hscan(self._counted.entries, cursor, count=_AT_ONCE))
            cursor = found[0]
            for name, entry in found[1].items():
                yield name.decode("utf-8", "replace"), self._version_of(entry)
            if not cursor:
                return

    def revision(self) -> str | None:
        """The word of the last write; None where Redis was emptied."""
        return text_of(self._redis.get(self._counted.revision))


class CountedReader:
    """
    A router's side: reads, `at_once` entries at a time. Every method raises `redis.exceptions.RedisError` where
    Redis fails.
    """

    def __init__(self, redis: AsyncRedis, keys: Counted, *, at_once: int = _AT_ONCE) -> None:
        self._redis = redis
        self._counted = keys
        self._at_once = at_once
        self._some = redis.register_script(SOME)

    @property
    def stream(self) -> str:
        """The key of the stream that grows with each change."""
        return self._counted.changes

    async def revision(self) -> str | None:
        """The word of the last write; None where nobody wrote, or Redis was emptied: nothing follows from that."""
        return text_of(await self._redis.get(self._counted.revision))

    async def changes(self, since: str, until: str) -> set[str] | None:
        """
        The names of what has changed after revision `since`, up to `until` at least.

        None: that can't be told any more, everything is to be read.
        """
        chain, _, first = since.partition(".")
        same, _, last = until.partition(".")
        if chain != same or not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
            return None
        names: set[str] = set()
        number = int(first)
        while number < int(last):
            found = await self._redis.xrange(self._counted.changes, min=f"{number + 1}-0", count=_AT_ONCE)
            for identity, fields in cast(list[tuple[bytes, dict[bytes, bytes]]], found):
                number += 1
                if identity != b"%d-0" % number:
                    return None
                names.add(fields.get(b"tenant", b"").decode("utf-8", "replace"))
            if not found:
                return None
        # The stream may belong to a chain that has begun meanwhile.
        now = await self.revision()
        return names if now is not None and now.partition(".")[0] == chain else None

    async def some(self, names: Iterable[str]) -> dict[str, bytes | None]:
        """The entries of `names`; None where there is none."""
        found: dict[str, bytes | None] = {}
        for some in _pieces(names, self._at_once):
            entries = cast(list[bytes | None], await cast(Any, self._redis.hmget(self._counted.entries, some)))
            found.update(zip(some, entries, strict=True))
        return found

    async def all(self) -> AsyncIterator[tuple[str, bytes]]:
        """
        Each entry with its name, some at a time.

        An entry may come twice, and one that is written meanwhile may be missed: the revision tells.
        """
        cursor = b"0"
        while True:
            cursor, joined = await self._some(keys=[self._counted.entries], args=[cursor, self._at_once])
            found = joined.split(b"\0") if joined else []
            for name, entry in zip(found[::2], found[1::2], strict=False):
                yield name.decode("utf-8", "replace"), entry
            if cursor == b"0":
                return


def text_of(value: object) -> str | None:
    """What Redis has answered, as text; None where it was none."""
    return value.decode() if isinstance(value, bytes) else None


T = TypeVar("T")


def _pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
