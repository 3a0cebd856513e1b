"""The client's side of the data plane: one `asyncio.Protocol` per connection.

Stands in front of everything and trusts nothing: framing and limits are the reader's, deadlines for slow senders,
backpressure and the order of answers are decided here. A whole request is handed to the application, which answers
through the methods of `exchange.Client`. Answers leave in the order in which their requests came, one at a time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, cast

from pointsman.contracts.errors import ApiError, RequestTimeout, TooManyConnections
from pointsman.router.http.answers import Answers
from pointsman.router.http.handling import Handling
from pointsman.router.http.heads import Head, KnownHead, split_head
from pointsman.router.http.reader import RequestReader
from pointsman.router.http.wire import CONTINUE, head
from pointsman.router.wire import formats

if TYPE_CHECKING:
    from pointsman.router.http.clients import Clients

log = logging.getLogger(__name__)

MAX_HELD = 64 * 1024
"""Bytes of further requests that are read while an answer is owed; then the client must wait."""

LINGER = 2.0
"""Seconds for which a refused client may finish sending, so that it gets to read why it was refused."""

STALLED = 60
"""Seconds after which the kernel gives up on a client that takes nothing of what is sent to it."""

MAX_PROBES = 4
"""Interim answers to a client that has shut down its sending side; some clients refuse a sixth."""


class Phase(Enum):
    """What a connection on which no answer is owed waits for; each has its own deadline."""

    IDLE = 0
    HEAD = 1
    BODY = 2


class ClientConnection(Answers, asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_application",
        "_clients",
        "_deadline",
        "_ended",
        "_handling",
        "_held",
        "_idle",
        "_known",
        "_last",
        "_limits",
        "_lingering",
        "_phase",
        "_probes",
        "_reader",
        "_reading_paused",
        "_refusal",
        "_writing_paused",
        "peer",
    )

    def __init__(self, clients: Clients) -> None:
        super().__init__(draining=clients.draining)
        limits = clients.limits
        self._clients = clients
        self._application = clients.application
        self._limits = limits
        self._known = clients.known_heads
        self._last: KnownHead | None = None  # the head of the last request, if it is a known one
        self._reader = RequestReader(limits)
        self.peer = ""
        """The client's address."""
        self._handling: Handling | None = None
        self._held = bytearray()  # what came while an answer was owed
        self._idle = True  # nothing is owed and nothing half read: the next byte begins a request
        self._ended = False  # the client sends nothing more
        self._probes = 0
        self._reading_paused = False
        self._writing_paused = False
        self._lingering = False
        self._refusal: ApiError | None = None
        self._phase = Phase.IDLE
        self._deadline = monotonic() + limits.header_timeout

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, of the same shape
        peer = self._transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = str(peer[0])
            # Else who never reads his stream would hold a place on an engine for ever.
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED * 1000)
        if not self._clients.admit(self):
            self._refuse(TooManyConnections("The router holds as many connections as it may.", retry_after=1))
        elif self._draining:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._clients.forget(self)
        self._reader.close()
        self._transport = None
        self._current = None
        handling, self._handling = self._handling, None
        if handling is not None:
            handling.abandon()

    def data_received(self, data: bytes) -> None:
        if not self._idle:
            self._more_received(data)
            return
        self._idle = False
        last = self._last
        if last is not None:
            body = last.body_of(data)
            if body is not None and len(body) <= self._limits.max_body_bytes:
                self._serve(last.head, body)
                return
        self._begin(data, last)

    def eof_received(self) -> bool:
        """Whether the connection stays: a client may still wait for the answers to what it has sent."""
        self._ended = True
        transport, current = self._transport, self._current
        # TLS has no half of a connection, and HTTP/1.0 no interim answer to find out with who is still there.
        if transport is None or not transport.can_write_eof() or (current is not None and current.http_10):
            return False
        if current is not None:
            self._probe()
            return True
        return bool(self._held or self._reader.requests)

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._idle = False
        if self._handling is not None:
            self._handling.pause()

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._handling is not None:
            self._handling.resume()
        elif self._current is None:
            asyncio.get_running_loop().call_soon(self._advance)

    # -- the sweeper's side

    def sweep(self, now: float) -> None:
        """Close or refuse a client that is slower than the limits allow."""
        if self._current is not None:
            if self._ended:
                self._probe()
            return
        # Who does not take his last answer is the kernel's to give up on.
        if now < self._deadline or self._transport is None or self._transport.get_write_buffer_size() > 0:
            return
        if self._lingering:
            self.cut()
        elif self._reader.begun:
            self._refuse(RequestTimeout("The request took too long to arrive."))
        else:
            self._transport.close()  # idle between two requests

    def drain(self) -> None:
        """Take no further request: close now if idle, else after what is under way."""
        self._draining = True
        if self._idle and self._transport is not None:
            self._transport.close()

    @property
    def busy(self) -> bool:
        """Whether a request is under way, or its answer has not left yet."""
        if self._transport is None:
            return False
        owed = self._current is not None or self._reader.requests or self._refusal is not None
        under_way = not self._idle and not self._lingering
        return bool(owed or under_way or self._transport.get_write_buffer_size() > 0)

    # -- inside: requests come in

    def _begin(self, data: bytes, last: KnownHead | None) -> None:
        """`data` begins a request, and is not a whole one just like the `last`."""
        if last is not None:
            length = last.length_of(data)
            if length is not None and 0 < length <= self._limits.max_body_bytes:
                self._reader.count(last.head, length, b"")
                self._wait()
                return
        found = split_head(data)
        if found is None:
            self._read(data)
            return
        key, _, end, length = found
        known = self._known.get(key)
        if known is None:
            if length and self._known.seen_before(key):
                self._remember(data, *found)
            else:
                self._read(data)
            return
        self._last = known
        if length > self._limits.max_body_bytes or len(data) > end + length:
            self._read(data)
        elif len(data) == end + length:
            self._serve(known.head, data[end:])
        else:
            self._reader.count(known.head, length, data[end:])
            self._wait()

    def _more_received(self, data: bytes) -> None:
        """`data` came while an answer is owed, or belongs to a request of which a part is here already."""
        if self._lingering:
            return  # a refused client is still sending; what it sends is of no interest
        if self._current is not None or self._held or self._writing_paused or self._reader.requests:
            self._hold(data)
        elif self._reader.counting:
            taken = self._reader.feed_counted(data)
            if taken < len(data):
                self._hold(data[taken:])
            self._advance()
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Have llhttp read `data`, up to the first request that is complete."""
        try:
            taken = self._reader.feed(data)
        except ApiError as error:
            self._refuse(error)
            return
        if taken < len(data):
            self._hold(data[taken:])
        self._advance()

    def _remember(self, data: bytes, key: bytes, place: int, end: int, length: int) -> None:
        """
        Have llhttp read the head that ends at `end` by itself, and the rest after it.

        The head is remembered if it can mean nothing but a request with a body of `length` bytes.
        """
        reader = self._reader
        try:
            reader.feed(data, end)
        except ApiError as error:
            self._refuse(error)
            return
        request = reader.head
        if (
            request is not None
            and request.plain
            and reader.expected == length
            and b"transfer-encoding" not in request.headers
            and b"expect" not in request.headers
            # Else any stranger could fill the memory with his own.
            and self._refusal_of(request) is None
        ):
            self._known.add(key, place, request)
        self._read(data[end:])

    def _refusal_of(self, request: Head) -> ApiError | None:
        return self._application.refusal_of_head(request.method, request.target, request.headers, self.peer)

    def _hold(self, data: bytes) -> None:
        """Keep `data` unread, and the client from sending much more of it."""
        self._held += data
        if len(self._held) > MAX_HELD and not self._reading_paused and not self._ended:
            assert self._transport is not None
            self._reading_paused = True
            self._transport.pause_reading()

    # -- inside: one thing after another

    def _advance(self) -> None:
        """Do what is next, unless an answer is owed: answer, refuse, read what was held, wait."""
        transport, reader = self._transport, self._reader
        if self._current is not None or self._writing_paused or transport is None:
            return
        if reader.requests:
            self._serve(*reader.requests.popleft())
        elif self._refusal is not None:
            self._say(self._refusal)
        elif self._lingering:
            return
        elif self._held:
            data = bytes(self._held)
            self._held.clear()
            if self._reading_paused:
                self._reading_paused = False
                if not self._ended:
                    transport.resume_reading()
            self._idle = not reader.begun
            self.data_received(data)
        elif self._ended:
            transport.close()
        else:
            self._wait()

    def _wait(self) -> None:
        """Nothing is owed: wait for what is missing, for as long as the limits allow."""
        reader = self._reader
        self._idle = not reader.begun
        phase = Phase.IDLE if self._idle else Phase.HEAD if reader.head is None else Phase.BODY
        if phase is self._phase:
            return
        self._phase = phase
        if reader.head is None:
            limits = self._limits
            self._deadline = monotonic() + (limits.keep_alive_timeout if self._idle else limits.header_timeout)
            return
        self._deadline = monotonic() + self._limits.body_timeout
        request = reader.head
        refusal = self._refusal_of(request)
        if refusal is not None:
            self._refuse(refusal)
        elif reader.wants_continue:
            assert self._transport is not None
            self._transport.write(CONTINUE)

    def _serve(self, request: Head, body: bytes) -> None:
        self._current = request
        try:
            handling = self._application(self, request, body)
        except Exception as error:
            # Only the kind of the failure is logged: its text may quote the request.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("a request failed: %s\n%s", type(error).__name__, frames)
            self.cut()
            return
        if self._current is not None:
            self._handling = handling
            if self._writing_paused and handling is not None:
                handling.pause()

    def _done(self, keep_alive: bool) -> None:
        self._current = None
        self._handling = None
        self._silent = True
        if not keep_alive:
            self._part()
            return
        self._deadline = monotonic() + self._limits.keep_alive_timeout
        self._phase = Phase.IDLE
        reader = self._reader
        if self._held or self._refusal is not None or reader.requests:
            # In a turn of its own, so that a long pipeline neither recurses nor starves other connections.
            asyncio.get_running_loop().call_soon(self._advance)
        elif reader.begun or self._ended or self._writing_paused:
            self._advance()
        else:
            self._idle = True

    def _probe(self) -> None:
        """
        Find out whether a client that sends no more still waits for its answer.

        One that has gone answers an interim answer with a reset, and then the next one fails.
        """
        if self._silent and self._probes < MAX_PROBES and self._transport is not None:
            self._probes += 1
            self._transport.write(CONTINUE)

    def _refuse(self, error: ApiError) -> None:
        """Read no more; answer with `error` after the answers that are still owed, and close."""
        self._idle = False
        self._lingering = True
        self._refusal = error
        self._held.clear()
        self._advance()

    def _say(self, refusal: ApiError) -> None:
        transport, request = self._transport, self._reader.head
        assert transport is not None
        answer = formats.error_answer(refusal, "" if request is None else request.target)
        start = head(answer.status, answer.headers, length=len(answer.body), keep_alive=False, http_10=False)
        transport.write(start if request is not None and request.method == "HEAD" else start + answer.body)
        self._part()

    def _part(self) -> None:
        """
        Close once everything has left, but go on taking what the client still sends for a while.

        A socket that is closed with something unread resets its connection, and the answer may be lost with it.
        """
        transport = self._transport
        assert transport is not None
        self._idle = False
        self._lingering = True
        self._refusal = None
        self._held.clear()
        self._reader.requests.clear()
        if self._ended or not transport.can_write_eof():
            transport.close()
            return
        self._deadline = monotonic() + LINGER
        if self._reading_paused:
            self._reading_paused = False
            transport.resume_reading()
        transport.write_eof()
