"""Pages of the console that somebody keeps open, without a browser: what a tab asks for and holds, and no drawing.

Each has its own page, made by the console as for a browser, and its own socket, over which it is sent all updates.
"""

from __future__ import annotations

import asyncio
import re
import threading
import uuid
from typing import Any, Self
from urllib.parse import urlencode

import httpx
import socketio

from support.console import COOKIE, logged_in

_SOCKET = "_nicegui_ws/socket.io"
_OPENED_WITHIN = 60.0


class OpenPages:
    """`count` tabs of the page at `path`, of one administrator; `sent` counts what each of them was sent."""

    def __init__(self, url: str, key: str, path: str, count: int) -> None:
        self._url = url
        self._client = logged_in(url, key)
        self._path = path
        self._sockets: list[socketio.AsyncClient] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.sent = [0] * count

    def __enter__(self) -> Self:
        self._thread.start()
        for number in range(len(self.sent)):
            page = self._client.get(self._path, headers={"accept": "text/html"})
            assert page.status_code == 200, page.text
            opening = self._open(number, page)
            asyncio.run_coroutine_threadsafe(opening, self._loop).result(_OPENED_WITHIN)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_OPENED_WITHIN)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._client.close()

    @property
    def connected(self) -> int:
        """How many have their socket."""
        return sum(one.connected for one in self._sockets)

    async def _open(self, number: int, page: httpx.Response) -> None:
        found = re.search(r"'client_id': '([\w-]+)', 'next_message_id': (\d+)", page.text)
        assert found is not None, "the page names no socket"
        query = {
            "client_id": found[1],
            "next_message_id": found[2],
            "tab_id": str(uuid.uuid4()),
            "document_id": str(uuid.uuid4()),
            "implicit_handshake": "true",
        }
        wire = socketio.AsyncClient(reconnection_delay=0.2, reconnection_delay_max=1)  # as a browser does

        async def told(_: str, data: Any) -> None:
            self.sent[number] += 1
            # A browser says what it has got about as often.
            if isinstance(data, dict) and "_id" in data:
                reply = {"client_id": query["client_id"], "next_message_id": data["_id"] + 1}
                await wire.emit("ack", reply)

        wire.on("*", told)
        self._sockets.append(wire)
        cookie = f"{COOKIE}={self._client.cookies[COOKIE]}"
        await wire.connect(
            f"{self._url}/?{urlencode(query)}",
            headers={"cookie": cookie, "origin": self._url},
            transports=["websocket"],
            socketio_path=_SOCKET,
        )

    async def _close(self) -> None:
        for one in self._sockets:
            await one.shutdown()
