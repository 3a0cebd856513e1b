"""Exchanges for unit tests, and stand-ins for what surrounds a step."""

from __future__ import annotations

from typing import Any

import orjson

from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.http.wire import unframed


class RecordingClient:
    """Keeps what would have been sent."""

    peer = "127.0.0.1"

    def __init__(self) -> None:
        self.status = 0
        self.headers = b""
        self.sent = b""
        self.ended = False

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        assert not self.ended
        self.status, self.headers, self.sent, self.ended = status, headers, body, True

    def start_stream(self, headers: bytes, status: int = 200, first: bytes = b"") -> None:
        assert not self.ended
        self.status, self.headers = status, headers
        self.sent += first

    def send(self, data: bytes) -> None:
        assert not self.ended
        self.sent += data

    def send_chunks(self, chunks: bytes) -> None:
        self.send(unframed(chunks))

    def end_stream(self, data: bytes) -> None:
        assert not self.ended
        self.sent += data
        self.ended = True


def exchange_with(body: dict[str, Any], *, endpoint: Endpoint = Endpoint.CHAT) -> Exchange:
    """An exchange that has just arrived with `body`."""
    return Exchange(RecordingClient(), endpoint, {}, orjson.dumps(body))


class NoBooks:
    """For a `Settle` whose requests nobody looks up later. `settled`: status and cost of each."""

    def __init__(self) -> None:
        self.settled: list[tuple[int, int]] = []

    def at(self, exchange: Exchange) -> int:
        return 1_700_000_000_000

    def settle(self, exchange: Exchange, status: int) -> None:
        self.settled.append((status, 0 if exchange.cost is None else exchange.cost.total))


def unspared(exchange: Exchange) -> None:
    """For a `Settle` of whose requests nobody asks what they spared."""


def unnoted(exchange: Exchange, status: int, duration: float) -> None:
    """For a `Settle` of whose requests nobody keeps a record."""
