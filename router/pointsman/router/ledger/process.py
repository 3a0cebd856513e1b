"""`pointsman ledger-writer`: the process that brings the ledger to the database."""

from __future__ import annotations

import contextlib
import logging
import signal
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pointsman.contracts.config import Config
from pointsman.contracts.names import StateFile
from pointsman.router.background import stand_back
from pointsman.router.heartbeat import Heartbeat
from pointsman.router.ledger.budgets import BudgetReconciliation
from pointsman.router.ledger.gauges import LedgerGauges
from pointsman.router.ledger.writing import LedgerWriting
from pointsman.router.metrics import Metrics
from pointsman.router.metrics_page import MetricsServer
from pointsman.store.database import Database, database_url
from pointsman.store.leases import BudgetKeeper
from pointsman.store.ledger import LedgerStore
from pointsman.store.live import LEDGER_WRITER, LiveState

log = logging.getLogger(__name__)

REDIS_TIMEOUT = 2.0
"""Seconds that Redis has for an answer."""


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What the ledger writer talks to, and the folder with the counters.

    `page`: host and port at which a cluster reads metrics and health, None for none.
    """

    redis_url: str
    state_dir: Path
    page: tuple[str, int] | None = None


def run(config: Config, settings: Settings) -> None:
    """Write until SIGTERM or SIGINT. Raises `DatabaseError` where the configured database can't be used."""
    stand_back()
    database = Database(database_url(config.database, settings.state_dir))
    redis = Redis.from_url(settings.redis_url, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT)
    metrics = Metrics(settings.state_dir / StateFile.METRICS)
    store = LedgerStore(database)
    followers = (LedgerGauges(store, redis, metrics), BudgetReconciliation(store, BudgetKeeper(redis)))
    writing = LedgerWriting(store, redis, followers)

    def stop(number: int, frame: FrameType | None) -> None:
        writing.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    impatient = Redis.from_url(
        settings.redis_url,
        socket_timeout=REDIS_TIMEOUT,
        socket_connect_timeout=REDIS_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
    heartbeat = Heartbeat(LEDGER_WRITER, LiveState(impatient), database)
    with contextlib.ExitStack() as running:
        running.callback(database.close)
        running.callback(redis.close)
        running.callback(impatient.close)
        running.callback(metrics.close)
        if settings.page is not None:
            page = MetricsServer(*settings.page, settings.state_dir / StateFile.METRICS)
            page.start()
            running.callback(page.stop)
        heartbeat.start()
        running.callback(heartbeat.stop)
        log.info("writing the ledger")
        writing.run()
