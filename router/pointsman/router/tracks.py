"""Which track each conversation was answered on last: that is where its beginning is likely to be cached.

Stands beside `decide`, which reads it where a policy has hysteresis, and is told of each answer once it is settled.
The table is a file that all workers of an instance map, since the next turn may come to any of them. It is small
and forgets: an entry gives way to a newer one in its place, and means nothing after `FRESH` seconds. A conversation
that is not found is judged like a new one.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from time import time

from pointsman.contracts.modes import Mode
from pointsman.router.exchange import Exchange

SLOTS = 1 << 16
"""Conversations that are remembered at most, eight bytes each."""

FRESH = 600
"""Seconds for which a prefix is taken to stay cached; engines drop what is used least, sooner or later."""

_OK = 200
_THINK, _NO_THINK = Mode.THINK, Mode.NO_THINK


class Tracks:
    """
    The table. An entry is one 64-bit word: the conversation's key, then the second it was answered (31 bits), then
    the mode. One word is written at once, so that workers need no lock.
    """

    def __init__(self, path: Path) -> None:
        """Map `path`, made where there is none. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, 8 * SLOTS)
            self._words = memoryview(mmap.mmap(descriptor, 8 * SLOTS)).cast("Q")
        finally:
            os.close(descriptor)

    def last(self, conversation: int) -> Mode | None:
        """The mode in which `conversation` (a key of 32 bits) was answered last; None where that is not known."""
        word = self._words[conversation % SLOTS]
        if word >> 32 != conversation or int(time()) - (word >> 1 & _SECONDS) > FRESH:
            return None
        return _THINK if word & 1 else _NO_THINK

    def note(self, exchange: Exchange, status: int) -> None:
        """`exchange` has ended with `status`: if an engine has answered it, its conversation is there now."""
        conversation = exchange.conversation
        if conversation and status == _OK and exchange.recalled is None:
            seconds = int(time()) & _SECONDS
            self._words[conversation % SLOTS] = conversation << 32 | seconds << 1 | (exchange.mode is _THINK)


_SECONDS = (1 << 31) - 1
