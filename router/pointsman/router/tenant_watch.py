"""Keep tenants and keys as Redis has them: what is made, changed or revoked there holds here within a second.

A task of every worker. A counted word in Redis tells that something has changed, and a stream beside it what: of a
hundred thousand tenants only those are read. Where that can't be told any more, all are. Redis may go away or be
empty: what is known holds on until it is `max_age` old, and lies in a file of the state folder for a process that
starts just then; the file's time says when it was last known to be true.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from pointsman.contracts.keys import Role
from pointsman.router.change_bell import ChangeBell
from pointsman.router.kept_file import KeptFile
from pointsman.router.rounds import Rounds
from pointsman.router.tenants import Tenants
from pointsman.store.tenant_projection import ADMIN_KEYS_CHANGED, TenantReader

log = logging.getLogger(__name__)

INTERVAL = 0.25
"""Seconds between two looks, where nothing wakes the watch before."""

PATIENCE = 2.0
"""Seconds that Redis has for each answer."""

FIRST = 10.0
"""Seconds that a process which starts waits for the tenants before it begins with those that it knew."""

SOME = 100
"""Tenants after which other work gets its turn: about a millisecond's."""

MANY = 1000
"""Changes from which on the garbage collector is kept from walking what is being made."""


class TenantWatch:
    """
    Keeps `tenants` as `reader` has them, and `tenants.stale` true while nothing was heard for `max_age` seconds.

    `known` is the file for what is known; neither reading nor writing it ever raises. `bell`: what wakes it
    between two looks.
    """

    def __init__(
        self, reader: TenantReader, tenants: Tenants, known: Path, *, max_age: float, bell: ChangeBell | None = None
    ) -> None:
        self._reader = reader
        self._tenants = tenants
        self._file = known
        self._max_age = max_age
        self._admins: dict[bytes, Role] = {}
        self._revision: str | None = None
        self._heard = time.monotonic()
        self._rounds = Rounds(
            self.look,
            what="tenants",
            pause=asyncio.sleep if bell is None else bell.pause(reader.stream, lambda: self._revision),
            between=self._keep,
        )
        self.kept = KeptFile(
            known,
            self._content,
            what="tenants",
            true_at=lambda: time.time() - (time.monotonic() - self._heard),
        )

    async def begin(self) -> None:
        """Look for the first time, not for longer than `FIRST` seconds; where nothing is there, read the file."""
        await self._rounds.once(FIRST)
        if self._revision is None:
            self._load()

    async def follow(self) -> None:
        """Look at the interval until cancelled."""
        await self._rounds.follow(INTERVAL, None)

    def trouble(self) -> str | None:
        """What is wrong, in a few words; None while nothing is."""
        if self._tenants.stale:
            return "tenants: cut off for too long, nobody is let in"
        return None if self._rounds.reachable else "tenants: those that were known last"

    async def look(self) -> None:
        """Take up what has changed since the last time. Raises RedisError and OSError where Redis fails."""
        self._look_at_the_clock()  # the process may have been stopped for hours
        async with asyncio.timeout(PATIENCE):
            revision = await self._reader.revision()
        if revision is None:
            if self._revision is None and not self._tenants.any_made():
                self._hear()  # nobody has made any tenant: there is nothing that could have been revoked
            return
        if revision != self._revision:
            names = None
            if self._revision is not None:
                async with asyncio.timeout(PATIENCE):
                    names = await self._reader.changes(self._revision, revision)
            if names is None:
                if not await self._take_all(revision):
                    return
            else:
                await self._take_some(names)
            self._revision = revision
            self.kept.changed()
        self._hear()

    async def _take_some(self, names: set[str]) -> None:
        async with asyncio.timeout(PATIENCE):
            if ADMIN_KEYS_CHANGED in names:
                self._take_admins(await self._reader.admin_keys())
            entries = await self._reader.some(names - {ADMIN_KEYS_CHANGED})
        for number, (name, entry) in enumerate(entries.items()):
            self._tenants.take(name, entry)
            if number % SOME == 0:
                await asyncio.sleep(0)

    async def _take_all(self, revision: str) -> bool:
        """Read everything; False where everything was written anew meanwhile, so that it is to be read again."""
        chain = _chain(revision)
        anew = chain != _chain(self._revision)
        loop = asyncio.get_running_loop()
        found: set[str] = set()
        changes = 0
        gc.disable()
        try:
            async with asyncio.timeout(PATIENCE) as patience:
                self._take_admins(await self._reader.admin_keys())
                async for name, entry in self._reader.all():
                    if name not in found:
                        found.add(name)
                        changes += self._tenants.take(name, entry, anew=anew)
                    if len(found) % SOME == 0:
                        await asyncio.sleep(0)
                        patience.reschedule(loop.time() + PATIENCE)
                now = await self._reader.revision()
            if now is None or _chain(now) != chain:
                return False
            missing = [name for name, _ in self._tenants.entries() if name not in found]
            for name in missing:
                changes += self._tenants.take(name, None)
        finally:
            if changes >= MANY:
                gc.freeze()  # they live as long as the process: later collections need not walk them
            gc.enable()
        log.info("took up %d changed tenants of %d", changes, len(found))
        return True

    def _take_admins(self, admins: dict[bytes, Role]) -> None:
        self._admins = admins
        self._tenants.take_admins(admins)

    def _hear(self) -> None:
        self._heard = time.monotonic()
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        stale = time.monotonic() - self._heard >= self._max_age
        if stale is not self._tenants.stale:
            self._tenants.stale = stale
            if stale:
                log.error("no word of tenants for %g seconds: nobody is let in", self._max_age)
            else:
                log.info("tenants are known again: everybody is let in")

    def _load(self) -> None:
        """Begin with the tenants in the file, which are as old as it is."""
        try:
            age = max(0.0, time.time() - self._file.stat().st_mtime)
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("the tenants that were known last can't be read: %s", error.strerror)
            return
        number = 0
        for line in lines:
            name, parted, entry = line.removeprefix(b",").removeprefix(b'"').partition(b'":')
            if parted and name:
                number += self._tenants.take(name.decode("utf-8", "replace"), entry)
            elif parted:
                self._take_admins(_admins_in(entry))
        self._heard = time.monotonic() - age
        self._look_at_the_clock()
        log.warning("Redis has no tenants: beginning with the %d that were known %.0f seconds ago", number, age)

    def _keep(self) -> None:
        """Have the file hold what is known, or say that it is still true; while it is."""
        if self._rounds.reachable:
            self.kept.write_if_due()

    def _content(self) -> Callable[[], bytes]:
        """What is known, for the file."""
        admins = {digest.hex(): role.value for digest, role in self._admins.items()}
        lines = [("", orjson.dumps(admins)), *self._tenants.entries()]
        return lambda: b"{\n%b\n}\n" % b"\n,".join([b'"%b":%b' % (name.encode(), entry) for name, entry in lines])


def _admins_in(entry: bytes) -> dict[bytes, Role]:
    try:
        return {bytes.fromhex(digest): Role(role) for digest, role in orjson.loads(entry).items()}
    except (ValueError, AttributeError, TypeError):
        log.warning("the admin keys that were known last can't be read")
        return {}


def _chain(revision: str | None) -> str:
    """What the revisions of one history have in common; empty where there is none."""
    return "" if revision is None else revision.partition(".")[0]
