"""The spools of routers that died: taken over by whichever living one gets the lock, and brought to the database.

Stands beside `shipping.py`, which does the bringing. A request that was meant to be worked on and never settled
died with its router: what it used nobody knows, so it becomes an entry that bills nothing. Two that adopt at once,
or one that is killed while it adopts, change nothing: the lock is the process's, and a spool that was half sealed
is sealed further.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from redis.asyncio import Redis

from pointsman.router.ledger import records
from pointsman.router.ledger.shipping import Shipping
from pointsman.router.ledger.spool import INTENT, SETTLEMENT, Folder, Spool, SpoolFull, other_folders

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Spools that one router brings to the database at a time."""

NO_LIMIT = 1 << 62
"""Bytes: what seals a spool is small, and must not wait for room."""


class Adopted:
    """One spool of a router that died, sealed."""

    def __init__(self, redis: Redis, spool: Spool) -> None:
        self.spool = spool
        self.shipping = Shipping(redis, spool)
        self.shipping.ends = True

    def delete(self) -> None:
        self.spool.close()
        self.spool.folder.delete()


class Adoption:
    """
    Finds, seals and brings home the spools in `parent` whose routers are dead. `own`: the one that is ours.

    `look` may be called in a thread, while `round` does not run.
    """

    def __init__(self, parent: Path, redis: Redis, *, own: str) -> None:
        self._parent = parent
        self._redis = redis
        self._own = own
        self._adopted: list[Adopted] = []
        self._hopeless: set[str] = set()

    @property
    def size(self) -> int:
        """Bytes of what was taken over."""
        return sum(adopted.spool.size for adopted in self._adopted)

    @property
    def waiting(self) -> int:
        """Entries in it that the database does not have."""
        return sum(adopted.spool.number - adopted.shipping.committed for adopted in self._adopted)

    def look(self) -> None:
        """Take over what has lost its router."""
        mine = {adopted.spool.folder.name for adopted in self._adopted}
        for path in other_folders(self._parent, self._own):
            if len(self._adopted) >= AT_ONCE:
                return
            if path.name in mine or (folder := Folder.dead(path)) is None:
                continue
            spool = Spool(folder, most=NO_LIMIT)
            try:
                lost = seal(spool)
            except (OSError, SpoolFull, records.UnreadableRecord) as error:
                if path.name not in self._hopeless:
                    self._hopeless.add(path.name)
                    log.error("the spool of router %s can't be taken over: %s", path.name, type(error).__name__)
                spool.close()
                folder.release()
                continue
            log.warning("took over the spool of router %s: %d entries, %d lost", path.name, spool.number, lost)
            self._adopted.append(Adopted(self._redis, spool))

    async def round(self) -> None:
        """Bring some of what was taken over to the database."""
        for adopted in tuple(self._adopted):
            await adopted.shipping.round()
            if adopted.shipping.finished:
                self._adopted.remove(adopted)
                await asyncio.to_thread(adopted.delete)
            elif adopted.spool.untidy:
                await asyncio.to_thread(adopted.spool.sweep)

    def close(self) -> None:
        """Leave the rest to others."""
        for adopted in self._adopted:
            adopted.spool.close()
            adopted.spool.folder.release()
        self._adopted.clear()


def seal(spool: Spool) -> int:
    """
    Settle, as lost, each request of `spool` that was intended and never settled; returns how many they are.

    `spool` belongs to nobody else. Raises OSError, `SpoolFull`, `UnreadableRecord`; what was done until then
    stays.
    """
    spool.take_over()
    intended: dict[str, bytes] = {}
    for segment in spool.segments:
        for kind, record in segment.records():
            if not record:
                continue
            if kind == INTENT:
                intended[records.intended_id(record)] = record
            else:
                intended.pop(records.settled_id(record), None)
    for record in intended.values():
        spool.append(SETTLEMENT, records.lost(record))
    return len(intended)
