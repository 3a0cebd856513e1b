"""A client connection without a socket: bytes in, bytes out, and an application that keeps what it was handed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from pointsman.contracts.config import Router
from pointsman.contracts.errors import ApiError, Unauthenticated
from pointsman.router.exchange import Headers
from pointsman.router.http.clients import Clients
from pointsman.router.http.handling import Handling
from pointsman.router.http.heads import Head, KnownHeads
from pointsman.router.http.server import ClientConnection

TURNS = 4
"""Turns of the event loop without an answer after which a connection waits for its client."""


class Socket(asyncio.Transport):
    """What a connection writes to; takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False
        self.shut_down = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        assert not self.shut_down
        self.sent += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.shut_down = True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Echo:
    """
    Answers every request with its body, at once or, where `later`, in a turn of its own.

    A request whose `authorization` is not that of `key` may not make its connection wait for a body.
    """

    def __init__(self, *, later: bool = False, key: bytes | None = None) -> None:
        self.later = later
        self.key = key
        self.requests: list[tuple[Any, ...]] = []
        self.running = 0
        self.failures: list[str] = []

    def __call__(self, client: ClientConnection, head: Head, body: bytes) -> Handling | None:
        self.requests.append(
            (head.method, head.target, dict(head.headers), head.http_10, head.keep_alive, bytes(body))
        )
        self.running += 1
        if self.running > 1:
            self.failures.append("two requests of one connection at once")
        if not self.later:
            self._answer(client, body)
            return None
        asyncio.get_running_loop().call_soon(self._answer, client, body)
        return self

    def refusal_of_head(self, method: str, target: str, headers: Headers, peer: str) -> ApiError | None:
        if self.key is None or headers.get(b"authorization") == self.key:
            return None
        return Unauthenticated("The API key is not known.")

    def _answer(self, client: ClientConnection, body: bytes) -> None:
        self.running -= 1
        client.respond(200, b"", body)

    def abandon(self) -> None:
        """The answer is on its way already."""

    def pause(self) -> None:
        """The answer is one piece."""

    def resume(self) -> None:
        """The answer is one piece."""


class NoHeads(KnownHeads):
    """Knows no head, so that every byte goes to llhttp."""

    def get(self, key: bytes) -> None:
        return None

    def seen_before(self, key: bytes) -> bool:
        return False


def clients(application: Any, *, known: bool = True, **limits: Any) -> Clients:
    """The shared part of connections to `application`, with or without the memory for heads."""
    made = Clients(application, Router(**limits))
    if not known:
        made.known_heads = NoHeads()
    return made


async def converse(made: Clients, pieces: Iterable[bytes], *, end: bool = False) -> Socket:
    """One connection that receives `pieces`, then, where `end`, the end of what its client sends."""
    connection, transport = made.connect(), Socket()
    connection.connection_made(transport)
    for piece in pieces:
        for _ in range(1000):
            if transport.reading or transport.closed:
                break
            await asyncio.sleep(0)
        if transport.closed:
            break
        if piece:
            connection.data_received(piece)
        await _quiet(transport)
    if end and not transport.closed and not connection.eof_received():
        transport.closed = True
    await _quiet(transport)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return transport


async def _quiet(transport: Socket) -> None:
    size = -1
    while size != len(transport.sent):
        size = len(transport.sent)
        for _ in range(TURNS):
            await asyncio.sleep(0)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` in pieces, cut at `places`."""
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]
