"""Follow the pools that the admin API makes: what is in Redis is where requests go, within a second.

A task of every worker, so that no request ever asks for its pool: it finds the ones that there were when it came. A
counted word in Redis tells that something has changed, and a stream beside it what; where that can't be told any
more, all pools are read. Redis may go away or be empty: what is known holds on, and lies in a file of the state
folder, for a process that starts just then.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from pathlib import Path

import orjson

from pointsman.router.change_bell import ChangeBell
from pointsman.router.kept_file import KeptFile
from pointsman.router.pools import Pools
from pointsman.router.rounds import Rounds
from pointsman.store.pool_projection import MadePool, PoolReader, pool_entry

log = logging.getLogger(__name__)

INTERVAL = 0.25
"""Seconds between two looks, where nothing wakes the watch before."""

PATIENCE = 5.0
"""Seconds that Redis has for one look, all pools included."""

FIRST = 3.0
"""Seconds that a process which starts waits for the pools before it begins without."""

SOME = 20
"""Pools that are read before other work gets its turn: about two milliseconds' work."""

MANY = 100
"""Changed pools from which on the garbage collector is kept from walking what is being made."""


class PoolWatch:
    """
    Keeps `pools` as `reader` has them. `known` is the file for what is known; it never makes anything fail.
    `bell`: what wakes it between two looks.
    """

    def __init__(self, reader: PoolReader, pools: Pools, known: Path, *, bell: ChangeBell | None = None) -> None:
        self._reader = reader
        self._kept = KeptFile(known, self._content, what="pools")
        self._pools = pools
        self._file = known
        self._entries: dict[str, bytes] = {}  # that hold, or were found wanting
        self._revision: str | None = None
        self._rounds = Rounds(
            self.look,
            what="pools",
            pause=asyncio.sleep if bell is None else bell.pause(reader.stream, lambda: self._revision),
            between=self._kept.write_if_due,
        )

    async def begin(self) -> None:
        """Look for the first time, not for longer than `FIRST` seconds; where nothing is there, read the file."""
        await self._rounds.once(FIRST)
        if self._revision is None and not self._entries:
            await self._load()
        await self._kept.write()

    async def follow(self) -> None:
        """Look at the interval until cancelled."""
        await self._rounds.follow(INTERVAL, PATIENCE)

    def trouble(self) -> str | None:
        """What is wrong, in a few words; None while nothing is."""
        return None if self._rounds.reachable else "pools: those that were known last"

    async def look(self) -> None:
        """Take up what has changed since the last time. Raises RedisError and OSError where Redis fails."""
        revision = await self._reader.revision()
        if revision is None or revision == self._revision:
            return
        names = None if self._revision is None else await self._reader.changes(self._revision, revision)
        found: dict[str, bytes | None]
        if names is not None:
            found = await self._reader.some(names)
        else:
            found = {name: entry async for name, entry in self._reader.all()}
            if _chain(await self._reader.revision()) != _chain(revision):
                return  # written anew meanwhile: the next look reads it
            found |= dict.fromkeys(self._entries.keys() - found.keys())
        if await self._take(found):
            self._kept.changed()
        self._revision = revision

    async def _take(self, found: dict[str, bytes | None]) -> int:
        """Let these entries hold, all at once; how many of them were anything new."""
        new = {name: entry for name, entry in found.items() if entry != self._entries.get(name)}
        changed: dict[str, MadePool | None] = {}
        if len(new) >= MANY:
            gc.disable()
        try:
            for number, (name, entry) in enumerate(new.items(), start=1):
                try:
                    changed[name] = None if entry is None else pool_entry(entry)
                except ValueError:
                    log.error("the pool %s can't be read: what is known of it holds on", name)
                if number % SOME == 0:
                    await asyncio.sleep(0)
            if changed:
                self._pools.take(changed)
        finally:
            if len(new) >= MANY:
                gc.freeze()
                gc.enable()
        for name, entry in new.items():
            if entry is None:
                self._entries.pop(name, None)
            else:
                self._entries[name] = entry
        if changed:
            log.info("took up %d changed pools", len(changed))
        return len(new)

    async def _load(self) -> None:
        """Begin with the pools in the file."""
        try:
            content = orjson.loads(self._file.read_bytes())
            entries: dict[str, bytes | None] = {str(name): orjson.dumps(entry) for name, entry in content.items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, AttributeError):
            log.warning("the pools that were known last can't be read")
            return
        await self._take(entries)
        log.warning("Redis has no pools: beginning with the %d that were known last", len(self._entries))

    def _content(self) -> Callable[[], bytes]:
        """What is known, for the file."""
        entries = dict(self._entries)
        return lambda: (
            b"{%b}" % b",\n".join([b'"%b":%b' % (name.encode(), entry) for name, entry in entries.items()])
        )


def _chain(revision: str | None) -> str:
    """What the revisions of one history have in common; empty where there is none."""
    return "" if revision is None else revision.partition(".")[0]
