"""The client of a request whose stream is recorded.

Stands between the pipeline, which writes to it as to any client, and the connection; `flight.py` hears what was
written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pointsman.router.exchange import Client

if TYPE_CHECKING:
    from pointsman.router.response_cache.flight import Flight


class Recorder:
    """The client of a request that leads a flight: passes on what it gets, and has it recorded."""

    __slots__ = ("_flight", "client", "peer")

    def __init__(self, flight: Flight, client: Client) -> None:
        self._flight = flight
        self.client = client
        self.peer = client.peer

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """An error, before the stream has begun."""
        self.client.respond(status, headers, body)

    def start_stream(self, headers: bytes, status: int = 200, first: bytes = b"") -> None:
        self.client.start_stream(headers, status, first)
        self._flight.begin(first)

    def send(self, data: bytes) -> None:
        self.client.send(data)
        self._flight.add(data, framed=False)

    def send_chunks(self, chunks: bytes) -> None:
        self.client.send_chunks(chunks)
        self._flight.add(chunks, framed=True)

    def end_stream(self, data: bytes) -> None:
        """The end is each client's own."""
        self.client.end_stream(data)
