"""The admin process: uvicorn on a Unix socket that only this user may open."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import signal
import socket
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pointsman.contracts.config import Config
from pointsman.contracts.names import StateFile
from pointsman.router.admin.access import Access
from pointsman.router.admin.app import Parts, build_app
from pointsman.router.admin.bookings import Bookings
from pointsman.router.admin.counters import AdminCounters
from pointsman.router.admin.decision_writer import DecisionWriter
from pointsman.router.admin.key_ring import KeyRing
from pointsman.router.admin.live_keys import LiveKeys
from pointsman.router.admin.live_policies import LivePolicies
from pointsman.router.admin.live_pools import LivePools
from pointsman.router.admin.live_predictors import LivePredictors
from pointsman.router.admin.live_prices import LivePrices
from pointsman.router.admin.live_tenants import LiveTenants
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.router.admin.tenant_projector import TenantProjector
from pointsman.router.background import stand_back
from pointsman.router.heartbeat import Heartbeat
from pointsman.router.metrics import Metrics
from pointsman.router.metrics_page import MetricsServer
from pointsman.router.stages import StageKeeper
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database, database_url
from pointsman.store.decisions import DecisionStore
from pointsman.store.keys import KeyStore
from pointsman.store.ledger import LedgerStore
from pointsman.store.live import ADMIN, LiveState
from pointsman.store.pools import PoolStore
from pointsman.store.predictors import PredictorStore
from pointsman.store.response_cache import AnswerStore
from pointsman.store.tenants import TenantStore
from pointsman.store.usage import UsageStore

NICENESS = 10
"""How far pages and records stand behind the data plane where both want the same core."""

REDIS_TIMEOUT = 2.0
"""Seconds that Redis has for an answer."""


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What the admin process talks to, and the folder that it shares with the data plane.

    `page`: host and port at which a cluster reads metrics and health, None for none.
    """

    redis_url: str
    state_dir: Path
    page: tuple[str, int] | None = None


def run(config: Config, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; everything is closed in order then, and `SystemExit` raised with status 0."""
    os.nice(NICENESS)
    stand_back()
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn, which heeds them while it serves, sends itself the signal once more when it is done.
        signal.signal(number, _leave)
    metrics_dir = settings.state_dir / StateFile.METRICS
    metrics = Metrics(metrics_dir)
    database = Database(database_url(config.database, settings.state_dir))
    redis = Redis.from_url(settings.redis_url, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT)
    impatient = Redis.from_url(
        settings.redis_url,
        socket_timeout=REDIS_TIMEOUT,
        socket_connect_timeout=REDIS_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
    policies = LivePolicies(config, database, redis)
    directory = PoolDirectory(config)
    prices = LivePrices(directory, database, redis)
    counters = AdminCounters(metrics)
    keeper = StageKeeper(policies, returned=counters.returned)
    store = DecisionStore(database)
    version = importlib.metadata.version("pointsman")
    audit = AuditLog(database)
    stored_keys, stored_tenants = KeyStore(database, audit), TenantStore(database, audit)
    pools = LivePools(directory, PoolStore(database, audit), prices, impatient)
    predictors = LivePredictors(config, PredictorStore(database, audit), impatient)
    writer = DecisionWriter(
        config, directory, store, stored_tenants, redis, prices.book, predictors.loaded, readers=[keeper]
    )
    ring = KeyRing(config, directory, stored_keys, stored_tenants)
    projector = TenantProjector(database, stored_keys, ring, impatient)
    tenants = LiveTenants(config, stored_tenants, stored_keys, projector, policies, directory, predictors)
    entries = LedgerStore(database)
    parts = Parts(
        redis=impatient,
        answers=AnswerStore(
            AsyncRedis.from_url(
                settings.redis_url, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT
            )
        ),
        access=Access(ring),
        audit=audit,
        tenants=tenants,
        keys=LiveKeys(config, directory, stored_keys, tenants, projector),
        pools=pools,
        policies=policies,
        predictors=predictors,
        keeper=keeper,
        decisions=store,
        prices=prices,
        usage=UsageStore(database),
        counters=counters,
        entries=entries,
        bookings=Bookings(config, directory, entries, stored_tenants, prices.book, audit),
    )
    app = build_app(config, metrics_dir, parts, version=version)
    logging.getLogger("uvicorn.error").addFilter(without_messages)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5))
    with contextlib.ExitStack() as running:
        running.callback(database.close)
        running.callback(redis.close)
        running.callback(impatient.close)
        running.callback(metrics.close)
        if settings.page is not None:
            page = MetricsServer(*settings.page, metrics_dir)
            page.start()
            running.callback(page.stop)
        for worker in (
            pools,
            policies,
            projector,
            prices,
            predictors,
            writer,
            Heartbeat(ADMIN, LiveState(impatient), database),
        ):
            worker.start()
            running.callback(worker.stop)
        server.run(sockets=[_private_socket(settings.state_dir / StateFile.ADMIN_SOCKET)])


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def without_messages(record: logging.LogRecord) -> bool:
    """Let a failure that is logged be told by its kind and its place alone: its text may quote what was kept."""
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        frames = "".join(traceback.format_tb(error.__traceback__))
        record.msg, record.args = "%s\n%s", (type(error).__name__, frames)
        record.exc_info = record.exc_text = None  # somebody else's filter may have written it out already
    return True


def _private_socket(path: Path) -> socket.socket:
    """A Unix socket bound to `path` with mode 0600; uvicorn itself would open it to everybody."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    finally:
        os.umask(mask)
    return bound
