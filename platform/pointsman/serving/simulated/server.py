"""One simulated replica as a process: listen, register, answer, and leave in order.

Registers through the store once it can answer, as SGLang's replicas do. On SIGTERM or Ctrl-C it withdraws first,
so that routers stop coming, gives running answers `DRAIN` seconds, and exits.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import Iterator

import uvicorn
import uvloop
from redis.asyncio import Redis

from pointsman.serving.simulated.app import SimulatedEngine
from pointsman.serving.simulated.connection import OpenProtocol
from pointsman.serving.simulated.settings import Identity, Settings
from pointsman.serving.simulated.wire import FINGERPRINT
from pointsman.store.replicas import Replica, ReplicaRegistry, keep_registered

DRAIN = 5
"""Seconds that running answers get to finish after the order to stop."""

_BACKLOG = 2048
_KEEP_ALIVE = 75


class CannotListen(Exception):
    """The address cannot be listened on; the message says why."""


def run(
    identity: Identity, settings: Settings, *, host: str, port: int, secret: str, redis_url: str | None
) -> None:
    """
    Answer on `host`:`port` (0: any free port) until SIGTERM or Ctrl-C.

    Registers in the Redis at `redis_url` under `identity.pool`, or nowhere where either is missing.
    Raises CannotListen where the port cannot be had.
    """
    listener = _listen(host, port)
    engine = SimulatedEngine(identity, settings, secret=secret)
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(engine, identity, listener, redis_url))


async def _serve(
    engine: SimulatedEngine, identity: Identity, listener: socket.socket, redis_url: str | None
) -> None:
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    presence = _Presence(engine, identity, address, redis_url)
    pool = f" for pool {identity.pool}" if identity.pool else ""
    config = uvicorn.Config(
        engine.app,
        http=OpenProtocol,
        lifespan="off",
        ws="none",
        backlog=_BACKLOG,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        headers=[("server", FINGERPRINT)],
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=DRAIN,
    )
    await _Server(config, presence, f"the simulated engine answers{pool} on http://{address}").serve([listener])


class _Presence:
    """The registration of this replica, while it lasts."""

    def __init__(self, engine: SimulatedEngine, identity: Identity, address: str, redis_url: str | None) -> None:
        self._engine = engine
        self._redis = Redis.from_url(redis_url) if redis_url and identity.pool else None
        instance = secrets.token_hex(8)
        self._replica = Replica(identity.pool or "", address, instance, FINGERPRINT, revision=identity.revision)
        self._kept: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._redis is not None:
            registry = ReplicaRegistry(self._redis)
            self._kept = asyncio.create_task(
                keep_registered(registry, self._replica, load=lambda: self._engine.load)
            )

    async def end(self) -> None:
        if self._redis is None or self._kept is None:
            return
        self._kept.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._kept
        await self._redis.aclose()


class _Server(uvicorn.Server):
    """uvicorn's server, registered while it answers; the orderly end of the process is exit code 0."""

    def __init__(self, config: uvicorn.Config, presence: _Presence, announcement: str) -> None:
        super().__init__(config)
        self._presence = presence
        self._announcement = announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._presence.begin()
        print(self._announcement, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._presence.end()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handled = (signal.SIGINT, signal.SIGTERM)
        for number in handled:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener
