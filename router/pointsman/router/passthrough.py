"""Relay what is not a hot path to the admin process, over its Unix socket.

Stands beside the pipeline: no tenant, mode or money is involved. The admin process sees who asked through the
header `x-pointsman-peer`, which a client can't set itself.
"""

from __future__ import annotations

from pointsman.contracts.errors import AdminUnavailable, ApiError
from pointsman.contracts.names import Header
from pointsman.router.exchange import Headers
from pointsman.router.http.call import Call
from pointsman.router.http.heads import Head
from pointsman.router.http.server import ClientConnection
from pointsman.router.http.site import unix_site
from pointsman.router.http.upstream import UpstreamConnection
from pointsman.router.http.wire import BODILESS, request_head
from pointsman.router.wire import openai

TIMEOUT = 30.0
"""Seconds the admin process has to answer, and to go on answering."""

LARGEST = 32 * 1024
"""Bytes of a body that is passed on for whoever shows no admin key: the longest comment fits. To find all that may
be wrong with a body takes long, and the admin process is there for all tenants."""

LARGEST_OF_ADMIN = 4 * 1024 * 1024
"""Bytes of a body that is passed on for the holder of an admin key: a predictor; all others are far smaller."""

_API_KEY = Header.API_KEY.encode()
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

    def relay(self, client: ClientConnection, head: Head, body: bytes) -> PassedOn:
        """Pass a request on; `client` gets the answer."""
        passed_on = PassedOn(self, client, head, body)
        passed_on.start(fresh=False)
        return passed_on


class PassedOn(Call):
    """One relayed request: `server.Handling` towards the client, `Receiver` towards the admin process."""

    __slots__ = ("_body", "_client", "_head", "_started")

    def __init__(self, passthrough: Passthrough, client: ClientConnection, head: Head, body: bytes) -> None:
        super().__init__(passthrough.site, connect_timeout=TIMEOUT)
        self._client = client
        self._head = head
        self._body = body
        self._started = False

    def abandon(self) -> None:
        self._end()

    def on_head(self, status: int, headers: Headers) -> None:
        back = b"".join([b"%b: %b\r\n" % (name, headers[name]) for name in _PASSED_BACK if name in headers])
        self._started = True
        if self._head.method == "HEAD" or status in BODILESS:
            self._client.respond(status, back, b"")
            self._end()
        else:
            self._client.start_stream(back, status)

    def on_data(self, data: bytes) -> None:
        if not self._ended:
            self._client.send(data)

    def on_complete(self) -> None:
        if not self._ended:
            self._end(keep=True)
            self._client.end_stream(b"")

    def on_lost(self, reason: str) -> None:
        if self._ended:
            return
        if self._started:
            self._end()
            self._client.cut()
        elif reason == "closed" and self._reused:
            self.start(fresh=True)
        else:
            self._refuse(AdminUnavailable("The admin process failed to answer."))

    def _unreachable(self) -> None:
        self._refuse(AdminUnavailable("The admin process does not run.", retry_after=2))

    def _send(self, connection: UpstreamConnection) -> None:
        request = self._head
        headers = [("host", "admin"), (Header.PEER, self._client.peer)]
        headers += [
            (name.decode(), request.headers[name].decode("latin-1"))
            for name in _PASSED_ON
            if name in request.headers
        ]
        key = request.headers.get(_API_KEY)
        if key is not None and b"authorization" not in request.headers:
            headers.append(("authorization", f"Bearer {key.decode('latin-1')}"))
        method = "GET" if request.method == "HEAD" else request.method
        head = request_head(method, request.target, headers, length=len(self._body))
        connection.send(head + self._body, self, first_byte_timeout=TIMEOUT, idle_timeout=TIMEOUT)

    def _refuse(self, error: ApiError) -> None:
        self._end()
        answer = openai.error_answer(error)
        self._client.respond(answer.status, answer.headers, answer.body)
