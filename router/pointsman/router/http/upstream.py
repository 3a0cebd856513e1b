"""The engine's side of the data plane: one keep-alive connection to an engine, with one request at a time.

Stands beside `server.py`, below `site.py`, which pools the connections to one address. Knows HTTP/1.1 framing,
deadlines and backpressure, and nothing of what the bytes mean. Whoever sends a request gets the answer through the
four methods of `Receiver`. An answer that arrives in one piece, and a chunk that arrives as one, are the usual case
and take the shortest way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from pointsman.router.exchange import Headers
from pointsman.router.http.answer_head import CHUNKED, UNTIL_CLOSE, BadAnswer, Head, KnownHead, parse_head
from pointsman.router.http.chunks import SIZES, ChunkDecoder
from pointsman.router.http.outbox import OUTBOX

if TYPE_CHECKING:
    from pointsman.router.http.site import Site

log = logging.getLogger(__name__)

MAX_HEAD = 64 * 1024
"""Bytes of an answer's head at most, with the interim answers before it."""

REST = 5.0
"""Seconds an engine has to end an answer of which nobody wants the rest, and to keep its connection so."""

_BEGINNING = b"HTTP/1."

OnChunk = Callable[[bytes, bytes], bool]
"""`ChunkTaker.on_chunk`."""


class ChunkTaker(Protocol):
    """Takes small whole chunks with their framing, so that they can go on as they came."""

    def on_chunk(self, framed: bytes, rest: bytes) -> bool:
        """
        Take a chunk, or leave it (False) to `Receiver.on_data`.

        `framed` is all of it, `rest` what follows its size line: as many bytes as that says and two more, of
        which it is for the taker to see that they are CR LF.
        """

    def on_chunks(self, data: bytes, at: int) -> int:
        """
        Take chunks of `data` from `at` on, as many as can be taken at once, and return where the rest begins.

        It is for the taker to see that their framing is right.
        """


class Receiver(Protocol):
    """Gets one answer. After `on_complete` or `on_lost` nothing more comes."""

    def on_head(self, status: int, headers: Headers) -> None:
        """The head has arrived."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body, never empty."""

    def on_complete(self) -> None:
        """The answer is complete."""

    def on_lost(self, reason: str) -> None:
        """The answer will not be completed: `connect`, `timeout`, `closed` or `garbage`."""


class _Discard:
    """Receives the rest of an answer of which nobody wants the rest."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Nobody waits for it."""

    def on_data(self, data: bytes) -> None:
        """Nobody waits for it."""

    def on_complete(self) -> None:
        """Nobody waits for it."""

    def on_lost(self, reason: str) -> None:
        """Nobody waits for it."""


_DISCARD = _Discard()
_IDLE, _HEAD, _LENGTH, _CHUNKS, _PART, _UNTIL_CLOSE = range(6)


