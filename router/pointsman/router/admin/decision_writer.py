"""From the stream into the database: the thread of the admin process that writes decisions, and deletes old ones.

Stands between what the routers leave in Redis (`decision_log.py`) and `store/decisions.py`. A batch leaves the
stream only after SQL has committed it, and writing one twice changes nothing, so that an admin process may be
killed at any point. Redis or the database being away is waited out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Event, Thread
from typing import Any, Protocol

import orjson
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from pointsman.contracts.config import Config, DecisionLog
from pointsman.contracts.decisions import DecisionRecord
from pointsman.contracts.errors import DatabaseUnavailable
from pointsman.contracts.names import RedisKey
from pointsman.contracts.price_book import PriceBook
from pointsman.router.admin.decision_reading import PredictorOf, RecordReader
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.store.decisions import DecisionStore
from pointsman.store.tenants import TenantStore

log = logging.getLogger(__name__)

GROUP = "database"
CONSUMER = "admin"
"""One name for all admin processes: what one has read and not written, the next one finds among its own."""

BATCHES = 16
"""Batches that are read, and committed together, at most."""

WAIT = 0.5
"""Seconds that a read waits for the first batch, and a pause lasts after a failure."""

PENDING = 30.0
"""Seconds between two looks for batches that were read and never written."""

HOUR = 3600.0

FIELD = b"batch"
"""The field of a stream's entry that holds a JSON list of records."""

Entries = Sequence[tuple[bytes, Mapping[bytes, bytes] | None]]


class Reader(Protocol):
    """Who else wants to see each record once it is kept. Neither call may raise."""

    def seen(self, records: Iterable[DecisionRecord]) -> None:
        """These have been kept."""

    def tick(self, now: float) -> None:
        """About a second has passed; `now` in seconds since 1970."""


class DecisionWriter:
    """Writes decisions in a thread of its own between `start` and `stop`."""

    def __init__(
        self,
        config: Config,
        pools: PoolDirectory,
        store: DecisionStore,
        tenants: TenantStore,
        redis: Redis,
        prices: PriceBook,
        predictor_of: PredictorOf,
        *,
        readers: Sequence[Reader] = (),
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._redis = redis
        self._readers = tuple(readers)
        self._days = {tenant.name: tenant.decisions.days for tenant in config.tenants}
        self._reader = RecordReader(pools, prices, predictor_of)
        self._grouped = False
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="decision-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch that is being written, and end."""
        self._stopping.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        pending_at = expire_at = 0.0
        waiting = False
        while not self._stopping.is_set():
            now = time.monotonic()
            try:
                if now >= expire_at:
                    days = {**self._tenants.decision_days(), **self._days}
                    self._store.expire(days, otherwise=DecisionLog().days, now=time.time())
                    expire_at = now + HOUR
                if now >= pending_at:
                    while self._step("0"):
                        pass
                    pending_at = now + PENDING
                self._step(">")
                waiting = False
            except (RedisError, DatabaseUnavailable) as error:
                if isinstance(error, ResponseError) and str(error).startswith("NOGROUP"):
                    self._grouped = False  # Redis was emptied
                    continue
                if not waiting:
                    log.warning("decisions wait to be written: %s", type(error).__name__)
                waiting = True
                pending_at = 0.0
                self._stopping.wait(2 * WAIT)
            except Exception as error:  # a thread that ends would do so unseen; the text may quote a record
                log.error("writing decisions failed: %s", type(error).__name__)
                pending_at = 0.0
                self._stopping.wait(2 * WAIT)
            for reader in self._readers:
                reader.tick(time.time())

    def _step(self, start: str) -> int:
        """Write some batches: new ones (`>`) or those read before (`0`). Returns how many."""
        if not self._grouped:
            self._make_group()
        wait = int(WAIT * 1000) if start == ">" else None
        found: Any = self._redis.xreadgroup(GROUP, CONSUMER, {RedisKey.DECISIONS: start}, BATCHES, wait)
        entries = _entries(found)
        if not entries:
            return 0
        records = [record for _, fields in entries for record in self._records(fields)]
        self._store.add([record for record in records if record.kept])
        for reader in self._readers:
            reader.seen(records)
        identities = [identity for identity, _ in entries]
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xack(RedisKey.DECISIONS, GROUP, *identities)
            pipeline.xdel(RedisKey.DECISIONS, *identities)
            pipeline.execute()
        return len(entries)

    def _make_group(self) -> None:
        try:
            self._redis.xgroup_create(RedisKey.DECISIONS, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._grouped = True

    def _records(self, fields: Mapping[bytes, bytes] | None) -> Iterator[DecisionRecord]:
        """The records of one entry; those that make no sense, of another version say, are left out and logged."""
        batch = None if fields is None else fields.get(FIELD)  # None: the stream was cut before it was written
        try:
            listed = orjson.loads(batch or b"[]")
        except orjson.JSONDecodeError:
            log.error("a batch of decisions is no JSON")
            return
        for plain in listed:
            try:
                yield self._reader.read(plain)
            except Exception as error:  # whatever it is: all that comes after it would wait for this one
                log.error("a decision can't be read: %s", type(error).__name__)


def _entries(found: Any) -> Entries:
    """The entries of the one stream that was asked for."""
    return found[0][1] if found else ()
