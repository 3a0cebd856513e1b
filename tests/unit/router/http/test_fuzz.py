"""Mutated streams, cut at random, against a client connection: the same thousand in every run.

Whatever is sent: nothing raises, every answer parses in another library (h11), what is handed to the application is
what that library reads in the same bytes, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import h11

from pointsman.router.http.server import MAX_HELD
from support.http_peers import Echo, Socket, clients

RUNS = 1000
MAX_BODY, MAX_HEAD = 1024, 2048

HOST = b"host: x\r\n"
SEEDS = [
    b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabcde",
    b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nabcdeabcdeab",
    b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n",
    b"HEAD /c HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /d HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nabcde\r\n0\r\nt: 1\r\n\r\n",
    b"POST /e HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nab",
    b"POST /f HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
    b"POST /g HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\na",
]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b":",
    b"0",
    b"5",
    b"-1",
    b"+5",
    b"ffffffffffffffff",
    b"content-length: 5\r\n",
    b"Content-Length: 7\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n",
    b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: x\r\n",
    b"expect: 100-continue\r\n",
    b" folded\r\n",
    b"a" * 3000,
    b"0\r\n\r\n",
    b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n",
]


def stream_of(chance: random.Random) -> bytes:
    """A few requests; one in two such streams is damaged."""
    data = bytearray(b"".join(chance.choice(SEEDS) for _ in range(chance.randint(1, 5))))
    if chance.random() < 0.5:
        return bytes(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            data[place:place] = chance.choice(TOKENS)
        elif kind == 1:
            del data[place : place + chance.randint(1, 8)]
        elif kind == 2:
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 3:
            other = chance.randrange(len(data) + 1)
            data[place:place] = data[min(place, other) : max(place, other)][:200]
        else:
            data[place : place + 4] = chance.choice(TOKENS)
    return bytes(data)


class Run:
    """One stream against one connection."""

    def __init__(self, made: Any, echo: Echo, stream: bytes, chance: random.Random) -> None:
        self.made, self.echo, self.stream, self.chance = made, echo, stream, chance
        self.transport = Socket()

    async def go(self) -> None:
        self.echo.requests.clear()
        self.echo.running = 0
        connection = self.made.connect()
        connection.connection_made(self.transport)
        at = 0
        while at < len(self.stream) and not self.transport.closed:
            if not self.transport.reading:
                await asyncio.sleep(0)
                continue
            size = self.chance.choice([1, 7, 60, 300, 5000])
            connection.data_received(self.stream[at : at + size])
            at += size
            assert len(connection._held) <= MAX_HELD + 5000
            assert len(connection._reader._body) <= MAX_BODY
            assert connection._reader._unparsed <= MAX_HEAD + 8192
            if self.chance.random() < 0.3:
                await asyncio.sleep(0)
            if self.chance.random() < 0.05:
                connection.pause_writing()
                await asyncio.sleep(0)
                connection.resume_writing()
        sent = -1
        while sent != len(self.transport.sent):
            sent = len(self.transport.sent)
            for _ in range(4):
                await asyncio.sleep(0)
        if self.chance.random() < 0.5:
            connection.eof_received()
        connection.sweep(time.monotonic() + self.chance.choice([0, 1000]))
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert not self.echo.failures
        awaited = connection._reader.head
        self.check_answers(awaited.method if awaited is not None else "GET")
        self.check_requests()

    def check_answers(self, awaited: str) -> None:
        """
        Every answer is whole and parses, and there is one for each request, and at most one refusal.

        `awaited` is the method of the request that never became whole, which may be what was refused.
        """
        methods = [request[0] for request in self.echo.requests]
        data, answers = bytes(self.transport.sent), 0
        parser = h11.Connection(h11.CLIENT)
        while data:
            method = methods[answers] if answers < len(methods) else awaited
            assert answers <= len(methods), "an answer to nothing"
            assert method != "CONNECT"
            parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
            parser.send(h11.EndOfMessage())
            parser.receive_data(data)
            status = 100
            while not isinstance(event := parser.next_event(), h11.EndOfMessage):
                assert event is not h11.NEED_DATA, bytes(self.transport.sent)
                if isinstance(event, h11.Response):
                    status = event.status_code
            assert (status == 200) == (answers < len(methods))
            answers += 1
            data = parser.trailing_data[0]
            parser = h11.Connection(h11.CLIENT)
            while data.startswith(b"HTTP/1.1 100 Continue\r\n\r\n") and answers >= len(methods):
                data = data[25:]  # to a request whose body never came
        assert answers >= len(methods)

    def check_requests(self) -> None:
        """h11 reads the same requests, with the same bodies, in the same bytes."""
        parser, data = h11.Connection(h11.SERVER), self.stream
        for method, target, _, _, _, body in self.echo.requests:
            data = data.lstrip(b"\r\n")  # empty lines before a request; h11 takes none
            parser = h11.Connection(h11.SERVER)
            parser.receive_data(data)
            try:
                request = parser.next_event()
            except h11.RemoteProtocolError as error:
                if "illegal request line" in str(error):
                    return  # several spaces, which are no matter of framing; h11 wants one
                raise
            assert isinstance(request, h11.Request)
            assert (request.method.decode(), request.target.decode("latin-1")) == (method, target)
            read = b""
            while not isinstance(event := parser.next_event(), h11.EndOfMessage):
                assert isinstance(event, h11.Data)
                read += event.data
            assert read == body
            data = parser.trailing_data[0]


def test_fuzz() -> None:
    async def run() -> tuple[int, int]:
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        served = refused = 0
        echoes = [Echo(), Echo(later=True)]
        sides = [(clients(echo, max_body_bytes=MAX_BODY, max_header_bytes=MAX_HEAD), echo) for echo in echoes]
        for seed in range(RUNS):
            chance = random.Random(seed)
            stream = stream_of(chance)
            made, echo = chance.choice(sides)
            one = Run(made, echo, stream, chance)
            try:
                await one.go()
            except BaseException as error:
                raise AssertionError(f"seed {seed}: {stream!r}") from error
            assert not failures, (seed, stream, failures)
            served += len(echo.requests)
            refused += b"HTTP/1.1 4" in one.transport.sent
        return served, refused

    served, refused = asyncio.run(run())
    assert served > RUNS / 2
    assert refused > RUNS / 10
