"""HTTP/1.1 as raw bytes: framing, limits, pipelining and hostile senders, over a real socket."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.gateway import FAST, Gateway

HOST = b"host: pointsman\r\n"


class Wire:
    """One raw connection."""

    def __init__(self, gateway: Gateway) -> None:
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """The next answer: status, headers, body."""
        line = self._file.readline()
        assert line, "the connection was closed without an answer"
        status = int(line.split()[1])
        headers = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, value = line.split(b":", 1)
            headers[name.lower()] = value.strip()
        if headers.get(b"transfer-encoding") == b"chunked":
            pieces = []
            while size := int(self._file.readline(), 16):
                pieces.append(self._file.read(size))
                assert self._file.readline() == b"\r\n"
            assert self._file.readline() == b"\r\n"
            body = b"".join(pieces)
        else:
            body = self._file.read(int(headers.get(b"content-length", 0)))
        return status, headers, body

    def closed(self) -> bool:
        """Whether the other end has closed, with nothing more to read."""
        return self._file.read(1) == b""


@pytest.fixture
def wire(gateway: Gateway) -> Iterator[Wire]:
    connection = Wire(gateway)
    yield connection
    connection.socket.close()


def chat(gateway: Gateway, *, text: str = "hello", extra: bytes = b"", **fields: object) -> bytes:
    body = {"model": "smollm2:no_think", "max_tokens": 4, "messages": [{"role": "user", "content": text}], **fields}
    data = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"authorization: Bearer " + gateway.key.encode()
    return head + b"\r\n" + extra + b"content-length: %d\r\n\r\n" % len(data) + data


def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(gateway: Gateway, wire: Wire) -> None:
    requests = [chat(gateway, extra=b"x-request-id: n%d\r\n" % number) for number in range(12)]
    wire.send(b"".join(requests))
    for number in range(12):
        status, headers, _ = wire.answer()
        assert (status, headers[b"x-request-id"]) == (200, b"n%d" % number)


def test_fast_and_slow_paths_may_be_mixed_in_one_pipeline(gateway: Gateway, wire: Wire) -> None:
    health = b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n"
    wire.send(chat(gateway, stream=True) + health + b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n" + chat(gateway))
    assert wire.answer()[2].endswith(b"data: [DONE]\n\n")
    assert b'"ready"' in wire.answer()[2]
    assert b"pointsman_requests_total" in wire.answer()[2]
    assert wire.answer()[0] == 200


def test_a_request_may_arrive_byte_by_byte(gateway: Gateway, wire: Wire) -> None:
    for byte in chat(gateway):
        wire.send(bytes([byte]))
    assert wire.answer()[0] == 200


def test_a_request_may_be_split_anywhere(gateway: Gateway, wire: Wire) -> None:
    request = chat(gateway, max_tokens=1)
    for cut in range(1, len(request), 7):
        wire.send(request[:cut])
        time.sleep(0.002)
        wire.send(request[cut:])
        assert wire.answer()[0] == 200, cut


def test_a_chunked_body_is_read_and_its_trailers_ignored(gateway: Gateway, wire: Wire) -> None:
    whole = chat(gateway)
    head, _, body = whole.partition(b"\r\n\r\n")
    head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"content-length"))
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 9]), body[at : at + 9]) for at in range(0, len(body), 9)
    )
    wire.send(head + b"\r\ntransfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\nx-trailer: 1\r\n\r\n")
    assert wire.answer()[0] == 200
    wire.send(whole)
    assert wire.answer()[0] == 200


OFFER = (
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAMAAEAAAAEAAAAAAAMAAABkAAQBAAAAAAUAAEAA\r\n"
)
"""What Java's own client sends with each request over plain HTTP until somebody takes it up."""


