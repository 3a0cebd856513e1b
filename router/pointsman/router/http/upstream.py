"""The engine's side of the data plane: pooled keep-alive connections to one address, and one request on each.

Stands beside `server.py`; knows HTTP/1.1 framing, deadlines and backpressure, and nothing of what the bytes
mean. Whoever sends a request gets the answer through the four methods of `Receiver`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Protocol, cast

import httptools

from pointsman.router.exchange import Headers

MAX_IDLE = 128
"""Idle connections kept per address."""

MAX_HEAD = 64 * 1024
"""Bytes of an answer's head at most."""


class Receiver(Protocol):
    """Gets one answer. After `on_complete` or `on_lost` nothing more comes."""

    def on_head(self, status: int, headers: Headers) -> None:
        """The head has arrived."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body, as it was framed by the engine."""

    def on_complete(self) -> None:
        """The answer is complete."""

    def on_lost(self, reason: str) -> None:
        """The answer will not be completed: `connect`, `timeout`, `closed` or `garbage`."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to an engine, idle or busy with one request."""

    __slots__ = (
        "_answering",
        "_complete",
        "_delimited",
        "_excess",
        "_head_bytes",
        "_headers",
        "_idle_timeout",
        "_in_body",
        "_keep",
        "_parser",
        "_receiver",
        "_site",
        "_transport",
        "_used",
        "deadline",
    )

    _headers: Headers
    _answering: bool
    _in_body: bool
    _delimited: bool
    _complete: bool
    _keep: bool
    _excess: bool
    _head_bytes: int

    def __init__(self, site: Site) -> None:
        self._site = site
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._receiver: Receiver | None = None
        self._idle_timeout = 0.0
        self._used = False
        self.deadline = 0.0
        self._reset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, of the same shape

    def send(self, request: bytes, receiver: Receiver, *, first_byte_timeout: float, idle_timeout: float) -> None:
        """Send `request`; its answer goes to `receiver`. Timeouts in seconds."""
        assert self._transport is not None
        assert self._receiver is None
        self._receiver = receiver
        self._idle_timeout = idle_timeout
        self.deadline = monotonic() + first_byte_timeout
        self._reset()
        self._site.busy.add(self)
        self._transport.write(request)

    @property
    def reused(self) -> bool:
        """Whether this connection has answered before: it may be closed at the other end without a fault."""
        return self._used

    def abort(self) -> None:
        """Drop the connection, and with it the engine's work; the receiver hears nothing more."""
        self._receiver = None
        self._site.busy.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no further; an engine that is held back can't be late."""
        if self._transport is not None:
            self.deadline = inf
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, where reading was paused."""
        if self._transport is not None and self.open and self.deadline == inf:
            self.deadline = monotonic() + self._idle_timeout
            self._transport.resume_reading()

    def sweep(self, now: float) -> None:
        """Give up on an engine that has been silent for too long."""
        if now >= self.deadline and self._receiver is not None:
            self._lose("timeout")

    # -- the transport's side

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            # An engine that speaks unasked can't be trusted to keep its answers apart.
            self._site.forget(self)
            if self._transport is not None:
                self._transport.abort()
            return
        if not self._in_body:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD and b"\r\n\r\n" not in data:
                self._lose("garbage")
                return
        if self._answering and self.deadline != inf:
            self.deadline = monotonic() + self._idle_timeout
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self._lose("garbage")
                return
            self._excess = True
        if self._complete:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._site.forget(self)
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        if self._in_body and not self._delimited:
            receiver.on_complete()
        else:
            receiver.on_lost("closed")

    # -- the parser's side

    def on_message_begin(self) -> None:
        if self._complete:
            self._excess = True  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            return  # an interim answer; the real one follows
        headers = self._headers
        self._in_body = True
        self._delimited = b"content-length" in headers or b"transfer-encoding" in headers
        if self._receiver is not None:
            self._receiver.on_head(status, headers)

    def on_body(self, data: bytes) -> None:
        if self._receiver is None or self._complete:
            return
        if not self._answering:
            self._answering = True  # the head alone is no answer: engines send it before they begin to work
            if self.deadline != inf:
                self.deadline = monotonic() + self._idle_timeout
        self._receiver.on_data(data)

    def on_message_complete(self) -> None:
        if self._in_body:
            self._complete = True
            self._keep = self._delimited and self._parser.should_keep_alive()  # the parser forgets it at once
        else:
            self._headers = {}  # of an interim answer

    # -- inside

    def _finish(self) -> None:
        """The answer is complete, and all that arrived with it is parsed: only now may the next request go out."""
        receiver, self._receiver = self._receiver, None
        self._used = True
        self._site.busy.discard(self)
        transport = self._transport
        if transport is not None:
            if self._keep and not self._excess and receiver is not None:
                transport.resume_reading()
                self._site.release(self)
            else:
                transport.close()
        if receiver is not None:
            receiver.on_complete()

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _reset(self) -> None:
        self._headers = {}
        self._answering = False
        self._in_body = False
        self._delimited = True
        self._complete = False
        self._keep = False
        self._excess = False
        self._head_bytes = 0

    def _lose(self, reason: str) -> None:
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.on_lost(reason)


class Site:
    """
    One address: its idle connections, and those that are busy.

    `connect` opens a connection with the protocol it is given, by TCP or by Unix socket.
    """

    def __init__(self, connect: Callable[[Callable[[], UpstreamConnection]], Awaitable[object]]) -> None:
        self._connect = connect
        self._idle: list[UpstreamConnection] = []
        self._pending: set[asyncio.Task[None]] = set()
        self.busy: set[UpstreamConnection] = set()

    def take_idle(self) -> UpstreamConnection | None:
        """An idle open connection, the one used last first."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    def open(self, timeout: float, use: Callable[[UpstreamConnection | None], None]) -> asyncio.Task[None]:
        """Connect within `timeout` seconds and call `use` with the connection, or with None where it failed."""
        task = asyncio.get_running_loop().create_task(self._open(timeout, use))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def _open(self, timeout: float, use: Callable[[UpstreamConnection | None], None]) -> None:
        connection = UpstreamConnection(self)
        try:
            async with asyncio.timeout(timeout):
                await self._connect(lambda: connection)
        except (OSError, TimeoutError):
            use(None)
            return
        except asyncio.CancelledError:
            connection.close()
            raise
        use(connection)

    def release(self, connection: UpstreamConnection) -> None:
        """Keep `connection` for the next request."""
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def forget(self, connection: UpstreamConnection) -> None:
        self.busy.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Give up on engines that have been silent for too long."""
        for connection in list(self.busy):
            connection.sweep(now)

    def close(self) -> None:
        """Close what is idle; what is busy ends by itself."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def tcp_site(host: str, port: int) -> Site:
    """The site at `host:port`."""
    return Site(lambda make: asyncio.get_running_loop().create_connection(make, host, port))


def unix_site(path: str) -> Site:
    """The site behind the Unix socket at `path`."""
    return Site(lambda make: asyncio.get_running_loop().create_unix_connection(make, path))
