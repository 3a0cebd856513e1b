"""The client's side of the data plane against clients that read slowly, send oddly or never end."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from pointsman.contracts.config import Router
from pointsman.contracts.errors import ApiError
from pointsman.router.exchange import Headers
from pointsman.router.http import server
from pointsman.router.http.clients import Clients
from pointsman.router.http.handling import Handling
from pointsman.router.http.heads import Head
from pointsman.router.http.server import ClientConnection
from pointsman.router.http.wire import head

HEAD = b"HTTP/1.1\r\nhost: x\r\n"
GET = b"GET / " + HEAD + b"\r\n"
CHUNKED = b"POST / " + HEAD + b"transfer-encoding: chunked\r\n\r\n"


class Served:
    """Answers every request with `answer`; a stream that never ends where `endless`."""

    def __init__(self, *, answer: bytes = b"ok", endless: bool = False) -> None:
        self.answer = answer
        self.endless = endless
        self.requests: list[tuple[Head, bytes]] = []
        self.clients = Clients(self, Router())
        self.connections = self.clients.connections
        self.abandoned = asyncio.Event()

    def __call__(self, client: ClientConnection, head: Head, body: bytes) -> Handling | None:
        self.requests.append((head, body))
        if not self.endless:
            client.respond(200, b"", self.answer)
            return None
        client.start_stream(b"")
        client.send(self.answer)
        return self

    def refusal_of_head(self, method: str, target: str, headers: Headers, peer: str) -> ApiError | None:
        return None

    def abandon(self) -> None:
        self.abandoned.set()

    def pause(self) -> None:
        """The one piece has been sent."""

    def resume(self) -> None:
        """The one piece has been sent."""


Scenario = Callable[[Served, asyncio.AbstractEventLoop, socket.socket], Awaitable[None]]


def serve(scenario: Scenario, *, answer: bytes = b"ok", endless: bool = False) -> None:
    """Run `scenario` with one client, whose socket takes little, connected to a server on uvloop."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        served = Served(answer=answer, endless=endless)
        listening = await loop.create_server(served.clients.connect, "127.0.0.1", 0)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.setblocking(False)
        await loop.sock_connect(client, listening.sockets[0].getsockname())
        try:
            await asyncio.wait_for(scenario(served, loop, client), 30)
        finally:
            client.close()
            listening.close()

    uvloop.run(run())


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


async def answers(loop: asyncio.AbstractEventLoop, client: socket.socket, end: bytes, count: int = 1) -> bytes:
    """What arrives until `end` has come `count` times."""
    data = b""
    while data.count(end) < count:
        piece = await loop.sock_recv(client, 1 << 20)
        assert piece, data[-200:]
        data += piece
    return data


def test_answers_that_nobody_reads_do_not_pile_up() -> None:
    size, most = 100_000, 100

    async def scenario(served: Served, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, GET * most)
        before = -1
        while before != len(served.requests):
            before = len(served.requests)
            await asyncio.sleep(0.3)
        (connection,) = served.connections
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() <= 2 * size
        data = await answers(loop, client, b"HTTP/1.1 200", most)
        assert data.count(b"HTTP/1.1 200") == len(served.requests) == most

    serve(scenario, answer=b"a" * size)


def test_who_never_reads_a_stream_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALLED", 1)

    async def scenario(served: Served, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, GET)
        await asyncio.wait_for(served.abandoned.wait(), 20)

    serve(scenario, answer=b"a" * 10_000_000, endless=True)


def test_an_answer_that_has_not_left_keeps_its_connection_busy() -> None:
    async def scenario(served: Served, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, GET)
        await until(lambda: bool(served.requests))
        (connection,) = served.connections
        connection.drain()
        assert connection.busy
        assert len(await answers(loop, client, b"z")) > 10_000_000
        client.close()
        await until(lambda: not served.connections)
        assert not connection.busy

    serve(scenario, answer=b"a" * 10_000_000 + b"z")


def test_a_stream_that_ends_while_draining_ends_its_connection() -> None:
    async def scenario(served: Served, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, GET)
        await answers(loop, client, b"ok")
        (connection,) = served.connections
        connection.drain()
        connection.end_stream(b"")
        await answers(loop, client, b"0\r\n\r\n")
        assert await loop.sock_recv(client, 1) == b""

    serve(scenario, endless=True)


def test_a_trailer_is_no_header() -> None:
    async def scenario(served: Served, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, CHUNKED + b"2\r\nab\r\n0\r\nauthorization: Bearer k\r\nhost: y\r\n\r\n")
        await answers(loop, client, b"ok")
        ((head, body),) = served.requests
        assert body == b"ab"
        assert head.headers == {b"host": b"x", b"transfer-encoding": b"chunked"}

    serve(scenario)


@pytest.mark.parametrize("start", [b"0\r\nx: ", b"2;x="])
def test_a_trailer_or_an_extension_without_end_is_refused(start: bytes) -> None:
    async def scenario(served: Served, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, CHUNKED + start + b"a" * 1_000_000)
        assert b"431" in await answers(loop, client, b"\r\n")

    serve(scenario)


def test_a_body_in_tiny_chunks_weighs_little_more_than_its_bytes() -> None:
    size = 400_000

    async def scenario(served: Served, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        await loop.sock_sendall(client, CHUNKED)
        tracemalloc.start()
        await loop.sock_sendall(client, b"2\r\nab\r\n" * (size // 2))
        await loop.sock_sendall(client, b"0\r\n\r\n")
        await answers(loop, client, b"ok")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert served.requests[0][1] == b"ab" * (size // 2)
        assert peak < 8 * size

    serve(scenario)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_body_announces_none(status: int) -> None:
    for length in (0, None):
        text = head(status, b"etag: e\r\n", length=length, keep_alive=True, http_10=False)
        assert text.split(b"\r\n", 1)[1] == b"etag: e\r\n\r\n"
