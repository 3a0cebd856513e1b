"""An upstream whose streams never end and come as fast as they are taken, and that counts what was taken.

In a process of its own, so that its haste does not disturb the clients that measure.
"""

from __future__ import annotations

import multiprocessing
import random
import socketserver
import string
from types import TracebackType
from typing import Self

_TEXT = bytes(random.Random(1).choices(string.ascii_letters.encode(), k=800))  # what repeats itself is stopped
_EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"endless",'
    b'"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % _TEXT
)
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class EndlessUpstream:
    """Listens on a free port of loopback. Use as a context manager."""

    def __init__(self) -> None:
        upstream = self
        context = multiprocessing.get_context("fork")
        self._sent = context.Value("q", 0)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline():
                    length = 0
                    while (header := self.rfile.readline().strip().lower()) != b"":
                        if header.startswith(b"content-length:"):
                            length = int(header.split(b":")[1])
                    self.rfile.read(length)
                    if line.startswith(b"POST"):
                        upstream._pour(self)
                        return
                    self.wfile.write(_HEALTHY)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._process = context.Process(target=self._server.serve_forever, daemon=True)

    @property
    def sent(self) -> int:
        """Bytes that the system has taken of all streams so far."""
        return int(self._sent.value)

    def __enter__(self) -> Self:
        self._process.start()
        self._server.server_close()  # the child's copy listens on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()

    def _pour(self, handler: socketserver.StreamRequestHandler) -> None:
        try:
            handler.connection.sendall(_STREAM)
            while True:
                left = memoryview(_CHUNK)
                while left:
                    taken = handler.connection.send(left)
                    with self._sent.get_lock():
                        self._sent.value += taken
                    left = left[taken:]
        except OSError:
            return  # the router has hung up
