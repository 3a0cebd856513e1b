"""One replica of a pool: an actor of Ray Serve that holds an engine and answers HTTP on a port of its own.

Ray starts it, watches it and replaces it; requests don't pass through Ray. Once the engine has generated for
the first time the replica registers its address in the store, where routers find it (see
docs/decisions/replicas-answer-on-ports-of-their-own.md). What the engine is, is the business of a subclass.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import uvicorn
from redis.asyncio import Redis
from starlette.types import ASGIApp

from pointsman.contracts.config import Pool
from pointsman.contracts.names import Env
from pointsman.store.replicas import Replica, ReplicaRegistry, keep_registered

log = logging.getLogger(__name__)

NOTICED = 2.0
"""Seconds in which every router has seen that a replica has withdrawn: until then it answers whoever comes."""

LOAD = "load"
"""What a replica tells Ray of itself: the requests that its engine runs or queues."""

_KEEP_ALIVE = 3600
"""Seconds an idle connection is kept: longer than any router keeps it, so that only routers close."""


@dataclass(frozen=True, slots=True)
class Standing:
    """
    What a replica is told about where it stands, beside its pool.

    `redis_url`: where it registers, None: as the environment says; `host`: the address that it listens on and
    registers, None: the one by which Ray knows this node; `revision`: as which it registers; `drain_timeout`:
    seconds that running answers get when it is stopped in order; `ports`: first and last port that it may listen
    on, None: any free one.
    """

    redis_url: str | None
    host: str | None
    revision: str
    drain_timeout: float
    ports: tuple[int, int] | None = None


class EngineLost(Exception):
    """The engine, or the port it answers on, is gone; Ray replaces the replica."""


class ServedReplica:
    """
    The class that Ray Serve runs; constructed and called on one event loop, in a thread that stays.

    Raises in the constructor where the environment holds no replica secret, or nothing where to register, or the
    engine does not start: Ray tries again and reports the message.
    """

    async def __init__(self, pool: Pool, standing: Standing) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        secret = os.environ.get(Env.REPLICA_SECRET)
        if not secret:
            raise RuntimeError(f"{Env.REPLICA_SECRET} is not set: a replica would answer anybody")
        redis_url = standing.redis_url or os.environ.get(Env.REDIS_URL)
        if not redis_url:
            raise RuntimeError(f"{Env.REDIS_URL} is not set: no router would find this replica")
        self._drain_timeout = standing.drain_timeout
        app, version = await self._start(pool, secret)
        host = standing.host or _address_of_this_node()
        listener = _listener(host, standing.ports)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=max(1, int(standing.drain_timeout)),
                **self._http_options(),
            )
        )
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        port = listener.getsockname()[1]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        replica = Replica(pool.name, address, secrets.token_hex(8), version, revision=standing.revision)
        registry = ReplicaRegistry(Redis.from_url(redis_url))
        self._registration = asyncio.create_task(keep_registered(registry, replica, load=self._load))
        log.warning("pool %s: a replica answers on %s", pool.name, address)

    def check_health(self) -> None:
        """Called by Ray Serve; raises `EngineLost` where this replica must be replaced."""
        if not self._engine_is_alive():
            raise EngineLost("a process of the engine has ended")
        if self._serving.done() or self._registration.done():
            raise EngineLost("the replica has stopped answering")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Ray Serve: what the number of replicas follows where nobody knows what waits at the routers."""
        return {LOAD: self._load()}

    async def __del__(self) -> None:
        """Called by Ray Serve, which awaits it, when the replica is stopped in order."""
        self._registration.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._registration
        if self._drain_timeout > NOTICED:
            await asyncio.sleep(NOTICED)
        self._server.should_exit = True
        await self._serving
        self._stop()

    @abstractmethod
    async def _start(self, pool: Pool, secret: str) -> tuple[ASGIApp, str]:
        """Start the engine of `pool`: what answers requests that carry `secret`, and the engine's version."""

    def _http_options(self) -> dict[str, Any]:
        """Options of uvicorn's that the engine needs."""
        return {}

    @abstractmethod
    def _load(self) -> int:
        """Requests that the engine runs or queues."""

    @abstractmethod
    def _engine_is_alive(self) -> bool:
        """Whether the engine can answer now."""

    @abstractmethod
    def _stop(self) -> None:
        """End the engine."""


def _listener(host: str, ports: tuple[int, int] | None) -> socket.socket:
    """A socket that listens on `host`, on the first of `ports` that is free; `OSError` where none is."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if ports is None:
        return socket.create_server((host, 0), family=family, backlog=2048)
    for port in range(ports[0], ports[1]):
        with contextlib.suppress(OSError):  # a predecessor may still finish its answers there
            return socket.create_server((host, port), family=family, backlog=2048)
    return socket.create_server((host, ports[1]), family=family, backlog=2048)


def _address_of_this_node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())
