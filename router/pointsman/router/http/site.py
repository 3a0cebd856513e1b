"""One address of an engine: its connections, idle and busy, and how new ones are opened.

Stands on `upstream.py`, apart from it because a connection knows nothing of the others, nor how it was opened.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from pointsman.router.http.answer_head import KnownHead
from pointsman.router.http.upstream import UpstreamConnection

MAX_IDLE = 1024
"""Idle connections kept per address: as many as were busy at once, or bursts would open and close them."""


class Site:
    """
    One address: its connections, idle and busy. `name` stands for it in logs.

    `connect` opens a connection with the protocol it is given, by TCP or by Unix socket.
    """

    def __init__(self, name: str, connect: Callable[[Callable[[], UpstreamConnection]], Awaitable[object]]) -> None:
        self.name = name
        self._connect = connect
        self._idle: list[UpstreamConnection] = []
        self.known_heads: list[KnownHead] = []
        self._pending: set[asyncio.Task[None]] = set()
        self._left = False
        self.connections: set[UpstreamConnection] = set()

    @property
    def busy(self) -> list[UpstreamConnection]:
        """The connections on which an answer is still to come."""
        return [connection for connection in self.connections if connection.busy]

    @property
    def active(self) -> bool:
        """Whether there are connections, or will be."""
        return bool(self.connections or self._pending)

    def take_idle(self) -> UpstreamConnection | None:
        """An idle open connection, the one used last first."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    def open(self, timeout: float, use: Callable[[UpstreamConnection | None], None]) -> asyncio.Task[None]:
        """Connect within `timeout` seconds and call `use` with the connection, or with None where it failed."""
        task = asyncio.get_running_loop().create_task(self._open(timeout, use))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def _open(self, timeout: float, use: Callable[[UpstreamConnection | None], None]) -> None:
        connection = UpstreamConnection(self)
        try:
            async with asyncio.timeout(timeout):
                await self._connect(lambda: connection)
        except (OSError, TimeoutError):
            self.forget(connection)  # of one that is given up while it opens, the loop tells nothing more
            use(None)
            return
        except asyncio.CancelledError:
            self.forget(connection)
            connection.close()
            raise
        use(connection)

    def remember(self, known: KnownHead) -> None:
        """Keep a head that has just come: but for its length, and until the second changes, it will come again."""
        kind = known.head.length < 0
        self.known_heads = [other for other in self.known_heads if (other.head.length < 0) != kind] + [known]

    def release(self, connection: UpstreamConnection) -> None:
        """Keep `connection` for the next request."""
        if len(self._idle) < MAX_IDLE and not self._left:
            self._idle.append(connection)
        else:
            connection.close()

    def forget(self, connection: UpstreamConnection) -> None:
        """`connection` is of no more use."""
        self.connections.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Give up on engines that have been silent for too long. `now` is in `monotonic` seconds."""
        for connection in list(self.connections):
            connection.sweep(now)

    def leave(self) -> None:
        """Nothing new is to be sent here: close what is idle, and what is busy as soon as it has ended."""
        self._left = True
        self.close()

    def close(self) -> None:
        """Close what is idle; what is busy ends by itself."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def tcp_site(host: str, port: int) -> Site:
    """The site at `host:port`."""
    return Site(f"{host}:{port}", lambda make: asyncio.get_running_loop().create_connection(make, host, port))


def unix_site(path: str) -> Site:
    """The site behind the Unix socket at `path`."""
    return Site(path, lambda make: asyncio.get_running_loop().create_unix_connection(make, path))