@pytest.mark.parametrize("pieces", [1, 3, 10_000])
def test_who_offers_another_protocol_is_answered_in_this_one(gateway: Gateway, wire: Wire, pieces: int) -> None:
    whole = chat(gateway, extra=OFFER)
    head, _, body = whole.partition(b"\r\n\r\n")
    head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"content-length"))
    middle = len(body) // 2
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:]))
    chunked = head + b"\r\ntransfer-encoding: chunked\r\n\r\n" + parts + b"0\r\nx-trailer: 1\r\n\r\n"
    bodiless = b"GET /readyz HTTP/1.1\r\n" + HOST + OFFER + b"\r\n"
    asked = [whole, chunked, bodiless, whole, whole, chat(gateway), chunked, whole]
    data = b"".join(asked)
    step = -(-len(data) // pieces)
    for at in range(0, len(data), step):
        wire.send(data[at : at + step])
    for request in asked:
        status, _, answer = wire.answer()
        assert status == 200
        assert (b'"choices"' in answer) is (request is not bodiless)


def test_expect_100_continue_is_answered_before_the_body(gateway: Gateway, wire: Wire) -> None:
    head, _, body = chat(gateway, extra=b"expect: 100-continue\r\n").partition(b"\r\n\r\n")
    wire.send(head + b"\r\n\r\n")
    assert wire.answer()[0] == 100
    wire.send(body)
    assert wire.answer()[0] == 200


def test_head_has_no_body(gateway: Gateway, wire: Wire) -> None:
    wire.send(b"HEAD /readyz HTTP/1.1\r\n" + HOST + b"\r\nGET /readyz HTTP/1.1\r\n" + HOST + b"\r\n")
    first = wire._file.readline()
    assert first.startswith(b"HTTP/1.1 200")
    while wire._file.readline() != b"\r\n":
        pass
    assert wire.answer()[0] == 200


def test_http_10_gets_its_stream_unchunked_and_a_close(gateway: Gateway, wire: Wire) -> None:
    wire.send(chat(gateway, stream=True).replace(b"HTTP/1.1", b"HTTP/1.0"))
    data = wire._file.read()
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


def test_connection_close_is_honoured(gateway: Gateway, wire: Wire) -> None:
    wire.send(chat(gateway, extra=b"connection: close\r\n"))
    status, headers, _ = wire.answer()
    assert (status, headers[b"connection"]) == (200, b"close")
    assert wire.closed()


SMUGGLING = {
    "two lengths": b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "two equal lengths": b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "length and chunks": b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunks and length": b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "an unknown coding": b"transfer-encoding: chunked, gzip\r\n\r\n",
    "a length that is no number": b"content-length: 3x\r\n\r\nabc",
    "a negative length": b"content-length: -3\r\n\r\nabc",
    "a length with a sign": b"content-length: +3\r\n\r\nabc",
    "an immense length": b"content-length: 99999999999999999999999\r\n\r\n",
    "a folded header": b"x-a: 1\r\n 2\r\n\r\n",
    "a space before the colon": b"content-length : 3\r\n\r\nabc",
    "a bare line feed": b"x-a: 1\nx-b: 2\r\n\r\n",
    "a bare carriage return": b"x-a: 1\rx-b: 2\r\n\r\n",
    "a NUL in a header": b"x-a: \x00\r\n\r\n",
    "a chunk size that is no number": b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    "an immense chunk size": b"transfer-encoding: chunked\r\n\r\nfffffffffffffffffff\r\n",
    "a chunk without its end": b"transfer-encoding: chunked\r\n\r\n3\r\nabcX",
}


@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING)
def test_ambiguous_framing_is_refused_and_the_connection_closed(wire: Wire, rest: bytes) -> None:
    wire.send(b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + rest)
    status, headers, body = wire.answer()
    assert status == 400
    assert headers[b"connection"] == b"close"
    assert json.loads(body)["error"]["code"] == "bad_http"
    assert wire.closed()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\n\r\n",
        b"GET /readyz HTTP/9.9\r\n" + HOST + b"\r\n",
        b"G\x00T / HTTP/1.1\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
def test_what_is_no_request_is_refused(wire: Wire, data: bytes) -> None:
    wire.send(data)
    assert wire.answer()[0] == 400
    assert wire.closed()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"x-%d: 1\r\n" % number for number in range(200)) + b"\r\n",
    ],
    ids=["line", "header", "many"],
)
def test_a_head_over_the_limit_is_431(wire: Wire, head: bytes) -> None:
    wire.send(head)
    assert wire.answer()[0] == 431
    assert wire.closed()


def test_a_body_announced_over_the_limit_is_refused_before_it_is_sent(gateway: Gateway, wire: Wire) -> None:
    wire.send(b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"content-length: 999999999\r\n\r\n")
    assert wire.answer()[0] == 413
    assert wire.closed()


def test_slow_senders_are_shown_the_door(folder: Path) -> None:
    limits = {"header_timeout": 1, "body_timeout": 1, "keep_alive_timeout": 1}
    with Gateway(folder, pools=[FAST], router=limits) as gateway:
        head, body, idle = Wire(gateway), Wire(gateway), Wire(gateway)
        silent = Wire(gateway)
        idle.send(chat(gateway))
        assert idle.answer()[0] == 200
        body.send(chat(gateway)[:-5])
        head.send(b"GET /readyz HTTP/1.1\r\nhost:")
        for _ in range(50):  # a header that grows by a byte at a time gains nothing
            if select.select([head.socket], [], [], 0.1)[0]:
                break
            head.send(b"x")
        assert head.answer()[0] == 408
        assert body.answer()[0] == 408
        assert idle.closed()
        assert silent.closed()
        for connection in (head, body, idle, silent):
            connection.socket.close()


def test_a_slow_reader_holds_the_engine_back_and_loses_nothing(folder: Path) -> None:
    """The engine writes faster than the client reads: nothing piles up without bound, and all of it arrives."""
    flood = {"decode_speed": 50_000, "answer_tokens": 50_000, "keep_requests": 1}
    fast = {**FAST, "capabilities": {"context": 100_000}, "engine_args": {"simulated": flood}, "idle_timeout": 2}
    with Gateway(folder, pools=[fast]) as gateway:
        wire = Wire(gateway)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        wire.send(chat(gateway, stream=True))  # what the first request of a process allocates once
        wire.answer()
        memory = psutil.Process(gateway.router.popen.pid).memory_info
        before = memory().rss
        wire.send(chat(gateway, stream=True, max_tokens=50_000))
        time.sleep(5)  # longer than the idle timeout, which is for engines, not for clients
        assert gateway.engines["fast"][0].received()[-1]["outcome"] == "running"
        assert memory().rss - before < 4 * 1024 * 1024, "all of it is three times that"
        status, _, body = wire.answer()
        assert status == 200
        assert body.endswith(b"data: [DONE]\n\n")
        assert body.count(b'"content":"') >= 49_000
        wire.socket.close()


def test_an_answer_that_was_not_modified_leaves_the_connection_in_step(gateway: Gateway, wire: Wire) -> None:
    asset = b"GET /static-offline-docs/swagger-ui.css HTTP/1.1\r\n" + HOST
    wire.send(asset + b"\r\n")
    etag = wire.answer()[1][b"etag"]
    wire.send(asset + b"if-none-match: " + etag + b"\r\n\r\n" + chat(gateway))
    status, headers, _ = wire.answer()
    assert status == 304
    assert not {b"transfer-encoding", b"content-length"} & headers.keys()
    assert wire.answer()[0] == 200
