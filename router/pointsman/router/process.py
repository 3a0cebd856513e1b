"""The data-plane process: puts the parts together, serves, and drains when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import uvloop
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pointsman.contracts.config import Config
from pointsman.contracts.names import StateFile
from pointsman.router.application import Application
from pointsman.router.budget_gauges import BudgetGauges
from pointsman.router.change_bell import ChangeBell
from pointsman.router.data_plane import DataPlane
from pointsman.router.demand_report import DemandReport
from pointsman.router.http.clients import Clients
from pointsman.router.http.server import LINGER
from pointsman.router.http.tls import Certificates
from pointsman.router.live_report import LiveReport
from pointsman.router.passthrough import Passthrough
from pointsman.router.policy_watch import PolicyWatch
from pointsman.router.pool_watch import PoolWatch
from pointsman.router.predictor_watch import PredictorWatch
from pointsman.router.price_watch import PriceWatch
from pointsman.router.tenant_watch import TenantWatch
from pointsman.router.thinking_spend import ThinkingSpend
from pointsman.store.demand import DemandWriter
from pointsman.store.live import LiveRouters
from pointsman.store.policy_projection import PolicyReader
from pointsman.store.pool_projection import PoolReader
from pointsman.store.predictor_projection import PredictorReader
from pointsman.store.price_projection import PriceReader
from pointsman.store.tenant_projection import TenantReader
from pointsman.store.thinking import ThinkingTotals

log = logging.getLogger(__name__)

SWEEP = 0.5
"""Seconds between two looks for clients and engines that are too slow."""

OTHER_FILES = 1024
"""Open files beside the connections to clients and replicas."""

BACKLOG = 1024
"""Connections that may wait to be accepted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """
    Where one data-plane process listens and what it talks to.

    `secret` is the replicas' shared secret. A worker has a `lifeline`, a file descriptor that becomes readable when
    its parent is gone, and shares its port with others.
    """

    host: str
    port: int
    redis_url: str
    state_dir: Path
    secret: str
    lifeline: int | None = None


def run(config: Config, settings: Settings) -> None:
    """
    Serve until SIGTERM or SIGINT, then drain and return; a second signal, or SIGQUIT, ends at once.

    Raises OSError where the port can't be had, `TlsError` and `WeightsError` where a file can't be used.
    """
    _allow_sockets(config.router.max_connections)
    uvloop.run(_serve(config, settings))


