"""The floor: the least that a relay in Python can cost, a bare protocol that does nothing but relay.

Every client connection has one keep-alive connection to the upstream. Both sides are parsed by httptools, because
knowing where a message ends is the least that any HTTP gateway has to do; nothing is done with what is learnt.
Run as a program of its own: `python floor.py PORT UPSTREAM_PORT`. `floor.c` is the same without Python.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop


class Upstream(asyncio.Protocol):
    """Answers, handed on as they come."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()


class Client(asyncio.Protocol):
    """Requests, handed on as they come; held only until the upstream's connection is there."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._parser = httptools.HttpRequestParser(self)
        self._upstream: asyncio.Transport | None = None
        self._held: list[bytes] = []
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connecting = asyncio.ensure_future(self._connect(cast(asyncio.Transport, transport)))

    async def _connect(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        upstream, _ = await loop.create_connection(lambda: Upstream(client), "127.0.0.1", self._upstream_port)
        if self._gone:
            upstream.close()
            return
        upstream.writelines(self._held)
        self._upstream = upstream

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._upstream is None:
            self._held.append(data)
        else:
            self._upstream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        if self._upstream is not None:
            self._upstream.close()


async def main(port: int, upstream_port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(upstream_port), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
