"""A client that believes nothing: one raw connection, and answers that must be HTTP/1.1 to the letter.

An answer is read whole, or it ends in `Gone` (the connection ended before its first byte) or `Broken` (anything
else). What an answer means is `answers.py`'s business.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from time import perf_counter
from typing import Self

_MAX_LINE = 64 * 1024


class Gone(Exception):
    """The connection ended before the first byte of the answer."""


class Broken(Exception):
    """An answer that ends too early, or is not HTTP/1.1."""


@dataclass(slots=True)
class Answer:
    """One whole answer. `arrivals`: when each chunk of its body came, by `perf_counter`."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    arrivals: list[float]

    def header(self, name: str) -> str:
        return self.headers.get(name.encode(), b"").decode("latin-1")


class Connection:
    """One connection to the gateway. Use as an async context manager; leaving it closes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=_MAX_LINE)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until what was written has left, as far as flow control cares."""
        await self._writer.drain()

    def half_close(self) -> None:
        """Say that nothing more will be sent; answers can still be read."""
        self._writer.write_eof()

    def reset(self) -> None:
        """End the connection the rude way: the other end gets RST instead of an orderly end."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def read_some(self, size: int) -> bytes:
        """Up to `size` bytes as they come; empty at the end."""
        try:
            return await self._reader.read(size)
        except ConnectionError:
            return b""

    async def ended(self) -> bool:
        """Whether the other end closes now, with nothing more to read."""
        return await self.read_some(1) == b""

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """The next answer, interim ones left out. `bodiless`: the request was HEAD."""
        while True:
            status, headers = await self._head()
            if status >= 200:
                break
        arrivals: list[float] = []
        try:
            if bodiless or status in (204, 304):
                body = b""
            elif headers.get(b"transfer-encoding") == b"chunked":
                if b"content-length" in headers:
                    raise Broken("both content-length and transfer-encoding")
                body = await self._chunks(arrivals)
            elif b"content-length" in headers:
                body = await self._reader.readexactly(int(headers[b"content-length"]))
                arrivals.append(perf_counter())
            else:
                raise Broken(f"status {status} without framing")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken(f"status {status}, cut off in its body") from error
        return Answer(status, headers, body, arrivals)

    async def _head(self) -> tuple[int, dict[bytes, bytes]]:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                raise Broken("cut off in its head") from error
            raise Gone from error
        first, *lines = head[:-4].split(b"\r\n")
        version, _, rest = first.partition(b" ")
        if version != b"HTTP/1.1" or not rest[:3].isdigit() or rest[3:4] != b" ":
            raise Broken(f"a status line that is none: {first[:60]!r}")
        headers: dict[bytes, bytes] = {}
        for line in lines:
            name, colon, value = line.partition(b": ")
            if not colon or name != name.lower() or name in headers:
                raise Broken(f"a header line that is none, or comes twice: {line[:60]!r}")
            headers[name] = value
        return int(rest[:3]), headers

    async def _chunks(self, arrivals: list[float]) -> bytes:
        pieces: list[bytes] = []
        while True:
            line = await self._reader.readuntil(b"\r\n")
            try:
                size = int(line, 16)
            except ValueError:
                raise Broken(f"a chunk size that is none: {line[:60]!r}") from None
            data = await self._reader.readexactly(size + 2)
            if not data.endswith(b"\r\n"):
                raise Broken("a chunk longer than it says")
            if size == 0:
                return b"".join(pieces)
            arrivals.append(perf_counter())
            pieces.append(data[:-2])
