"""Bytes from one client into requests: llhttp without leniencies, and the limits that it does not know.

Stands between the connection, which owns the socket and the clock, and httptools. Opens no socket and answers
nothing: what is wrong is raised. What is complete waits in `requests`, since httptools swallows whatever is raised
while it calls back.
"""

from __future__ import annotations

from collections import deque

import httptools

from pointsman.contracts.config import Router as Limits
from pointsman.contracts.errors import (
    ApiError,
    BodyTooLarge,
    ExpectationUnknown,
    HeadersTooLarge,
    InvalidRequest,
)
from pointsman.router.exchange import Headers
from pointsman.router.http.heads import Head

MAX_HEADERS = 128
"""Header fields of one request at most."""

PIECE = 8192
"""Bytes that are parsed at once: so many requests may come out of them before the reader stops to look."""

NO_HTTP = "This is not a valid HTTP/1.1 request."


class RequestReader:
    """
    Reads the requests of one connection, one after another.

    `requests`: those that are complete. `head`: the one whose body is awaited, or None. `wants_continue`: whether
    that body's sender waits for `100 Continue`. `begun`: whether a part of a request is here.
    """

    __slots__ = (
        "_body",
        "_error",
        "_head_bytes",
        "_headers",
        "_limits",
        "_parser",
        "_received",
        "_target",
        "_unparsed",
        "begun",
        "expected",
        "head",
        "requests",
        "wants_continue",
    )

    head: Head | None
    _body: bytes | bytearray
    _headers: Headers
    _unparsed: int

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser: httptools.HttpRequestParser | None = None
        self.requests: deque[tuple[Head, bytes]] = deque()
        self._error: ApiError | None = None
        self.begun = False
        self._reset()

    def feed(self, data: bytes, first: int = 0) -> int:
        """
        Parse `data` until a request is complete, or to its end; returns how many bytes were taken.

        With `first`, exactly the first `first` bytes are parsed. Raises `ApiError` where the bytes are no request
        within the limits; then nothing more may be fed.
        """
        parser = self._parser
        if parser is None:
            # Made late: a connection whose heads are all known needs none.
            parser = self._parser = httptools.HttpRequestParser(self)
        stop, at = first or len(data), 0
        try:
            while at < stop and not self.requests:
                # A body of known length can't hold another request.
                step = min(first or max(PIECE, self.expected - self._received), stop - at)
                self._unparsed += step  # llhttp itself has no limit on an unfinished head, nor on trailers
                self.begun = True
                try:
                    parser.feed_data(data if step == len(data) else memoryview(data)[at : at + step])
                except httptools.HttpParserUpgrade as upgrade:
                    step = upgrade.args[0]
                    parser = self._without_upgrade()
                at += step
                if self._unparsed > self._limits.max_header_bytes:
                    raise self._head_too_large()
        except httptools.HttpParserCallbackError:
            raise self._error or InvalidRequest(NO_HTTP, code="bad_http") from None
        except httptools.HttpParserError:
            raise InvalidRequest(NO_HTTP, code="bad_http") from None
        return at

    def close(self) -> None:
        """Let go of the parser, which refers back to its reader."""
        self._parser = None

    def count(self, head: Head, length: int, body: bytes) -> None:
        """Go on with a body of `length` bytes, whose `head` is known already; `body` is what there is of it."""
        self.head = head
        self.begun = True
        self.expected = length
        self._received = -1  # llhttp has not seen this request
        self._body = bytearray(body) if body else b""

    @property
    def counting(self) -> bool:
        """Whether the body of a known head is awaited: its bytes go to `feed_counted`, not to `feed`."""
        return self._received < 0

    def feed_counted(self, data: bytes) -> int:
        """Take what belongs to the body of a known head; returns how many bytes that was."""
        body, missing = self._body, self.expected - len(self._body)
        if len(data) < missing:
            if isinstance(body, bytes):
                body = self._body = bytearray(body)
            body += data
            return len(data)
        assert self.head is not None
        rest = data[:missing]
        self.requests.append((self.head, bytes(body) + rest if body else rest))
        self.begun = False
        self._reset()
        return missing

    # -- llhttp's side

    def on_message_begin(self) -> None:
        self.begun = True
        self._unparsed = self._unparsed or 1  # after another request in the same piece

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if self.head is not None:
            return  # a trailer
        headers = self._headers
        name = name.lower()
        if name in headers:
            if name == b"host":
                raise self._fault(InvalidRequest("The request has two Host headers.", code="bad_http"))
            headers[name] += b", " + value
        elif len(headers) >= MAX_HEADERS:
            raise self._fault(self._head_too_large())
        else:
            headers[name] = value

    def on_headers_complete(self) -> None:
        if self.head is not None:
            return  # what is read now stands in for it: it offers no other protocol
        parser, headers = self._parser, self._headers
        assert parser is not None
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise self._fault(InvalidRequest(NO_HTTP, code="bad_http"))
        if parser.get_method() == b"CONNECT":
            raise self._fault(InvalidRequest("This is no proxy.", code="bad_http"))
        if version == "1.1" and b"host" not in headers:
            raise self._fault(InvalidRequest("The request has no Host header.", code="bad_http"))
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
            raise self._fault(InvalidRequest("The only transfer coding is 'chunked'.", code="bad_http"))
        length = headers.pop(b"content-length", None)
        if length is not None:
            self.expected = int(length)
            if self.expected > self._limits.max_body_bytes:
                raise self._fault(self._too_large())
        expectation = headers.get(b"expect")
        if expectation is not None and version == "1.1":
            if expectation.lower() != b"100-continue":
                raise self._fault(ExpectationUnknown("The only expectation that can be met is '100-continue'."))
            self.wants_continue = self.expected > 0 or coding is not None
        self.head = Head(
            parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            headers,
            http_10=version == "1.0",
            keep_alive=parser.should_keep_alive(),
        )
        self._unparsed = 0

    def on_body(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._limits.max_body_bytes:
            raise self._fault(self._too_large())
        self._unparsed = 0
        self.wants_continue = False  # whoever sends has stopped waiting
        if not self._body:
            self._body = data
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)  # a list of tiny chunks would weigh twenty times their bytes
            self._body += data

    def on_message_complete(self) -> None:
        assert self.head is not None
        assert self._parser is not None
        if self._parser.should_upgrade():
            return  # only llhttp takes this for the end
        self.requests.append((self.head, bytes(self._body)))
        self.begun = False
        self._reset()

    # -- inside

    def _without_upgrade(self) -> httptools.HttpRequestParser:
        """
        Have what follows a head read that offers another protocol, as Java's clients offer HTTP/2 in each request:
        whoever does so may be answered in HTTP/1.1. llhttp would take no more for HTTP.
        """
        assert self.head is not None
        framing = b"content-length: %d\r\n" % self.expected
        if b"transfer-encoding" in self.head.headers:
            framing = b"transfer-encoding: chunked\r\n"
        parser = self._parser = httptools.HttpRequestParser(self)
        parser.feed_data(b"POST / HTTP/1.1\r\nhost: x\r\n%b\r\n" % framing)
        return parser

    def _reset(self) -> None:
        self.head = None
        self.wants_continue = False
        self.expected = 0
        self._target = b""
        self._headers = {}
        self._body = b""
        self._received = 0
        self._head_bytes = 0
        self._unparsed = 0

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.max_header_bytes:
            raise self._fault(self._head_too_large())

    def _head_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"The request line and the headers are larger than {self._limits.max_header_bytes} bytes, "
            f"or there are more than {MAX_HEADERS} headers."
        )

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is larger than {self._limits.max_body_bytes} bytes.")

    def _fault(self, error: ApiError) -> ApiError:
        """Remember why a callback gave up: httptools swallows the exception itself."""
        self._error = error
        return error
