"""What was decided, on its way out of the data plane: noted in the request's own time, written down in spare time.

Stands behind `settle`, which notes each request that was decided, and before the stream in Redis from which the
admin process fills the database. A note is one append; the record, its evidence and its JSON are made by a task of
the worker a fraction of a second later, a few at a time, so that no stream waits for them. With Redis away batches
are kept up to a bound, then dropped and counted: a log must not be what stops the traffic.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from itertools import islice
from time import perf_counter, time
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from pointsman.contracts.decisions import ID_PREFIX
from pointsman.contracts.names import Metric, RedisKey
from pointsman.router.exchange import Exchange
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline.place import Place
from pointsman.router.predictor import features
from pointsman.router.predictor.excerpt import shortened

log = logging.getLogger(__name__)

INTERVAL = 0.2
"""Seconds between two rounds."""

BATCH = 8
"""Requests that are written down in one go: about a tenth of a millisecond, which no stream notices."""

LARGEST = 256 * 1024
"""Bytes of one batch, about."""

BURST = 10.0
"""Seconds over which the records that are kept may be spread unevenly."""

MOST_NOTES = 10_000
"""Requests that may wait to be written down; of further ones there will be no record."""

MOST_WAITING = 16 * 1024 * 1024
"""Bytes that may wait for Redis to come back."""

MOST_IN_REDIS = 64 * 1024 * 1024
"""Bytes, about, that the stream may hold while nobody empties it; the oldest batches go first."""

EVIDENCE = 8
"""Pieces of evidence that a record names, apart from the sum of all others."""

MOST_SALTS = 10_000
"""Tenants whose salts are remembered; with more, all are worked out anew."""

LAST_FLUSH = 2.0
"""Seconds that the last batches get to reach Redis when the process ends."""

Note = tuple[Exchange, int, float]
"""A request, the status it ended with, and how many seconds it took."""


class DecisionLog:
    """Notes requests and brings their records to Redis. Owned by one event loop."""

    def __init__(self, redis: Redis, metrics: Metrics, place: Place, *, secret: str, rate: int) -> None:
        self._redis = redis
        self._place = place
        self._secret = secret.encode()
        self._rate = rate
        self._left = self._most = rate * BURST
        self._renewed = self._counted_from = perf_counter()
        self._kept: dict[str, int] = {}  # by tenant, in the last seconds, `BURST` of them at most
        self._salts: dict[str, bytes] = {}
        self._notes: list[Note] = []
        self._waiting: deque[bytes] = deque()
        self._bytes_waiting = 0
        self._mean_bytes = 0.0
        self._away = False
        self._unkept = metrics.counter(Metric.UNKEPT_DECISIONS, {})

    def note(self, exchange: Exchange, status: int, duration: float) -> None:
        """
        `exchange`, which was decided, has ended with `status` after `duration` seconds.

        Its body and payload are let go: they may be large, and nobody needs them any more. While a tenant has a new
        policy on trial all are noted, since its outcome hangs on them; else those of tenants that keep decisions,
        as many as the rate allows, whatever they are: a choice would be a skewed sample. Where one tenant uses that
        up, those that had less than their share are noted all the same, and it waits until that is made up for.
        """
        tenant, arm = exchange.tenant, exchange.arm
        assert tenant is not None
        if arm is None or arm.stage is None:
            if not tenant.decisions.keep:
                return
            name, kept = tenant.name, self._kept
            had = kept.get(name, 0)
            if self._left < 1.0 and not (self._left > -self._most and had * (len(kept) + 1) < self._most):
                self._unkept.add(1)
                return
            self._left -= 1.0
            kept[name] = had + 1
        exchange.body = b""
        exchange.payload = {}
        if len(self._notes) < MOST_NOTES:
            self._notes.append((exchange, status, duration))
        else:
            self._unkept.add(1)

    async def run(self) -> None:
        """Bring records to Redis until cancelled."""
        task = asyncio.current_task()
        while True:
            await asyncio.sleep(INTERVAL)
            await self._round()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError  # which redis-py swallows at most of its waits

    async def flush(self) -> None:
        """Bring all there is to Redis, as far as that can be done in `LAST_FLUSH` seconds."""
        try:
            async with asyncio.timeout(LAST_FLUSH):
                await self._round()
        except TimeoutError:
            log.warning("the last decisions did not reach Redis in time")

    async def _round(self) -> None:
        now = perf_counter()
        self._left = min(self._left + (now - self._renewed) * self._rate, self._most)
        self._renewed = now
        if now - self._counted_from >= BURST:
            self._kept.clear()
            self._counted_from = now
        while self._notes:
            notes, self._notes = self._notes[:BATCH], self._notes[BATCH:]
            self._write_down(notes)
            await asyncio.sleep(0)  # whoever streams comes first
        while self._waiting:
            batch, parts = self._joined()
            self._mean_bytes += (len(batch) - self._mean_bytes) * (0.1 if self._mean_bytes else 1.0)
            longest = max(16, int(MOST_IN_REDIS / self._mean_bytes))
            try:
                await self._redis.xadd(RedisKey.DECISIONS, {"batch": batch}, maxlen=longest, approximate=True)
            except RedisError as error:
                if not self._away:
                    log.warning("decisions wait for Redis: %s", type(error).__name__)
                self._away = True
                return
            self._away = False
            for _ in range(parts):
                self._bytes_waiting -= len(self._waiting.popleft())

    def _joined(self) -> tuple[bytes, int]:
        """One batch of what waits, and how many parts that is: to ask Redis costs more than to write JSON."""
        size = parts = 0
        for part in self._waiting:
            if parts and size + len(part) > LARGEST:
                break
            size += len(part)
            parts += 1
        return b"[%b]" % b",".join(islice(self._waiting, parts)), parts

    def _write_down(self, notes: list[Note]) -> None:
        if self._bytes_waiting > MOST_WAITING:
            self._unkept.add(len(notes))
            return
        since_start = time() - perf_counter()
        try:
            part = orjson.dumps([self._record(*note, since_start) for note in notes])[1:-1]
        except Exception as error:  # of whatever kind: the traffic goes on, and so do the other records
            if len(notes) > 1:
                for note in notes:
                    self._write_down([note])
                return
            self._unkept.add(1)
            log.error(
                "a decision can't be written down: %s", type(error).__name__
            )  # its text may quote the request
            return
        self._waiting.append(part)
        self._bytes_waiting += len(part)

    def _record(self, exchange: Exchange, status: int, duration: float, since_start: float) -> dict[str, Any]:
        """The record in the compact form that `admin/decision_reading.py` reads."""
        tenant, model, arm, pool = exchange.tenant, exchange.model, exchange.arm, exchange.pool
        decision, predictor = exchange.decision, exchange.predictor
        assert tenant is not None
        assert model is not None
        assert decision is not None
        assert predictor is not None
        record: dict[str, Any] = {
            "id": ID_PREFIX + exchange.rid,
            "request_id": exchange.request_id,
            "at": exchange.started_at + since_start,
            "tenant": tenant.name,
            "key": exchange.key[:4].hex(),
            "model": model.name,
            "endpoint": exchange.endpoint,
            "mode": decision.mode,
            "source": decision.source,
            "detail": decision.detail,
            "probability": decision.probability,
            "threshold": decision.threshold,
            "predictor": predictor.version,
            "pool": None if pool is None else pool.name,
            "status": status,
            "duration": duration,
            "review": tenant.decisions.review,
        }
        if not exchange.policy.show_cost:
            record["cost_shown"] = False
        if not tenant.decisions.keep:
            record["kept"] = False
        if decision.rule:
            record["rule"] = decision.rule
        if decision.overruled:
            record["overruled"] = True
        if arm is not None:
            record["policy_version"] = arm.version
            if arm.stage is not None:
                record["arm"] = arm.name
                record["stage"] = arm.stage
                record["shadow"] = decision.shadow
        if exchange.signals:
            record["wishes"] = [{"field": field, "mode": mode} for field, mode in exchange.signals]
        if exchange.error is not None:
            record["error"] = exchange.error.code
        if exchange.stream_started:
            record["first_byte"] = exchange.first_byte_at - exchange.started_at
        if exchange.escalated is not None:
            record["escalated"] = exchange.escalated
        if exchange.floored:
            record["floored"] = True
        if exchange.stopped:
            record["stopped"] = exchange.stopped
        if exchange.judgement is not None:
            record["judgement"] = exchange.judgement
        if exchange.clamped:
            record["clamped"] = exchange.clamped
        usage = exchange.told_usage
        if usage is not None:
            record["usage"] = [*usage[:5]]
            record["cost"] = None if exchange.cost is None else exchange.cost.total
            route = self._place.route(tenant, model)
            think, no_think = route.think, route.no_think
            record["lengths"] = [
                0 if think is None or not think.output_length.seen else think.output_length.tokens,
                0 if no_think is None or not no_think.output_length.seen else no_think.output_length.tokens,
            ]
        question = exchange.question
        if question and tenant.decisions.keep:
            record["question"] = self._question(question, tenant.name, keep=tenant.decisions.prompts)
            record["evidence"] = predictor.ranked(question, EVIDENCE)
            record["features"] = features.VERSION
        return record

    def _question(self, question: str, tenant: str, *, keep: bool) -> dict[str, Any]:
        salt = self._salts.get(tenant)
        if salt is None:
            if len(self._salts) >= MOST_SALTS:
                self._salts.clear()
            salt = self._salts[tenant] = hashlib.sha256(self._secret + b"\0" + tenant.encode()).digest()
        ends = shortened(question)  # what a question of megabytes is told by, like all that reads it here
        content = f"{len(question)}\0{ends}".encode(errors="replace")
        known: dict[str, Any] = {
            "characters": len(question),
            "sha256": hashlib.sha256(salt + content).hexdigest(),
        }
        if keep:
            known["text"] = ends
        return known
