"""The client's side of the data plane: one `asyncio.Protocol` per connection.

Stands in front of everything and trusts nothing: limits on the head and the body, strict framing (llhttp without
leniencies), deadlines for slow senders, backpressure. A whole request is handed to the application as one
`Request`; answers come back through the methods of `exchange.Client`. Answers leave in the order in which
their requests came, one at a time.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, cast

import httptools

from pointsman.contracts.config import Router as Limits
from pointsman.contracts.errors import (
    ApiError,
    BodyTooLarge,
    HeadersTooLarge,
    InvalidRequest,
    RequestTimeout,
)
from pointsman.router.exchange import Headers
from pointsman.router.http.wire import head, unframed
from pointsman.router.wire import openai

MAX_PIPELINED = 8
"""Requests of one connection that may wait behind the one being answered; then nothing more is read."""

LINGER = 2.0
"""Seconds for which a refused client may finish sending, so that it gets to read why it was refused."""

STALLED = 60
"""Seconds after which the kernel gives up on a client that takes nothing of what is sent to it."""

MAX_HEADERS = 128
"""Header fields of one request at most."""


@dataclass(slots=True)
class Request:
    """One request as it arrived. `target` is the path with its query; `peer` the client's address."""

    connection: ClientConnection
    method: str
    target: str
    headers: Headers
    body: bytes
    peer: str
    http_10: bool
    keep_alive: bool


class Handling(Protocol):
    """What the application holds for a request that it is answering."""

    def abandon(self) -> None:
        """The client has gone."""

    def pause(self) -> None:
        """The client reads too slowly: hold back."""

    def resume(self) -> None:
        """The client has caught up."""


Application = Callable[[Request], Handling | None]
"""Takes a request and answers it now (None) or later (what to tell about the client's fate)."""


