"""HTTP/1.1 over real sockets, server and client in one loop: framing, expectations, slow and hostile clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from pointsman.router.http import server
from pointsman.router.http.clients import Clients
from support.http_peers import Echo, clients

HOST = b"host: x\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def ok(body: bytes, *, close: bool = False, version_10: bool = False, head: bool = False) -> bytes:
    """The answer of `Echo` to a request with `body`."""
    kept = b"connection: keep-alive\r\n" if version_10 else b""
    framing = b"content-length: %d\r\n%b" % (len(body), b"connection: close\r\n" if close else kept)
    return b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + (b"" if head else body)


class Peer:
    """One raw client in the event loop of the server."""

    def __init__(self, wire: socket.socket) -> None:
        self.wire = wire
        self.received = b""

    async def send(self, data: bytes) -> None:
        """Send `data` and let the server read it."""
        await asyncio.get_running_loop().sock_sendall(self.wire, data)
        await asyncio.sleep(0.001)

    async def receive(self, size: int) -> bytes:
        """What has arrived once it is `size` bytes, or once the other end has closed."""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(60):
                while len(self.received) < size:
                    piece = await asyncio.get_running_loop().sock_recv(self.wire, 1 << 16)
                    if not piece:
                        break
                    self.received += piece
        return self.received

    async def everything(self) -> bytes:
        """What arrives until the other end closes."""
        return await self.receive(1 << 40)


class Served:
    """A server on loopback, swept ten times a second."""

    def __init__(self, made: Clients, port: int) -> None:
        self.clients = made
        self.port = port

    @contextlib.asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        wire = socket.socket()
        wire.setblocking(False)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(wire, ("127.0.0.1", self.port))
        with wire:
            yield Peer(wire)


def serve(scenario: Callable[[Served], Awaitable[None]], application: Any, **limits: Any) -> None:
    """Run `scenario` against a server with `application`."""

    async def sweep(made: Clients) -> None:
        while True:
            await asyncio.sleep(0.1)
            made.sweep(asyncio.get_running_loop().time())

    async def run() -> None:
        made = clients(application, **limits)
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(made.connect, "127.0.0.1", 0)
        sweeping = loop.create_task(sweep(made))
        try:
            await asyncio.wait_for(scenario(Served(made, listening.sockets[0].getsockname()[1])), 200)
        finally:
            sweeping.cancel()
            listening.close()
            made.cut()
            await asyncio.sleep(0)

    uvloop.run(run())


POST = b"POST /a HTTP/1.1\r\n" + HOST + b"content-length: 5\r\n\r\nabcde"
EXCHANGES = {
    "kept": (POST + b"GET /b HTTP/1.1\r\n" + HOST + b"\r\n", ok(b"abcde") + ok(b"")),
    "known": (POST * 4, ok(b"abcde") * 4),
    "chunks": (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b'transfer-encoding: Chunked\r\n\r\n2\r\nab\r\n3;name="a\\"b";x=y\r\ncde\r\n0\r\nx-trailer: 1\r\n\r\n'
        + POST,
        ok(b"abcde") * 2,
    ),
    "HEAD": (
        b"HEAD / HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\nabc" + POST,
        ok(b"abc", head=True) + ok(b"abcde"),
    ),
    "closed": (
        b"POST / HTTP/1.1\r\n" + HOST + b"connection: close\r\ncontent-length: 2\r\n\r\nab",
        ok(b"ab", close=True),
    ),
    "1.0": (b"POST / HTTP/1.0\r\ncontent-length: 2\r\n\r\nab", ok(b"ab", close=True)),
    "1.0 kept": (
        b"POST / HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nab" + POST,
        ok(b"ab", version_10=True) + ok(b"abcde"),
    ),
    "expecting": (
        b"POST / HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\nab" + POST,
        ok(b"ab") + ok(b"abcde"),
    ),
}


@pytest.mark.parametrize(("sent", "expected"), EXCHANGES.values(), ids=EXCHANGES)
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
def test_an_exchange_may_be_split_at_every_byte(sent: bytes, expected: bytes, later: bool) -> None:
    async def scenario(served: Served) -> None:
        for cut in range(1, len(sent)):
            async with served.peer() as peer:
                await peer.send(sent[:cut])
                await peer.send(sent[cut:])
                most = len(expected) + len(CONTINUE) * sent.count(b"expect")
                if len(await peer.receive(len(expected))) > len(expected):
                    await peer.receive(most)
                assert peer.received.replace(CONTINUE, b"") == expected, cut

    serve(scenario, Echo(later=later))


def test_whole_exchanges_are_answered_byte_by_byte() -> None:
    async def scenario(served: Served) -> None:
        for sent, expected in EXCHANGES.values():
            async with served.peer() as peer:
                for byte in sent:
                    await peer.send(bytes([byte]))
                await peer.receive(len(expected) + len(CONTINUE) * sent.count(b"expect"))
                assert peer.received.replace(CONTINUE, b"") == expected

    serve(scenario, Echo())


EXPECTING = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-Continue\r\ncontent-length: 2\r\n\r\n"


def test_an_expectation_is_met_in_its_turn() -> None:
    """Behind another request the interim answer comes after that one's answer, and before the body."""

    async def scenario(served: Served) -> None:
        async with served.peer() as peer:
            await peer.send(POST + EXPECTING)
            before = ok(b"abcde") + CONTINUE
            assert await peer.receive(len(before)) == before
            await peer.send(b"ab")
            assert await peer.receive(len(before) + len(ok(b"ab"))) == before + ok(b"ab")

    serve(scenario, Echo(later=True))


