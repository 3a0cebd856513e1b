"""Relay what is not a hot path to the admin process, over its Unix socket.

Stands beside the pipeline: no tenant, mode or money is involved. The admin process sees who asked through the
header `x-pointsman-peer`, which a client can't set itself.
"""

from __future__ import annotations

import asyncio

from pointsman.contracts.errors import AdminUnavailable, ApiError
from pointsman.contracts.names import Header
from pointsman.router.exchange import Headers
from pointsman.router.http.server import ClientConnection, Request
from pointsman.router.http.upstream import UpstreamConnection, unix_site
from pointsman.router.http.wire import request_head
from pointsman.router.wire import openai

TIMEOUT = 30.0
"""Seconds the admin process has to answer, and to go on answering."""

_PASSED_ON = (b"authorization", b"content-type", b"accept", b"if-match", b"if-none-match", b"x-request-id")
_PASSED_BACK = (
    b"content-type",
    b"cache-control",
    b"etag",
    b"location",
    b"allow",
    b"www-authenticate",
    b"x-request-id",
)


class Passthrough:
    """Relays requests to the admin process behind the Unix socket at `path`."""

    def __init__(self, path: str) -> None:
        self.site = unix_site(path)

    def relay(self, request: Request) -> PassedOn:
        """Pass `request` on; its connection gets the answer."""
        passed_on = PassedOn(self, request)
        passed_on.start(fresh=False)
        return passed_on


class PassedOn:
    """One relayed request: `server.Handling` towards the client, `Receiver` towards the admin process."""

    __slots__ = (
        "_client",
        "_connecting",
        "_connection",
        "_ended",
        "_passthrough",
        "_request",
        "_reused",
        "_started",
    )

    def __init__(self, passthrough: Passthrough, request: Request) -> None:
        self._passthrough = passthrough
        self._request = request
        self._client: ClientConnection = request.connection
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._reused = False
        self._started = False
        self._ended = False

    def start(self, *, fresh: bool) -> None:
        """Send the request on an idle connection, or on a new one."""
        site = self._passthrough.site
        connection = None if fresh else site.take_idle()
        if connection is not None:
            self._send(connection)
        else:
            self._connecting = site.open(TIMEOUT, self._connected)

    def abandon(self) -> None:
        self._ended = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.abort()

    def pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def on_head(self, status: int, headers: Headers) -> None:
        back = [(name.decode(), headers[name].decode("latin-1")) for name in _PASSED_BACK if name in headers]
        self._started = True
        if self._request.method == "HEAD":
            self._client.respond(status, back, b"")
            self.abandon()
        else:
            self._client.start_stream(back, status)

    def on_data(self, data: bytes) -> None:
        if not self._ended:
            self._client.send(data)

    def on_complete(self) -> None:
        if not self._ended:
            self._ended = True
            self._connection = None
            self._client.end_stream(b"")

    def on_lost(self, reason: str) -> None:
        if self._ended:
            return
        if self._started:
            self._ended = True
            self._client.cut()
        elif reason == "closed" and self._reused:
            self.start(fresh=True)
        else:
            self._refuse(AdminUnavailable("The admin process failed to answer."))

    def _connected(self, connection: UpstreamConnection | None) -> None:
        self._connecting = None
        if self._ended:
            if connection is not None:
                connection.close()
        elif connection is None:
            self._refuse(AdminUnavailable("The admin process does not run.", retry_after=2))
        else:
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        request = self._request
        self._connection = connection
        self._reused = connection.reused
        headers = [("host", "admin"), (Header.PEER, request.peer)]
        headers += [
            (name.decode(), request.headers[name].decode("latin-1"))
            for name in _PASSED_ON
            if name in request.headers
        ]
        method = "GET" if request.method == "HEAD" else request.method
        head = request_head(method, request.target, headers, length=len(request.body))
        connection.send(head + request.body, self, first_byte_timeout=TIMEOUT, idle_timeout=TIMEOUT)

    def _refuse(self, error: ApiError) -> None:
        self._ended = True
        answer = openai.error_answer(error)
        self._client.respond(answer.status, answer.headers, answer.body)