class ClientConnection(asyncio.Protocol):
    """One client's connection. Implements `exchange.Client` for the request being answered."""

    __slots__ = (
        "_application",
        "_body",
        "_body_bytes",
        "_chunked",
        "_connections",
        "_current",
        "_deadline",
        "_error",
        "_handling",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_limits",
        "_lingering",
        "_parser",
        "_peer",
        "_queue",
        "_reading_paused",
        "_refusal",
        "_target",
        "_transport",
        "_unparsed",
        "_writing_paused",
        "draining",
    )

    _body: bytes | bytearray
    _body_bytes: int

    def __init__(self, application: Application, limits: Limits, connections: set[ClientConnection]) -> None:
        self._application = application
        self._limits = limits
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._peer = ""
        self._queue: deque[Request] = deque()
        self._current: Request | None = None
        self._handling: Handling | None = None
        self._chunked = False
        self._reading_paused = False
        self._writing_paused = False
        self._lingering = False
        self._refusal: ApiError | None = None
        self._error: ApiError | None = None
        self.draining = False
        self._begin_message()
        self._deadline = monotonic() + limits.header_timeout

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, of the same shape
        peer = self._transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if isinstance(peer, tuple):
            # Else who never reads his stream would hold a place on an engine for ever.
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED * 1000)
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        self._queue.clear()
        self._current = None
        handling, self._handling = self._handling, None
        if handling is not None:
            handling.abandon()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return  # a refused client is still sending; what it sends is of no interest
        if self._in_head and not self._unparsed:
            self._deadline = monotonic() + self._limits.header_timeout
        self._unparsed += len(data)  # llhttp itself has no limit on an unfinished head, nor on trailers
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self._refuse(self._error or InvalidRequest("This is not a valid HTTP/1.1 request.", code="bad_http"))
        except httptools.HttpParserError:
            self._refuse(InvalidRequest("This is not a valid HTTP/1.1 request.", code="bad_http"))
        else:
            if self._unparsed > self._limits.max_header_bytes:
                self._refuse(self._head_too_large())

    def pause_writing(self) -> None:
        self._writing_paused = True
        if self._handling is not None:
            self._handling.pause()

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._handling is not None:
            self._handling.resume()
        elif self._queue:
            asyncio.get_running_loop().call_soon(self._next)

    # -- the parser's side

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        name = name.lower()
        self._count(len(name) + len(value) + 4)
        if not self._in_head:
            return  # a trailer
        if name in headers:
            headers[name] += b", " + value
        elif len(headers) >= MAX_HEADERS:
            raise self._fault(self._head_too_large())
        else:
            headers[name] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unparsed = 0
        self._deadline = monotonic() + self._limits.body_timeout
        if self._parser.should_upgrade():
            raise self._fault(InvalidRequest("Upgrading the connection is not supported.", code="bad_http"))
        if b"host" not in self._headers and self._parser.get_http_version() == "1.1":
            raise self._fault(InvalidRequest("The request has no Host header.", code="bad_http"))
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > self._limits.max_body_bytes:
            raise self._fault(self._too_large())
        if b"expect" in self._headers and self._current is None and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.max_body_bytes:
            raise self._fault(self._too_large())
        self._unparsed = 0
        if not self._body:
            self._body = data
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)  # a list of tiny chunks would weigh twenty times their bytes
            self._body += data

    def on_message_complete(self) -> None:
        parser, body = self._parser, self._body
        request = Request(
            self,
            parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            self._headers,
            bytes(body),
            self._peer,
            parser.get_http_version() == "1.0",
            parser.should_keep_alive(),
        )
        self._begin_message()
        # What a client does not read must not pile up: its next request waits until it has read the last answer.
        if self._current is not None or self._queue or self._writing_paused:
            self._queue.append(request)
            if len(self._queue) >= MAX_PIPELINED and not self._reading_paused and self._transport is not None:
                self._reading_paused = True
                self._transport.pause_reading()
            return
        self._serve(request)

    # -- the application's side: `exchange.Client`

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer and be done with the request."""
        request, transport = self._current, self._transport
        if request is None or transport is None:
            return
        keep = request.keep_alive and not self.draining
        start = head(status, headers, length=len(body), keep_alive=keep, http_10=request.http_10)
        transport.write(start if request.method == "HEAD" else start + body)
        self._done(keep)

    def start_stream(self, headers: bytes, status: int = 200) -> None:
        """Send the head of an answer of unknown length."""
        request, transport = self._current, self._transport
        if request is None or transport is None:
            return
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the answer.
        self._chunked = not request.http_10
        keep = request.keep_alive and not self.draining and self._chunked
        request.keep_alive = keep
        transport.write(head(status, headers, length=None, keep_alive=keep, http_10=request.http_10))

    def send(self, data: bytes) -> None:
        """Send a piece of a started stream."""
        transport = self._transport
        if transport is None or not data:
            return
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def send_chunks(self, chunks: bytes) -> None:
        """Send pieces of a started stream that are framed already: whole HTTP/1.1 chunks, one after another."""
        transport = self._transport
        if transport is None:
            return
        transport.write(chunks if self._chunked else unframed(chunks))

    def end_stream(self, data: bytes) -> None:
        """Send the last piece of a started stream, possibly empty, and be done with the request."""
        request, transport = self._current, self._transport
        if request is None or transport is None:
            return
        if self._chunked:
            transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
        elif data:
            transport.write(data)
        self._done(request.keep_alive and not self.draining)

    def cut(self) -> None:
        """Break the connection off: the started answer can't be finished, and the client must notice."""
        if self._transport is not None:
            self._transport.abort()

    # -- the sweeper's side

    def sweep(self, now: float) -> None:
        """Close or refuse a client that is slower than the limits allow."""
        if self._current is not None or self._queue or now < self._deadline or self._transport is None:
            return
        if self._lingering:
            self._transport.abort()
        elif self._in_head and not self._unparsed:
            self._transport.close()  # idle between two requests
        else:
            self._refuse(RequestTimeout("The request took too long to arrive."))

    def drain(self) -> None:
        """Take no further request: close now if idle, else after the running answer."""
        self.draining = True
        if self._current is None and self._transport is not None and not self._lingering:
            self._transport.close()

    @property
    def busy(self) -> bool:
        """Whether an answer is still owed, or has not left yet."""
        return self._current is not None or (
            self._transport is not None and self._transport.get_write_buffer_size() > 0
        )

    # -- inside

    def _begin_message(self) -> None:
        self._target = b""
        self._headers: Headers = {}
        self._body = b""
        self._body_bytes = 0
        self._in_head = True
        self._head_bytes = 0
        self._unparsed = 0

    def _serve(self, request: Request) -> None:
        self._current = request
        handling = self._application(request)
        if self._current is request:
            self._handling = handling
            if self._writing_paused and handling is not None:
                handling.pause()

    def _done(self, keep_alive: bool) -> None:
        self._current = None
        self._handling = None
        self._deadline = monotonic() + self._limits.keep_alive_timeout
        transport = self._transport
        assert transport is not None
        if not keep_alive:
            transport.close()
        elif self._queue:
            # In a turn of its own, so that a long pipeline neither recurses nor starves other connections.
            asyncio.get_running_loop().call_soon(self._next)
        elif self._refusal is not None:
            self._refuse(self._refusal)

    def _next(self) -> None:
        if self._current is not None or not self._queue or self._transport is None or self._writing_paused:
            return
        request = self._queue.popleft()
        if self._reading_paused and len(self._queue) < MAX_PIPELINED // 2:
            self._reading_paused = False
            self._transport.resume_reading()
        self._serve(request)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_header_bytes:
            raise self._fault(self._head_too_large())

    def _head_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"The request line and the headers are larger than {self._limits.max_header_bytes} bytes, "
            f"or there are more than {MAX_HEADERS} headers."
        )

    def _fault(self, error: ApiError) -> ApiError:
        """Remember why a parser callback gave up: httptools swallows the exception itself."""
        self._error = error
        return error

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is larger than {self._limits.max_body_bytes} bytes.")

    def _refuse(self, error: ApiError) -> None:
        """Answer what can't be parsed, after the answers that are still owed, and close."""
        self._refusal = error
        transport = self._transport
        if self._current is not None or self._queue or transport is None:
            self._lingering = True
            return
        answer = openai.error_answer(error)
        transport.write(
            head(answer.status, answer.headers, length=len(answer.body), keep_alive=False, http_10=False)
            + answer.body
        )
        self._lingering = True
        self._deadline = monotonic() + LINGER
        if transport.can_write_eof():
            transport.write_eof()
