"""Answers to one client, as bytes: the half of a connection that the application speaks to.

Apart from the reading half because it knows nothing of requests but how the current one wants to be answered. Each
answer is one write, and so is each piece of one, or several that came in one read from an engine (`outbox.py`).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from pointsman.router.http.heads import Head
from pointsman.router.http.outbox import OUTBOX
from pointsman.router.http.wire import BODILESS, head, status_line, unframed


class Answers(ABC):
    """Implements `exchange.Client` for the request being answered. A subclass reads requests and has `_done`."""

    __slots__ = ("_chunked", "_current", "_draining", "_silent", "_transport")

    def __init__(self, *, draining: bool) -> None:
        self._transport: asyncio.Transport | None = None
        self._current: Head | None = None  # of the request being answered
        self._chunked = False
        self._silent = True  # no byte of the answer has been sent
        self._draining = draining

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer and be done with the request."""
        request, transport = self._current, self._transport
        if request is None or transport is None:
            return
        if request.plain and not self._draining and status not in BODILESS:
            transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (status_line(status), headers, len(body), body))
            self._done(True)
            return
        keep = request.keep_alive and not self._draining
        start = head(status, headers, length=len(body), keep_alive=keep, http_10=request.http_10)
        transport.write(start if request.method == "HEAD" else start + body)
        self._done(keep)

    def start_stream(self, headers: bytes, status: int = 200, first: bytes = b"") -> None:
        """Send the head of an answer of unknown length, and its `first` piece in the same write."""
        request, transport = self._current, self._transport
        if request is None or transport is None:
            return
        self._silent = False
        if request.plain and not self._draining:
            self._chunked = True
            piece = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
            start = b"%b%btransfer-encoding: chunked\r\n\r\n%b" % (status_line(status), headers, piece)
            OUTBOX.write(transport, start)
            return
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the answer.
        self._chunked = not request.http_10
        keep = request.keep_alive and not self._draining and self._chunked
        OUTBOX.write(transport, head(status, headers, length=None, keep_alive=keep, http_10=request.http_10))
        self.send(first)

    def send(self, data: bytes) -> None:
        """Send a piece of a started stream."""
        transport = self._transport
        if transport is None or not data:
            return
        OUTBOX.write(transport, b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def send_chunks(self, chunks: bytes) -> None:
        """Send pieces of a started stream that are framed already: whole HTTP/1.1 chunks, one after another."""
        transport = self._transport
        if transport is None:
            return
        OUTBOX.write(transport, chunks if self._chunked else unframed(chunks))

    def end_stream(self, data: bytes) -> None:
        """Send the last piece of a started stream, possibly empty, and be done with the request."""
        request, transport = self._current, self._transport
        if request is None or transport is None:
            return
        if self._chunked:
            OUTBOX.write(transport, b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
        elif data:
            OUTBOX.write(transport, data)
        OUTBOX.flush()
        self._done(request.keep_alive and self._chunked and not self._draining)

    def cut(self) -> None:
        """Break the connection off: the started answer can't be finished, and the client must notice."""
        OUTBOX.flush()
        transport, self._transport = self._transport, None  # nothing may be written in what is left of this turn
        if transport is not None:
            transport.abort()

    @abstractmethod
    def _done(self, keep_alive: bool) -> None:
        """The current request has been answered; nothing more may follow unless `keep_alive`."""
