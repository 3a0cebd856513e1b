"""All client connections of one data-plane process: what they share, and what is done to all of them.

Stands above the single connection; the process makes one of it, has it swept, and drains it in the end.
"""

from __future__ import annotations

import asyncio

from pointsman.contracts.config import Router as Limits
from pointsman.router.http.handling import Application
from pointsman.router.http.heads import KnownHeads
from pointsman.router.http.server import ClientConnection

DRAIN_LOOK = 0.05
"""Seconds between two looks at whether the last answer has ended."""

SPARE = 256
"""Connections above the limit that are told so at a time; more are broken off without a word."""


class Clients:
    """The connections that `application` answers, within `limits`."""

    def __init__(self, application: Application, limits: Limits) -> None:
        self.application = application
        self.limits = limits
        self.known_heads = KnownHeads()
        self.draining = False
        self.connections: set[ClientConnection] = set()

    def connect(self) -> ClientConnection:
        """The protocol of one new connection."""
        return ClientConnection(self)

    def admit(self, connection: ClientConnection) -> bool:
        """Whether there is room for `connection`, which counts from now on until it is forgotten."""
        self.connections.add(connection)
        over = len(self.connections) - self.limits.max_connections
        if over > SPARE:
            connection.cut()
        return over <= 0

    def forget(self, connection: ClientConnection) -> None:
        """`connection` has ended."""
        self.connections.discard(connection)

    def sweep(self, now: float) -> None:
        """Close or refuse clients that are slower than the limits allow; `now` is `monotonic` time."""
        for connection in list(self.connections):
            connection.sweep(now)

    async def drain(self, seconds: float) -> None:
        """Take no further request; return once all that is under way has been answered, at most after `seconds`."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()
        for _ in range(int(seconds / DRAIN_LOOK) + 1):
            if not any(connection.busy for connection in self.connections):
                return
            await asyncio.sleep(DRAIN_LOOK)

    def cut(self) -> None:
        """Break every connection off."""
        for connection in list(self.connections):
            connection.cut()