def test_no_interim_answer_where_none_is_needed() -> None:
    async def scenario(served: Served) -> None:
        for sent in (
            EXPECTING + b"ab",
            EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0") + b"ab",
            EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"100-Continue", b"miracles") + b"ab",
            EXPECTING.replace(b"length: 2", b"length: 0"),
        ):
            async with served.peer() as peer:
                await peer.send(sent)
                assert (await peer.receive(1)).startswith(b"HTTP/1.1 200 OK\r\n")

    serve(scenario, Echo())


def test_what_cannot_be_expected_is_417() -> None:
    async def scenario(served: Served) -> None:
        async with served.peer() as peer:
            await peer.send(POST + EXPECTING.replace(b"100-Continue", b"miracles"))
            answer = await peer.everything()
            assert answer.startswith(ok(b"abcde") + b"HTTP/1.1 417 ")
            assert b"connection: close\r\n" in answer

    serve(scenario, Echo())


def chunked(rest: bytes) -> bytes:
    return b"transfer-encoding: chunked\r\n\r\n" + rest


DISPUTED = {
    "two lengths": b"content-length: 5\r\ncontent-length: 5\r\n\r\nabcde",
    "a list of lengths": b"content-length: 5, 5\r\n\r\nabcde",
    "a sign": b"content-length: +5\r\n\r\nabcde",
    "hexadecimal": b"content-length: 0x5\r\n\r\nabcde",
    "underscores": b"content-length: 0_5\r\n\r\nabcde",
    "no length at all": b"content-length: \r\n\r\nabcde",
    "length and chunks": b"content-length: 5\r\n" + chunked(b"0\r\n\r\n"),
    "chunks and length": b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "chunked twice": b"transfer-encoding: chunked\r\n" + chunked(b"0\r\n\r\n"),
    "chunked listed twice": b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "another coding first": b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another coding last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": b"transfer-encoding: identity\r\n\r\n",
    "xchunked": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "quoted": b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "a vertical tab": b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded coding": b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"x: a\r\n\tb\r\n\r\n",
    "a bare line feed": b"x: a\ncontent-length: 5\r\n\r\nabcde",
    "a head ended by line feeds": b"content-length: 0\n\n",
    "a bare carriage return": b"x: a\rb\r\n\r\n",
    "a NUL in a value": b"x: a\x00b\r\n\r\n",
    "a NUL in a name": b"x\x00: a\r\n\r\n",
    "a name of nothing": b": a\r\n\r\n",
    "a line without a colon": b"nonsense\r\n\r\n",
    "a second host": b"host: y\r\n\r\n",
    "a chunk size with a sign": chunked(b"+5\r\nabcde\r\n0\r\n\r\n"),
    "a chunk size with a prefix": chunked(b"0x5\r\nabcde\r\n0\r\n\r\n"),
    "a chunk size with a space": chunked(b"5 \r\nabcde\r\n0\r\n\r\n"),
    "no chunk size": chunked(b"\r\nabcde\r\n0\r\n\r\n"),
    "an immense chunk size": chunked(b"10000000000000005\r\nabcde\r\n0\r\n\r\n"),
    "a chunk line ended by a line feed": chunked(b"5\nabcde\r\n0\r\n\r\n"),
    "a chunk longer than it says": chunked(b"4\r\nabcde\r\n0\r\n\r\n"),
    "an extension with a NUL": chunked(b"5;a=\x00\r\nabcde\r\n0\r\n\r\n"),
    "an extension with a line feed": chunked(b"5;a\nb\r\nabcde\r\n0\r\n\r\n"),
    "a quote without an end": chunked(b'5;a="b\r\nabcde\r\n0\r\n\r\n'),
    "an extension of nothing": chunked(b"5;\r\nabcde\r\n0\r\n\r\n"),
    "a length among the trailers": chunked(b"0\r\ncontent-length: 5\r\n\r\nabcde"),
    "a trailer with a bare line feed": chunked(b"0\r\nx: 1\n\r\n"),
}