async def _serve(config: Config, settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    redis = Redis.from_url(settings.redis_url, socket_timeout=2.0, socket_connect_timeout=2.0)
    impatient_redis = Redis.from_url(
        settings.redis_url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
    )
    plane = DataPlane(
        config,
        state_dir=settings.state_dir,
        secret=settings.secret,
        redis=redis,
        impatient_redis=impatient_redis,
    )
    fleet, snapshot, ledger = plane.fleet, plane.snapshot, plane.ledger
    health, metrics = plane.health, plane.metrics
    budgets = BudgetGauges(plane.leases, metrics)
    demand = DemandReport(DemandWriter(impatient_redis, ledger.run), fleet)
    live = LiveReport(ledger.run, LiveRouters(impatient_redis), fleet, health, metrics, plane.savings)
    passthrough = Passthrough(str(settings.state_dir / StateFile.ADMIN_SOCKET))
    clients = Clients(Application(snapshot, plane.pipeline, health, passthrough, metrics), config.router)
    certificates = Certificates(config.router.tls) if config.router.tls else None
    bell = ChangeBell(redis)
    made = PoolWatch(PoolReader(redis), plane.pools, settings.state_dir / StateFile.KNOWN_POOLS, bell=bell)
    health.watch("pools", made.trouble)
    policies = PolicyWatch(PolicyReader(redis), snapshot, settings.state_dir / StateFile.KNOWN_POLICIES, bell=bell)
    tenants = TenantWatch(
        TenantReader(redis),
        snapshot.tenants,
        settings.state_dir / StateFile.KNOWN_TENANTS,
        max_age=config.router.max_snapshot_age,
        bell=bell,
    )
    health.watch("tenants", tenants.trouble)
    thinking = ThinkingSpend(ThinkingTotals(redis), snapshot.tenants)
    judges = PredictorWatch(
        PredictorReader(redis), plane.predictors, settings.state_dir / StateFile.KNOWN_PREDICTORS
    )
    prices = PriceWatch(PriceReader(redis), snapshot.prices, settings.state_dir / StateFile.KNOWN_PRICES)
    await asyncio.gather(made.begin(), policies.begin(), tenants.begin(), judges.begin())
    await prices.begin()
    await plane.answers.shared.begin()
    await thinking.look()
    server = await _listen(clients, settings, certificates)
    stop, hurry = asyncio.Event(), asyncio.Event()
    _heed_signals(loop, stop, hurry, lifeline=settings.lifeline)
    sweeps = [clients.sweep, fleet.sweep, passthrough.site.sweep, plane.savings.tell, budgets.tell]
    tasks = [
        loop.create_task(fleet.watch()),
        loop.create_task(bell.follow()),
        loop.create_task(made.follow()),
        loop.create_task(policies.follow()),
        loop.create_task(tenants.follow()),
        loop.create_task(prices.follow()),
        loop.create_task(judges.follow()),
        loop.create_task(thinking.follow()),
        loop.create_task(plane.decisions.run()),
        loop.create_task(plane.answers.shared.run()),
        loop.create_task(ledger.follow()),
        loop.create_task(plane.leases.follow()),
        loop.create_task(live.follow()),
        loop.create_task(demand.follow()),
        loop.create_task(_sweep(sweeps, certificates)),
    ]
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
    plane.savings.finish()
    await plane.answers.shared.flush()
    await plane.decisions.flush()
    await ledger.close()
    await plane.leases.close()
    await live.withdraw()
    await demand.withdraw()
    await thinking.look()  # the answer that ended the drain may have been the one that thought most
    fleet.close()
    passthrough.site.close()
    metrics.close()
    with contextlib.suppress(Exception):
        await redis.aclose()
        await impatient_redis.aclose()
    for failure in failures:
        if failure is not None:
            raise failure


async def _listen(clients: Clients, settings: Settings, certificates: Certificates | None) -> asyncio.Server:
    tls: dict[str, Any] = {}
    if certificates is not None:
        patience = clients.limits.header_timeout
        tls = {"ssl": certificates.context, "ssl_handshake_timeout": patience, "ssl_shutdown_timeout": LINGER}
    return await asyncio.get_running_loop().create_server(
        clients.connect,
        settings.host,
        settings.port,
        backlog=BACKLOG,
        reuse_port=settings.lifeline is not None,
        **tls,
    )


def _heed_signals(
    loop: asyncio.AbstractEventLoop, stop: asyncio.Event, hurry: asyncio.Event, *, lifeline: int | None
) -> None:
    """Let signals set `stop`, then `hurry`; a worker, which its parent signals too, hurries on SIGQUIT alone."""

    def stop_or_hurry() -> None:
        (hurry if stop.is_set() and lifeline is None else stop).set()

    def end_at_once() -> None:
        stop.set()
        hurry.set()

    def orphaned() -> None:
        assert lifeline is not None
        loop.remove_reader(lifeline)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_hurry)
    loop.add_signal_handler(signal.SIGQUIT, end_at_once)
    if lifeline is not None:
        loop.add_reader(lifeline, orphaned)


async def _sweep(sweeps: Iterable[Callable[[float], None]], certificates: Certificates | None) -> None:
    while True:
        await asyncio.sleep(SWEEP)
        now = monotonic()
        for sweep in sweeps:
            sweep(now)
        if certificates is not None:
            certificates.refresh()


def _allow_sockets(connections: int) -> None:
    """Raise the limit on open files so that each client may have a replica's connection beside its own."""
    wanted = 2 * connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if soft != resource.RLIM_INFINITY and max(soft, allowed) < connections + OTHER_FILES:
        log.warning("%d open files are allowed, too few for %d connections", max(soft, allowed), connections)


async def _first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run `coroutines` until one of them ends; stop the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
