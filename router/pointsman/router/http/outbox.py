"""What is written to a client while one read from an engine is handled leaves in one write.

Stands between `upstream.py`, which opens the box around a read that may hold several chunks, and `answers.py`,
which puts into it what a stream consists of. A busy engine's read holds a stream's head, tokens and end, each of
which goes on by a call of its own; each would be a system call too, and a wake-up of the client. Nothing waits
longer than until the read is dealt with, and a chunk stays a chunk.
"""

from __future__ import annotations

import asyncio


class Outbox:
    """
    Holds what is written to one client while it is `open`. One event loop owns it.

    Whoever closes or breaks off a connection is to `flush` first.
    """

    __slots__ = ("_pieces", "_transport", "open")

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Send `data`: at once, or with what else is written to the same client while the box is open."""
        if not self.open:
            transport.write(data)
            return
        if transport is not self._transport:
            self.flush()
            self._transport = transport
        self._pieces.append(data)

    def flush(self) -> None:
        """Send what is held."""
        transport, pieces = self._transport, self._pieces
        if transport is None:
            return
        self._transport, self._pieces = None, []
        transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def shut(self) -> None:
        """Hold nothing any more."""
        self.open = False
        self.flush()


OUTBOX = Outbox()
"""The process's own: all connections to clients and engines share one event loop."""