@pytest.mark.parametrize("rest", DISPUTED.values(), ids=DISPUTED)
def test_disputable_framing_is_refused_and_nothing_after_it_served(rest: bytes) -> None:
    smuggled = b"POST /smuggled HTTP/1.1\r\n" + HOST + b"content-length: 0\r\n\r\n"
    echo = Echo()

    async def scenario(served: Served) -> None:
        async with served.peer() as peer:
            await peer.send(POST + b"POST /disputed HTTP/1.1\r\n" + HOST + rest + smuggled)
            answer = await peer.everything()
            assert answer.startswith(ok(b"abcde") + b"HTTP/1.1 400 Bad Request\r\n")
            assert answer.count(b"HTTP/1.1 200") == answer.count(b"HTTP/1.1 400") == 1
        assert [request[1] for request in echo.requests] == ["/a"]

    serve(scenario, echo)


def test_a_transfer_coding_in_1_0_and_a_version_before_are_refused() -> None:
    async def scenario(served: Served) -> None:
        for sent in (
            b"POST / HTTP/1.0\r\n" + HOST + chunked(b"0\r\n\r\n"),
            b"GET /\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
        ):
            async with served.peer() as peer:
                await peer.send(sent)
                assert (await peer.everything()).startswith(b"HTTP/1.1 400 ")

    serve(scenario, Echo())


def test_nothing_is_served_after_connection_close() -> None:
    echo = Echo(later=True)

    async def scenario(served: Served) -> None:
        async with served.peer() as peer:
            await peer.send(POST.replace(HOST, HOST + b"connection: close\r\n") + POST)
            await peer.send(POST)
            assert await peer.everything() == ok(b"abcde", close=True)
        assert len(echo.requests) == 1

    serve(scenario, echo)


TRICKLES = {
    "a head": (b"GET / HTTP/1.1\r\nx: ", b"x"),
    "empty lines": (b"\r\n", b"\r\n"),
    "a body": (POST[:-4].replace(b"length: 5", b"length: 500"), b"x"),
    "a body of chunks": (b"POST / HTTP/1.1\r\n" + HOST + chunked(b""), b"1\r\na\r\n"),
    "trailers": (b"POST / HTTP/1.1\r\n" + HOST + chunked(b"0\r\n"), b"x: y\r\n"),
}


@pytest.mark.parametrize(("start", "more"), TRICKLES.values(), ids=TRICKLES)
@pytest.mark.parametrize("first", [b"", POST * 3], ids=["fresh", "known"])
def test_what_trickles_in_is_ended(start: bytes, more: bytes, first: bytes) -> None:
    async def scenario(served: Served) -> None:
        async with served.peer() as peer:
            if first:
                await peer.send(first)
                await peer.receive(len(ok(b"abcde")) * first.count(b"POST"))
                peer.received = b""
            await peer.send(start)
            for _ in range(20):
                await asyncio.sleep(0.05)
                try:
                    await peer.send(more)
                except OSError:
                    break
            assert (await peer.everything()).startswith(b"HTTP/1.1 408 ")

    serve(scenario, Echo(), header_timeout=0.3, body_timeout=0.3)


