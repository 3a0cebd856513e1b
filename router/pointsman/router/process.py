"""The data-plane process: puts the parts together, serves, and drains when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import uvloop
from redis.asyncio import Redis

from pointsman.contracts.config import Config
from pointsman.contracts.names import StateFile
from pointsman.router.application import Application
from pointsman.router.fleet import Fleet
from pointsman.router.fleet.last_known import LastKnown
from pointsman.router.health import Health
from pointsman.router.http.clients import Clients
from pointsman.router.metrics import Metrics
from pointsman.router.passthrough import Passthrough
from pointsman.router.pipeline import Pipeline
from pointsman.router.pipeline.authenticate import Authenticate
from pointsman.router.pipeline.decide import Decide
from pointsman.router.pipeline.parse import Parse
from pointsman.router.pipeline.place import Place
from pointsman.router.pipeline.relay import Relay
from pointsman.router.pipeline.settle import Settle
from pointsman.router.predictor import Predictor
from pointsman.router.snapshot import compile_snapshot
from pointsman.store.replicas import ReplicaRegistry

log = logging.getLogger(__name__)

SWEEP = 0.5
"""Seconds between two looks for clients and engines that are too slow."""

BACKLOG = 1024
"""Connections that may wait to be accepted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where one data-plane process listens and what it talks to. `secret` is the replicas' shared secret."""

    host: str
    port: int
    redis_url: str
    state_dir: Path
    secret: str


def run(config: Config, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. Raises OSError where the port can't be had."""
    uvloop.run(_serve(config, settings))


async def _serve(config: Config, settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    redis = Redis.from_url(settings.redis_url, socket_timeout=2.0, socket_connect_timeout=2.0)
    metrics = Metrics(settings.state_dir / StateFile.METRICS, loop.call_later)
    snapshot = compile_snapshot(config)
    last_known = LastKnown(settings.state_dir / StateFile.LAST_KNOWN)
    fleet = Fleet(config, ReplicaRegistry(redis), metrics, secret=settings.secret, last_known=last_known)
    place = Place(fleet)
    relay = Relay(fleet, metrics, max_response_bytes=config.router.max_response_bytes)
    predictor = Predictor.load(Path(config.predictor) if config.predictor else None)
    pipeline = Pipeline(
        [
            Authenticate(snapshot),
            Parse(),
            Decide(predictor, metrics),
            place,
            relay,
            Settle(snapshot, metrics),
        ],
        metrics,
    )
    place.pipeline = relay.pipeline = pipeline
    health = Health(fleet)
    passthrough = Passthrough(str(settings.state_dir / StateFile.ADMIN_SOCKET))
    clients = Clients(Application(snapshot, pipeline, health, passthrough, metrics), config.router)
    server = await loop.create_server(clients.connect, settings.host, settings.port, backlog=BACKLOG)
    stop, hurry = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    tasks = [loop.create_task(fleet.watch()), loop.create_task(_sweep(clients, fleet, passthrough.site.sweep))]
    gc.collect()
    gc.freeze()  # what exists now lives as long as the process: later collections need not walk it
    log.info("listening on %s:%s", settings.host, settings.port)
    stopped = loop.create_task(stop.wait())
    # A background task never ends by itself: if one does, its failure must end the process, not stay unseen.
    await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    health.draining = True
    server.close()
    await _first_of(clients.drain(config.router.drain_timeout), hurry.wait())
    clients.cut()
    await asyncio.sleep(0)  # so that each connection hears of its end
    failures = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    for task in (*tasks, stopped):
        task.cancel()
    await asyncio.gather(*tasks, stopped, return_exceptions=True)
    fleet.close()
    passthrough.site.close()
    metrics.close()
    with contextlib.suppress(Exception):
        await redis.aclose()
    for failure in failures:
        if failure is not None:
            raise failure


async def _sweep(clients: Clients, fleet: Fleet, sweep_admin: Callable[[float], None]) -> None:
    while True:
        await asyncio.sleep(SWEEP)
        now = monotonic()
        clients.sweep(now)
        fleet.sweep(now)
        sweep_admin(now)


async def _first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run `coroutines` until one of them ends; stop the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
