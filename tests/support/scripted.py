"""An engine that sends what it is told to, byte by byte: for what no real engine should send."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from support.gateway import Gateway

Step = bytes | float | str | Callable[[socket.socket], None]
"""Bytes to send, seconds to wait, `close`, `reset` (with unread data lost), or something to do with the socket."""

CHUNK = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "served"}
ANSWER: dict[str, Any] = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "served",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


def event(text: str, **more: Any) -> bytes:
    """A chunk of a chat stream that says `text`."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({**CHUNK, "choices": [choice], **more}, separators=(",", ":")).encode() + b"\n\n"


USAGE = (
    b"data: "
    + json.dumps({**CHUNK, "choices": [], "usage": ANSWER["usage"]}, separators=(",", ":")).encode()
    + b"\n\n"
)
DONE = b"data: [DONE]\n\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def body(text: str = "fine") -> bytes:
    """A whole answer's body that says `text`."""
    choice = {**ANSWER["choices"][0], "message": {"role": "assistant", "content": text}}
    return json.dumps({**ANSWER, "choices": [choice]}).encode()


def whole(data: bytes, *, status: str = "200 OK", headers: bytes = b"") -> bytes:
    """A whole HTTP answer."""
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status.encode(),
        headers,
        len(data),
        data,
    )


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def streamed(*texts: str) -> list[bytes]:
    """The steps of a whole stream, each event in a write of its own."""
    return [STREAM_HEAD, *(chunk(event(text)) for text in texts), chunk(USAGE), chunk(DONE), b"0\r\n\r\n"]


class ScriptedEngine:
    """
    Answers its health endpoint, and each request with the next script; with a plain answer where there is none.

    `requests` are the bodies that came, `connections` those that are open. Use as a context manager.
    """

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.requests: list[dict[str, Any]] = []
        self.connections: set[socket.socket] = set()
        self._scripts: deque[tuple[Step, ...]] = deque()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> ScriptedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def script(self, *steps: Step, times: int = 1) -> None:
        """Answer the next `times` requests by `steps`."""
        self._scripts.extend([steps] * times)

    def forget(self) -> None:
        """Drop scripts and requests, and close the connections."""
        self._scripts.clear()
        self.requests.clear()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self.connections.add(connection)
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
            while self._answer(connection, reader):
                pass
        self.connections.discard(connection)

    def _answer(self, connection: socket.socket, reader: Any) -> bool:
        """Answer one request; False where the connection has ended."""
        first = reader.readline()
        if not first:
            return False
        length = 0
        while (line := reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        sent = reader.read(length)
        if first.startswith(b"GET /health"):
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            return True
        asked = json.loads(sent)
        self.requests.append(asked)
        usual = streamed("fine") if asked["stream"] else [whole(body())]
        for step in self._scripts.popleft() if self._scripts else usual:
            if isinstance(step, bytes):
                connection.sendall(step)
                time.sleep(0.002)  # so that each step is a read of its own at the other end
            elif isinstance(step, float):
                time.sleep(step)
            elif step == "close":
                return False
            elif step == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            elif callable(step):
                step(connection)
        return True


class Bench(NamedTuple):
    """A gateway, and the engines behind its models `one`, `two` (two replicas), `quick` (short timeouts)."""

    gateway: Gateway
    one: ScriptedEngine
    two: tuple[ScriptedEngine, ScriptedEngine]
    quick: ScriptedEngine