def test_the_idle_are_closed_without_a_word() -> None:
    async def scenario(served: Served) -> None:
        async with served.peer() as fresh, served.peer() as kept:
            await kept.send(POST)
            assert await fresh.everything() == b""
            assert await kept.everything() == ok(b"abcde")

    serve(scenario, Echo(), header_timeout=0.8, keep_alive_timeout=0.8)


def test_strangers_bodies_are_not_waited_for() -> None:
    """Small requests go to the application, which looks at the key itself; what must be waited for is asked."""
    echo = Echo(key=b"k")
    large = b"POST / HTTP/1.1\r\n" + HOST + b"authorization: %b\r\ncontent-length: 100000\r\n"

    async def scenario(served: Served) -> None:
        for rest in (b"\r\n", b"expect: 100-continue\r\n\r\n", b"\r\nthe beginning"):
            async with served.peer() as stranger:
                await stranger.send(large % b"other" + rest)
                answer = await stranger.everything()
                assert answer.startswith(b"HTTP/1.1 401 ")
                assert b"connection: close\r\n" in answer
        assert not echo.requests
        async with served.peer() as tenant:
            await tenant.send(large % b"k" + b"\r\n")
            await tenant.send(b"a" * 100_000)
            assert (await tenant.receive(100_000)).startswith(b"HTTP/1.1 200 OK\r\n")
        async with served.peer() as stranger:
            await stranger.send(POST)
            assert await stranger.receive(1) == ok(b"abcde")

    serve(scenario, echo)


def test_the_refused_read_why_although_they_still_send() -> None:
    async def scenario(served: Served) -> None:
        async with served.peer() as peer:
            await peer.send(POST.replace(b"length: 5", b"length: 50000000"))
            for _ in range(50):
                await peer.send(b"a" * 100_000)
            assert (await peer.everything()).startswith(b"HTTP/1.1 413 ")
            assert await peer.everything()

    serve(scenario, Echo())


class Slow(Echo):
    """Answers when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: asyncio.Queue[tuple[Any, bytes]] = asyncio.Queue()

    def __call__(self, client: Any, head: Any, body: bytes) -> Any:
        assert self.waiting.empty()
        self.waiting.put_nowait((client, body))
        return self


def test_pipelined_requests_take_bounded_memory_and_none_is_lost() -> None:
    slow, answered, size = Slow(), 5000, len(ok(b"00000"))

    async def scenario(served: Served) -> None:
        async with served.peer() as peer:
            peer.wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            requests = b"".join(POST.replace(b"abcde", b"%05d" % number) for number in range(99_999))
            sending = asyncio.ensure_future(peer.send(requests * 4))
            await asyncio.sleep(0.5)
            assert not sending.done()
            (connection,) = served.clients.connections
            assert 0 < len(connection._held) <= server.MAX_HELD + (256 << 10)
            for number in range(answered):
                client, body = await slow.waiting.get()
                assert body == b"%05d" % number
                client.respond(200, b"", body)
                assert len(connection._reader.requests) <= 8192 // len(POST)
                assert len(connection._held) <= server.MAX_HELD + (256 << 10)
                if number % 500 == 499:
                    await peer.receive(size * (number + 1))
            sending.cancel()

    serve(scenario, slow)


def test_a_failing_application_ends_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Echo):
        def __call__(self, client: Any, head: Any, body: bytes) -> Any:
            if body:
                raise ValueError(body)
            return super().__call__(client, head, body)

    async def scenario(served: Served) -> None:
        async with served.peer() as one, served.peer() as other:
            await one.send(POST)
            assert await one.everything() == b""
            await other.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            assert await other.receive(1) == ok(b"")

    with caplog.at_level(logging.ERROR):
        serve(scenario, Failing())
    assert "ValueError" in caplog.text
    assert "abcde" not in caplog.text
