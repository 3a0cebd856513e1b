"""The ledger as the pipeline sees it: a request is noted before an engine gets it, and settled before it ends.

Stands between the steps and the spool. Both calls are a few microseconds of writing to memory that outlives the
process; Redis and the database are the business of a task that runs beside (`shipping.py`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from pathlib import Path
from time import perf_counter, time

from redis.asyncio import Redis

from pointsman.contracts.errors import LedgerFull
from pointsman.contracts.ledger import Outcome
from pointsman.contracts.names import Metric
from pointsman.router.exchange import Exchange
from pointsman.router.ledger import records
from pointsman.router.ledger.adoption import Adoption
from pointsman.router.ledger.shipping import Shipping
from pointsman.router.ledger.spool import INTENT, SETTLEMENT, Folder, Segment, Spool, SpoolFull
from pointsman.router.metrics import Metrics

log = logging.getLogger(__name__)

INTERVAL = 0.2
"""Seconds between two rounds."""

SPARES = 2
"""Segments that lie ready: one lasts for some 1,700 requests."""

LOOK_FOR_DEAD = 3.0
"""Seconds between two looks for spools whose routers have died."""

BEHIND = 10.0
"""Seconds after which the database should have an entry."""

_ANSWERED, _ABORTED, _FAILED = Outcome.ANSWERED.value, Outcome.ABORTED.value, Outcome.FAILED.value

LAST_WORDS = 2.0
"""Seconds that the last entries get to reach the database when the process ends; a successor brings the rest."""


class Ledger:
    """
    What the requests of this process used and cost, on its way to the database.

    `run` names this process for ever: 16 hexadecimal digits. `most`: bytes that its spool may have on the disk.
    Owned by one event loop. Raises OSError where the spool can't be made.
    """

    def __init__(self, parent: Path, redis: Redis, metrics: Metrics, *, most: int) -> None:
        self.run = secrets.token_hex(8)
        self._spool = Spool(Folder.fresh(parent, self.run), most=most, spares=SPARES)
        self._shipping = Shipping(redis, self._spool)
        self._fresh = self._shipping.fresh
        self._adoption = Adoption(parent, redis, own=self.run)
        self._append = self._spool.append
        self._open: dict[str, tuple[Segment, bytes]] = {}
        self._free = 0
        self._since = time() - perf_counter()
        self._full = self._behind = False
        self._settled_before = deque([0], maxlen=round(BEHIND / INTERVAL))
        metrics.cell("gauge_livesum", Metric.LEDGER_SPOOL_LIMIT, Metric.LEDGER_SPOOL_LIMIT, {}).set(most)
        self._size = metrics.cell("gauge_livesum", Metric.LEDGER_SPOOL, Metric.LEDGER_SPOOL, {})
        self._waiting = metrics.cell("gauge_livesum", Metric.LEDGER_UNWRITTEN, Metric.LEDGER_UNWRITTEN, {})
        self._refused = metrics.counter(Metric.LEDGER_REFUSED, {})

    @property
    def waiting(self) -> int:
        """Entries of this process that the database does not have yet."""
        return self._spool.number - self._shipping.committed

    def trouble(self) -> str | None:
        """What is wrong with the ledger, in a few words; None while all is well."""
        if self._full:
            return "the spool is full: requests are refused"
        if self._behind:
            return f"{self.waiting} entries wait for the database"
        return None

    def at(self, exchange: Exchange) -> int:
        """
        When `exchange` came, in milliseconds since 1970: whose price holds, and in which period its money counts.

        The same however often it is asked, whatever becomes of the clock.
        """
        at = exchange.at
        if not at:
            at = exchange.at = int((exchange.started_at + self._since) * 1000)
        return at

    def now(self) -> int:
        """The time by the same clock, in milliseconds since 1970."""
        return int((perf_counter() + self._since) * 1000)

    def intend(self, exchange: Exchange) -> None:
        """
        Note that `exchange`, which is decided and admitted, will be worked on. Harmless once it is noted.

        Raises `LedgerFull` where the spool has no room for what it will cost.
        """
        if exchange.intended:
            return
        if self._free <= 0:
            self._find_room()
        self._free -= 1
        tenant, model, decision, admission = exchange.tenant, exchange.model, exchange.decision, exchange.admission
        assert tenant is not None
        assert model is not None
        assert decision is not None
        rid = exchange.rid
        record = records.intent(
            rid,
            exchange.at or self.at(exchange),
            tenant.name,
            exchange.key[:4].hex(),
            exchange.request_id,
            model.name,
            decision.mode._value_,
            exchange.stream,
            0 if admission is None else admission.reserved,
        )
        segment = self._append(INTENT, record)
        segment.open += 1
        self._open[rid] = (segment, record)
        exchange.intended = True

    def settle(self, exchange: Exchange, status: int) -> None:
        """
        Write down what `exchange` was: once, and before the end of its answer leaves.

        Nothing is written for a request that was refused before any work was meant to be done for it.
        """
        if not exchange.intended:
            return
        decision, cache = exchange.decision, exchange.cache
        assert decision is not None
        segment, intended = self._open.pop(exchange.rid)
        segment.open -= 1
        outcome = _FAILED if exchange.error is not None else _ABORTED if exchange.abandoned else _ANSWERED
        record = records.settlement(
            intended,
            int((perf_counter() + self._since) * 1000),
            decision.mode._value_,
            status,
            outcome,
            "" if cache is None else cache._value_,
            exchange.parts,
        )
        self._append(SETTLEMENT, record)
        self._fresh.append(record)

    async def follow(self) -> None:
        """Bring entries to Redis, and those of routers that died, until cancelled."""
        task = asyncio.current_task()
        look_at = 0.0
        while True:
            now = perf_counter()
            self._since = time() - now
            await self._shipping.round()
            if self._spool.untidy or self._spool.prepared < SPARES:
                await asyncio.to_thread(self._tidy)
            if now >= look_at:
                look_at = now + LOOK_FOR_DEAD
                await asyncio.to_thread(self._adoption.look)
            await self._adoption.round()
            self._size.set(self._spool.size + self._adoption.size)
            self._waiting.set(self.waiting + self._adoption.waiting)
            self._behind = self._settled_before[0] > self._shipping.committed
            self._settled_before.append(self._spool.number)
            if task is not None and task.cancelling():
                raise asyncio.CancelledError  # which redis-py swallows at most of its waits
            await asyncio.sleep(INTERVAL)

    async def close(self) -> None:
        """Bring the last entries to the database if that can be done soon; what can't is a successor's to do."""
        self._adoption.close()
        shipping = self._shipping
        shipping.ends = not self._open
        try:
            async with asyncio.timeout(LAST_WORDS):
                while not shipping.finished and (shipping.ends or self.waiting):
                    await shipping.round()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            log.warning("%d entries of the ledger wait in the spool for a successor", self.waiting)
        self._spool.close()
        if shipping.finished:
            self._spool.folder.delete()
        else:
            self._spool.folder.release()

    def _find_room(self) -> None:
        """Let some more requests in: each may write two records, as must those that are running."""
        spool = self._spool
        while True:
            # What is left at a segment's end, too short for a record, is at most one record's length.
            pieces = spool.prepared + 2
            room = spool.room - (len(self._open) + pieces) * records.MOST_BYTES
            self._free = room // (2 * records.MOST_BYTES)
            if self._free > 0:
                if self._full:
                    log.warning("the ledger's spool has room again")
                self._full = False
                return
            try:
                spool.prepare()
            except SpoolFull:
                self._refused.add(1)
                if not self._full:
                    log.error("the ledger's spool is full (%d bytes): requests are refused", spool.size)
                self._full = True
                raise LedgerFull(
                    "Usage can't be accounted for now; no request is taken until it can.", retry_after=5
                ) from None

    def _tidy(self) -> None:
        """What takes the disk some time: in a thread, so that no stream waits for it."""
        self._spool.sweep()
        try:
            while self._spool.prepared < SPARES:
                self._spool.prepare()
        except SpoolFull:
            return  # what that means is told where room is needed
