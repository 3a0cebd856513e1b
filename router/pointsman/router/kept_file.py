"""A file of the state folder that is brought to what is known, off the path of those who take up what changes.

Between the watches and `state_file.py`: a disk may take seconds, and no change must wait for the one before it to
be written down. So the file is written by a task and in a thread, and not again before many times as long has
passed: with ten thousand entries and a change every second it would be written all the time. Where it matters how
old what is known is, the file's own time says when it was last known to be true.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from pointsman.router.state_file import replace_file

log = logging.getLogger(__name__)

REST = 50.0
"""The file is not written again before this many times as long has passed as writing it took."""

CONFIRM = 30.0
"""Seconds after which the file's time is brought up while nothing changes."""


class KeptFile:
    """
    Brings `path` to what is known, which is `what`, in a word. Never raises.

    `snapshot` is called on the loop and only copies; what it returns is called in a thread and makes the content.
    `true_at`: until when what is known was surely true, in seconds since 1970; the file's time shall say that.
    """

    def __init__(
        self,
        path: Path,
        snapshot: Callable[[], Callable[[], bytes]],
        *,
        what: str,
        true_at: Callable[[], float] | None = None,
    ) -> None:
        self._path = path
        self._snapshot = snapshot
        self._what = what
        self._true_at = true_at
        self._changed = False
        self._rest = 0.0
        self._confirm = math.inf if true_at is None else 0.0
        self._writing: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """What is known has changed: the file is to be written."""
        self._changed = True

    def write_if_due(self) -> None:
        """Begin to write where it is time and something has changed, or nothing has for long."""
        due = self._rest if self._changed else self._confirm
        if monotonic() >= due and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self.write())

    async def write(self) -> None:
        """Write what has changed, if anything has, and until when it was true."""
        began = monotonic()
        changed, self._changed = self._changed, False  # what changes from now on is to be written again
        content = self._snapshot() if changed else None
        true_at = None if self._true_at is None else self._true_at()
        try:
            await asyncio.to_thread(self._bring, content, true_at)
        except OSError as error:
            if changed or not isinstance(error, FileNotFoundError):  # else there was never anything to be written
                log.warning("the %s that are known can't be written: %s", self._what, error.strerror)
                self._changed = True
        now = monotonic()
        if changed:
            self._rest = now + REST * (now - began)
        if true_at is not None:
            self._confirm = now + CONFIRM

    def _bring(self, content: Callable[[], bytes] | None, true_at: float | None) -> None:
        if content is not None:
            replace_file(self._path, content())
        if true_at is not None:
            os.utime(self._path, (true_at, true_at))