class UpstreamConnection(asyncio.Protocol):
    """
    One connection to an engine, idle or busy with one request.

    Time is told by `sweep` alone, so that no answer costs a look at the clock: a timeout is kept to within the time
    between two sweeps, and never comes early.
    """

    __slots__ = (
        "_decoder",
        "_head",
        "_heard",
        "_idle_timeout",
        "_keep",
        "_left",
        "_part",
        "_paused",
        "_receiver",
        "_simple_chunks",
        "_site",
        "_state",
        "_taker",
        "_timeout",
        "_transport",
        "deadline",
        "reused",
    )

    _decoder: ChunkDecoder

    def __init__(self, site: Site) -> None:
        self._site = site
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._state = _IDLE
        self._head = b""  # as far as it has come, and the bytes of interim answers before it
        self._left = 0
        self._keep = False
        self._taker: ChunkTaker | None = None
        self._part = b""  # of a small chunk for the taker
        self._simple_chunks: OnChunk | None = None  # the taker's, while the next byte begins a chunk
        self._paused = False
        self._timeout = 0.0
        self._idle_timeout = 0.0
        self._heard = False
        self.deadline = 0.0
        self.reused = False
        """Whether this connection has answered before: it may be closed at the other end without a fault."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, of the same shape
        self._site.connections.add(self)

    def send(self, request: bytes, receiver: Receiver, *, first_byte_timeout: float, idle_timeout: float) -> None:
        """
        Send `request`; its answer goes to `receiver`.

        Seconds: `first_byte_timeout` until the body begins (engines send the head before they begin to work),
        `idle_timeout` between two pieces of it.
        """
        transport = self._transport
        assert transport is not None
        assert self._receiver is None
        self._receiver = receiver
        self._state = _HEAD
        self._timeout = first_byte_timeout
        self._idle_timeout = idle_timeout
        self._heard = True
        transport.write(request)

    def take_chunks(self, taker: ChunkTaker) -> None:
        """From now on show small whole chunks to `taker`, before they go to `on_data`."""
        self._taker = taker

    def detach(self, receiver: Receiver) -> None:
        """`receiver` wants no more: read what is left of its answer, for a short while, and keep the connection."""
        if self._receiver is receiver:
            self._receiver = _DISCARD
            self._taker = self._simple_chunks = None
            self._timeout = REST
            self.resume()

    def abort(self) -> None:
        """Drop the connection, and with it the engine's work; the receiver hears nothing more."""
        self._receiver = None
        self._taker = self._simple_chunks = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no further; an engine that is held back can't be late."""
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, where reading was paused."""
        if self._paused:
            self._paused = False
            self._heard = True
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def sweep(self, now: float) -> None:
        """Give up on an engine that has been silent for too long. `now` is in `monotonic` seconds."""
        if self._receiver is None or self._paused:
            return
        if self._heard:
            self._heard = False
            self.deadline = now + self._timeout
        elif now >= self.deadline:
            self._lose("timeout")

    # -- the transport's side

    def data_received(self, data: bytes) -> None:
        on_chunk = self._simple_chunks
        if on_chunk is not None:
            line, _, rest = data.partition(b"\r\n")
            size = SIZES.get(line, 0)
            if size == len(rest) - 2:
                if on_chunk(data, rest):
                    self._heard = True
                    return
            elif size < len(rest):
                # Several chunks: while the engine writes faster than this process reads, the usual case.
                assert self._taker is not None
                taken = self._taker.on_chunks(data, 0)
                if taken:
                    self._heard = True
                    if taken == len(data):
                        return
                    data = data[taken:]
            self._chunks(data)
            return
        state = self._state
        if state == _HEAD:
            self._read_head(data)
        elif state == _CHUNKS:
            self._chunks(data)
        elif state == _PART:
            self._state = _CHUNKS
            self._chunks(self._part + data)
        elif state == _LENGTH:
            self._counted(data)
        elif state == _UNTIL_CLOSE:
            self._piece(data)
        else:
            # An engine that speaks unasked can't be trusted to keep its answers apart.
            self._site.forget(self)
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._site.forget(self)
        self._give_part()
        receiver, self._receiver = self._receiver, None
        self._taker = self._simple_chunks = None
        if receiver is None:
            return
        if self._state == _UNTIL_CLOSE and error is None:
            receiver.on_complete()
        else:
            receiver.on_lost("closed")

    # -- the answer's parts

    def _read_head(self, data: bytes) -> None:
        if self._head:
            data = self._head + data
        else:
            for known in self._site.known_heads:
                match = known.match(data)
                if match is not None:
                    self._answer(known.head, match[0], data, match[1])
                    return
        start = 0
        while True:
            end = data.find(b"\r\n\r\n", start)
            if end < 0 or end > MAX_HEAD:
                self._head = data
                if len(data) > MAX_HEAD:
                    self._garbage("its head is too large")
                elif not data.startswith(_BEGINNING[: len(data) - start], start):
                    self._garbage("no HTTP/1.1 status line")
                return
            try:
                parsed = parse_head(data[start:end])
            except BadAnswer as fault:
                self._garbage(str(fault))
                return
            begin, start = start, end + 4
            if parsed.status >= 200:
                break
            if parsed.status == 101:
                self._garbage("an upgrade that nobody asked for")
                return
        self._head = b""
        if parsed.status == 200:
            self._site.remember(KnownHead(data[begin:start], parsed))
        self._answer(parsed, parsed.length, data, start)

    def _answer(self, head: Head, length: int, data: bytes, start: int) -> None:
        """An answer begins whose body has `length`, and starts at `start` in `data`."""
        receiver = self._receiver
        assert receiver is not None
        self._keep = head.keep
        if length >= 0:
            self._state = _LENGTH
            self._left = length
            receiver.on_head(head.status, head.headers)
            self._counted(data[start:])  # if only to find out that it is complete
            return
        if length == CHUNKED:
            self._state = _CHUNKS
            self._decoder = ChunkDecoder()
        else:
            self._state = _UNTIL_CLOSE
        receiver.on_head(head.status, head.headers)
        if start < len(data):
            if length == UNTIL_CLOSE:
                self._piece(data[start:])
            else:
                self._chunks(data[start:])

    def _counted(self, data: bytes) -> None:
        """A piece of a body of known length, or nothing where its head came alone."""
        left = self._left
        size = len(data)
        if size > left:
            self._keep = False  # a second answer to one request
            data = data[:left]
            size = left
        self._left = left - size
        if size:
            self._piece(data)
        if size == left:
            self._finish()

    def _chunks(self, data: bytes) -> None:
        """A piece of a body in chunks, cut anywhere; what comes of it leaves together."""
        OUTBOX.open = True
        try:
            self._take_apart(data)
        finally:
            OUTBOX.shut()

    def _take_apart(self, data: bytes) -> None:
        decoder = self._decoder
        at, total = 0, len(data)
        while at < total:
            between = decoder.between
            if between and self._taker is not None:
                at = self._whole_chunks(data, at)
                if at == total:
                    break
            # A chunk that needs a closer look goes by itself, so that those behind it may go on as they came.
            end = (between and _end_of_chunk(data, at)) or total
            for piece in decoder.feed(data[at:end]):
                self._piece(piece)
            at = end
            if self._receiver is None:
                return
            if decoder.done:
                self._keep = self._keep and not decoder.excess
                self._finish()
                return
            if decoder.fault is not None:
                self._garbage(str(decoder.fault))
                return
        taker = self._taker if self._state == _CHUNKS and decoder.between else None
        self._simple_chunks = None if taker is None else taker.on_chunk

    def _whole_chunks(self, data: bytes, at: int) -> int:
        """
        Hand on the small whole chunks that begin at `at`, and return where the first one begins that nobody took.

        Keeps the part of another one, which counts as taken: who takes whole chunks has no use for parts.
        """
        self._heard = True
        total = len(data)
        while (taker := self._taker) is not None and at < total:
            at = taker.on_chunks(data, at)
            line = data.find(b"\r\n", at, at + 8)
            size = SIZES.get(data[at:line])
            if line < 0 or size is None:
                break
            end = line + size + 4
            if end > total:
                self._state = _PART
                self._part = data[at:]
                return total
            if not taker.on_chunk(data[at:end], data[line + 2 : end]):
                break
            at = end
        return at

    def _piece(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        if receiver is not _DISCARD:
            self._timeout = self._idle_timeout
            self._heard = True
        receiver.on_data(data)

    def _finish(self) -> None:
        """The answer is complete, and all that arrived with it is parsed: only now may the next request go out."""
        receiver, self._receiver = self._receiver, None
        self._state = _IDLE
        self._taker = self._simple_chunks = None
        self.reused = True
        if receiver is None:
            return  # it has aborted
        if self._keep:
            if self._paused:
                self.resume()
            self._site.release(self)
        else:
            self.close()
        receiver.on_complete()

    # -- inside

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._receiver is not None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _garbage(self, what: str) -> None:
        log.warning("engine at %s: %s", self._site.name, what)
        self._lose("garbage")

    def _give_part(self) -> None:
        """Nothing more will come: what has come of a chunk is still part of the answer."""
        if self._state == _PART:
            self._state = _CHUNKS
            self._taker = None
            for piece in self._decoder.feed(self._part):
                self._piece(piece)

    def _lose(self, reason: str) -> None:
        self._give_part()
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.on_lost(reason)


def _end_of_chunk(data: bytes, at: int) -> int:
    """Where the small chunk that begins at `at` ends, or 0 where it is another one, or not whole."""
    line = data.find(b"\r\n", at, at + 8)
    size = SIZES.get(data[at:line])
    if line < 0 or size is None:
        return 0
    end = line + size + 4
    return end if end <= len(data) else 0
