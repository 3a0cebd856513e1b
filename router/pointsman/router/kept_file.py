"""A file of the state folder that is brought to what is known, off the path of those who take up what changes.

Between the watches and `state_file.py`: a disk may take seconds, and no change must wait for the one before it to
be written down. So the file is written by a task and in a thread, and not again before many times as long has
passed: with ten thousand entries and a change every second it would be written all the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from pointsman.router.state_file import replace_file

log = logging.getLogger(__name__)

REST = 50.0
"""The file is not written again before this many times as long has passed as writing it took."""


class KeptFile:
    """
    Brings `path` to what is known, which is `what`, in a word. Never raises.

    `snapshot` is called on the loop and only copies; what it returns is called in a thread and makes the content.
    """

    def __init__(self, path: Path, snapshot: Callable[[], Callable[[], bytes]], *, what: str) -> None:
        self._path = path
        self._snapshot = snapshot
        self._what = what
        self._changed = False
        self._rest = 0.0
        self._writing: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """What is known has changed: the file is to be written."""
        self._changed = True

    def write_if_due(self) -> None:
        """Begin to write where something has changed and it is time."""
        if self._changed and monotonic() >= self._rest and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self.write())

    async def write(self) -> None:
        """Write what has changed, if anything has."""
        if not self._changed:
            return
        began = monotonic()
        self._changed = False  # what changes from now on is to be written again
        content = self._snapshot()
        try:
            await asyncio.to_thread(lambda: replace_file(self._path, content()))
        except OSError as error:
            log.warning("the %s that are known can't be written: %s", self._what, error.strerror)
            self._changed = True
        now = monotonic()
        self._rest = now + REST * (now - began)
