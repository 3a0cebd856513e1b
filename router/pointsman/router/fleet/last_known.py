"""The replicas that were known last, in a file: for a router that starts while Redis is away.

Stands beside the registrations, which alone read and write it. The file lies in the instance's state folder, is
readable by its owner only and replaced as a whole. What it holds is a hint: every replica in it is asked for
its health before it gets a request, and a list that nobody confirmed for an hour is not believed, because by
then an address may have gone to somebody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from time import time
from typing import Any

import orjson

from pointsman.router.state_file import replace_file
from pointsman.store.replicas import Replica, decoded, encoded

log = logging.getLogger(__name__)

BELIEVED = 3600.0
"""Seconds after which a list is too old to be used."""

CONFIRMED = 60.0
"""Seconds after which an unchanged list is written again, so that its age tells when Redis was last read."""

MAX_FILE = 8 * 1024 * 1024
"""Bytes of a list that are read at most."""


class LastKnown:
    """The list in the file `path`. Neither reading nor writing ever raises: failures are logged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: frozenset[tuple[str, str, str]] | None = None
        self._written_at = 0.0

    def load(self) -> list[Replica]:
        """The replicas in the file; none where it is missing, unreadable or too old."""
        try:
            with self._path.open("rb") as file:
                content: Any = orjson.loads(file.read(MAX_FILE))
            age = time() - float(content["written"])
            if not 0 <= age < BELIEVED:
                log.warning("the list of last known replicas is %.0f s old and is not used", age)
                return []
            items = [(str(item["address"]), orjson.dumps(item)) for item in content["replicas"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError):
            log.warning("the list of last known replicas can't be read")
            return []
        return [replica for address, value in items if (replica := decoded(address, value)) is not None]

    async def keep(self, replicas: Sequence[Replica]) -> None:
        """Write `replicas` to the file, where they differ from what it holds or it has not been written lately."""
        now = time()
        these = frozenset((item.pool, item.address, item.instance) for item in replicas)
        if these == self._written and 0 <= now - self._written_at < CONFIRMED:
            return
        self._written, self._written_at = these, now
        items = [orjson.loads(encoded(replica)) for replica in replicas]
        content = orjson.dumps({"written": now, "replicas": items})
        try:
            await asyncio.to_thread(replace_file, self._path, content)  # a disk may take its time; streams may not
        except OSError as error:
            log.warning("the list of last known replicas can't be written: %s", error.strerror)
