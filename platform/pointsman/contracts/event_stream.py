"""Reading server-sent events as a client: bytes in, however they are cut, the data of whole events out.

Stands in the contracts because every room that asks the router for a stream reads it alike: the command line and
the console. Reads no socket itself, so that it serves synchronous and asynchronous clients. A line ends at a line
feed here; `str.splitlines` would also split at characters such as U+2028 that JSON leaves as they are.
"""

from __future__ import annotations

MAX_EVENT = 16 * 1024 * 1024
"""Bytes of one event of a stream at most."""

DONE = b"[DONE]"
"""The data of the last event of OpenAI's streams."""


class EndlessEvent(ValueError):
    """An event is longer than any that a router sends: what answers is something else."""


class EventReader:
    """The events of one stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._data = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that end in `chunk`; raises `EndlessEvent` where one does not end at all."""
        data, found = self._data, []
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data += (b"\n" if data else b"") + line.removeprefix(b"data:").removeprefix(b" ")
            elif not line and data:
                found.append(bytes(data))
                data.clear()
        if len(self._rest) + len(data) > MAX_EVENT:
            raise EndlessEvent("an event has no end")
        return found
