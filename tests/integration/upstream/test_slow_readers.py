"""A client that reads nothing holds its engine back, and costs the gateway no memory."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import string
import threading
import time
from pathlib import Path

import pytest

from support.gateway import wait_for
from support.scripted import STREAM_HEAD, Bench, chunk, event

GROWTH = 4 * 1024
"""KiB that the router may grow by."""


class Flood:
    """A step of a script that streams until the connection ends; `sent` counts bytes."""

    def __init__(self, size: int) -> None:
        self.sent = 0
        self.stopped = threading.Event()
        # No text that comes to repeat itself: that is stopped.
        pick = random.Random(size)
        texts = ["".join(pick.choices(string.ascii_letters, k=size)) for _ in range(1 + 4096 // size)]
        self._block = b"".join(chunk(event(text)) for text in texts)

    def __call__(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(self._block)
                self.sent += len(self._block)
        self.stopped.set()

    def rests(self) -> bool:
        """Whether nothing could be sent for half a second."""
        sent = self.sent
        time.sleep(0.5)
        return self.sent == sent


def resident(bench: Bench) -> int:
    """KiB of memory that the router holds."""
    status = Path(f"/proc/{bench.gateway.router.popen.pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+)", status)
    assert match is not None
    return int(match[1])


@pytest.mark.parametrize("size", [10, 5_000, 100_000])
def test_an_engine_is_held_back_by_a_client_that_does_not_read(bench: Bench, size: int) -> None:
    flood = Flood(size)
    bench.one.script(STREAM_HEAD, flood)
    asked = {"model": "one", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    data = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bench.gateway.key}\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        client.connect(("127.0.0.1", bench.gateway.port))
        client.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        before = resident(bench)
        wait_for(flood.rests, "the socket buffers between to be full")
        assert resident(bench) - before < GROWTH
        sent = flood.sent
        deadline = time.monotonic() + 60
        while flood.sent < sent + 1_000_000 and time.monotonic() < deadline:
            client.recv(65536)
        assert flood.sent >= sent + 1_000_000  # it goes on where the client does
        assert resident(bench) - before < GROWTH
    assert flood.stopped.wait(60)
    wait_for(lambda: bench.gateway.total("pointsman_requests_in_flight") == 0, "the request to be counted")
