"""The gateway under soak: the real processes, and what is read of them from outside.

Adds to `support.gateway` what long runs need: a router whose live objects can be counted, its memory, its open
sockets by who is at the other end, and cores to pin processes to.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from pointsman.contracts.names import Env
from support.gateway import SECRET, Gateway, wait_for

MIB = 1024 * 1024

COPIED = 1.0
"""Seconds after which every count of the router is where a scrape finds it."""


class SoakGateway(Gateway):
    """
    A gateway that is watched. With `observed`, the router tells its live objects (`observed_router.py`); with
    `workers`, that many processes share its port.
    """

    def __init__(self, folder: Path, *, observed: bool = False, workers: int = 1, **options: Any) -> None:
        super().__init__(folder, **options)
        self._workers = workers
        self._window = folder / "window.sock" if observed else None

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def start_router(self) -> None:
        if self._window is None:
            self.router = self._command(
                *("router", "--config", str(self.config), "--redis-url", self.redis_url),
                *("--state-dir", str(self.state), "--port", str(self.port), "--workers", str(self._workers)),
            )
            return
        self._window.unlink(missing_ok=True)
        argv = [sys.executable, str(Path(__file__).with_name("observed_router.py")), str(self._window), "router"]
        argv += ["--config", str(self.config), "--redis-url", self.redis_url]
        argv += ["--state-dir", str(self.state), "--port", str(self.port)]
        self.router = self._process("router", argv, {Env.REPLICA_SECRET: SECRET})

    def workers(self) -> list[int]:
        """The process ids of the router's workers."""
        return [child.pid for child in psutil.Process(self.router.popen.pid).children()]

    def alive(self) -> dict[str, int]:
        """Live objects of the router by class; `Task`: unfinished asyncio tasks."""
        with socket.socket(socket.AF_UNIX) as window:
            window.connect(str(self._window))
            text = b""
            while piece := window.recv(65536):
                text += piece
        counts: dict[str, int] = json.loads(text)
        return counts

    def memory(self) -> float:
        """MiB of the router's resident memory."""
        rss: int = psutil.Process(self.router.popen.pid).memory_info().rss
        return rss / MIB

    def sockets(self) -> Counter[str]:
        """The router's open sockets: `clients`, `engines`, `unix`, and `files` for all descriptors together."""
        process = psutil.Process(self.router.popen.pid)
        counts: Counter[str] = Counter(files=process.num_fds())
        for connection in process.net_connections("all"):
            if connection.family == socket.AF_UNIX:
                counts["unix"] += 1
            elif connection.raddr and connection.laddr.port == self.port:
                counts["clients"] += 1
            elif connection.raddr:
                counts["engines"] += 1
        return counts

    def running(self) -> float:
        """Requests that the engines work on."""
        return sum(engine.running() for pool in self.engines.values() for engine in pool)

    def in_flight(self) -> float:
        return self.total("pointsman_requests_in_flight")

    def settle(self, seconds: float = 30.0) -> None:
        """Wait until nothing runs: no request in the router, none on an engine, no client connected."""
        wait_for(lambda: self.sockets()["clients"] == 0, "the last client's connection to end", seconds=seconds)
        wait_for(lambda: self.running() == 0, "the engines to be idle", seconds=seconds)
        time.sleep(COPIED)
        wait_for(lambda: self.in_flight() == 0, "the router to be idle", seconds=seconds)
        time.sleep(COPIED)


def address(url: str) -> tuple[str, int]:
    """Host and port of `url`."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def pin(pid: int, cores: set[int]) -> None:
    """Run process `pid`, with all its threads, on `cores` alone."""
    for thread in psutil.Process(pid).threads():
        os.sched_setaffinity(thread.id, cores)
