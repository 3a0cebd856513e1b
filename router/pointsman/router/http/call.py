"""One request to a site: get a connection for it, idle or new, and be able to stop.

Stands on `upstream.py`, below whoever relays an answer; each of them says what to send and what an answer means.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from pointsman.router.exchange import Headers
from pointsman.router.http.site import Site
from pointsman.router.http.upstream import UpstreamConnection


class Call(ABC):
    """Base of the relays. A subclass implements `_send` and `_unreachable`, and `Receiver` for the answer."""

    __slots__ = ("_connect_timeout", "_connecting", "_connection", "_ended", "_paused", "_reused", "_site")

    def __init__(self, site: Site, *, connect_timeout: float) -> None:
        self._site = site
        self._connect_timeout = connect_timeout
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._reused = False
        self._ended = False
        self._paused = False

    def start(self, *, fresh: bool) -> None:
        """Send the request on an idle connection, or on a new one; always on a new one where `fresh`."""
        connection = None if fresh else self._site.take_idle()
        if connection is not None:
            self._use(connection)
        else:
            self._connecting = self._site.open(self._connect_timeout, self._connected)

    def pause(self) -> None:
        """The client reads more slowly than the other end writes: stop reading there, or do not begin to."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    @abstractmethod
    def on_head(self, status: int, headers: Headers) -> None:
        """The head has arrived."""

    @abstractmethod
    def on_data(self, data: bytes) -> None:
        """A piece of the body."""

    @abstractmethod
    def on_complete(self) -> None:
        """The answer is complete."""

    @abstractmethod
    def on_lost(self, reason: str) -> None:
        """The answer will not be completed."""

    @abstractmethod
    def _send(self, connection: UpstreamConnection) -> None:
        """Send the request on `connection`, with this call as its receiver."""

    @abstractmethod
    def _unreachable(self) -> None:
        """No connection could be had."""

    def _end(self, *, keep: bool = False) -> None:
        """Hear nothing more; drop the connection, unless the other end has nothing more to do on it (`keep`)."""
        self._ended = True
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if keep:
            connection.detach(self)  # the end of the answer's framing may be still to come
        else:
            connection.abort()

    def _connected(self, connection: UpstreamConnection | None) -> None:
        self._connecting = None
        if self._ended:
            if connection is not None:
                connection.close()
        elif connection is None:
            self._unreachable()
        else:
            self._use(connection)

    def _use(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        self._reused = connection.reused
        self._send(connection)
        if self._paused and self._connection is not None:
            self._connection.pause()
