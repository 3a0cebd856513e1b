"""Gives answers that were made before, and finds or makes those that were not.

Holds the parts of the cache together: the process's own memory, what is in Redis, and the flights under way. Knows
exchanges and the pipeline; what makes two requests equal is the business of `keys.py`, which of them may have a
cached answer at all that of the step `recall`.
"""

from __future__ import annotations

from time import perf_counter, time
from typing import TYPE_CHECKING

from pointsman.contracts.config import Pool
from pointsman.contracts.names import Metric
from pointsman.router.exchange import Answer, CacheStatus, Exchange
from pointsman.router.http.wire import header_lines
from pointsman.router.metrics import Cell, DollarCell, Metrics
from pointsman.router.pipeline import delivery
from pointsman.router.response_cache.billing import recalled
from pointsman.router.response_cache.flight import REUSED, Flight
from pointsman.router.response_cache.keys import idempotent_scope, scope_of
from pointsman.router.response_cache.memory import Memory
from pointsman.router.response_cache.recorded import Recorded, Seal
from pointsman.router.response_cache.shared import Shared
from pointsman.router.tenant_view import TenantView
from pointsman.store.response_cache import AnswerKey, AnswerStore

if TYPE_CHECKING:
    from pointsman.router.pipeline import Pipeline

IDEMPOTENT_FOR = 86_400
"""Seconds for which the answer to a request with an idempotency key is kept."""

_JSON = header_lines([("content-type", "application/json")])

SLICE = 256 * 1024
"""Bytes of a recorded stream that are written at once; more only when the client has taken them."""


class Answers:
    """
    The response cache of one router process. `pipeline` is set once the pipeline exists.

    `secret` is what the routers of an instance share; `most_bytes` of answers are held in the process, and as many
    of streams that are being recorded: `recording` are these now, `most_recording` they may be.
    """

    pipeline: Pipeline

    def __init__(
        self, store: AnswerStore, pools: dict[str, Pool], metrics: Metrics, *, secret: str, most_bytes: int
    ) -> None:
        self.seal = Seal(secret)
        size = metrics.cell("gauge_livesum", Metric.CACHE_BYTES, Metric.CACHE_BYTES, {})
        self.memory = Memory(most_bytes, size)
        self.shared = Shared(store, self.seal, metrics, changed=self.memory.clear)
        self._pools = pools
        self._metrics = metrics
        self._flights: dict[AnswerKey, Flight] = {}
        self._counters: dict[tuple[str, str, str], Cell] = {}
        self._saved: dict[tuple[str, str], DollarCell] = {}
        self.recording = 0
        self.most_recording = most_bytes

    # -- finding

    def recall(self, exchange: Exchange, key: AnswerKey, generation: int) -> None:
        """Answer `exchange` from the cache, or let it, or another one with the same `key`, make the answer."""
        made = self.memory.get(key)
        if made is not None and self.suits(exchange, made):
            self.give(exchange, made)
            return
        self._board(exchange, key, "", generation)

    def refresh(self, exchange: Exchange, key: AnswerKey, generation: int) -> None:
        """Let `exchange` make the answer anew, whoever else makes it; it goes on at once."""
        assert exchange.model is not None
        flight = Flight(self, key, model=exchange.model.name, generation=generation, fingerprint="")
        flight.lead(exchange, b"")

    def once(self, exchange: Exchange, key: AnswerKey, fingerprint: str, generation: int) -> None:
        """
        Give `exchange` the answer that was made under its idempotency key, or let it make it.

        It ends with `IdempotencyKeyReused` where `fingerprint` is not that of the request it was made for.
        """
        made = self.memory.get(key)
        if made is None:
            self._board(exchange, key, fingerprint, generation)
        elif made.fingerprint != fingerprint:
            self.pipeline.refuse(exchange, REUSED)
        else:
            self.give(exchange, made)

    def _board(self, exchange: Exchange, key: AnswerKey, fingerprint: str, generation: int) -> None:
        flight = self._flights.get(key)
        if flight is not None:
            if flight.fingerprint != fingerprint:
                self.pipeline.refuse(exchange, REUSED)
            else:
                flight.join(exchange)
            return
        if self.shared.slow and not fingerprint:
            self.alone(exchange, CacheStatus.BYPASS)
            return
        assert exchange.model is not None
        model = "" if fingerprint else exchange.model.name
        flight = self._flights[key] = Flight(self, key, model=model, generation=generation, fingerprint=fingerprint)
        if self.shared.away:  # an idempotency key is heeded as far as this process goes
            flight.lead(exchange, b"")
            self.pipeline.resume(exchange)
        else:
            flight.join(exchange)
            flight.look()

    def trouble(self) -> str | None:
        """What is missing, in a few words; None while all is well."""
        return "response cache: Redis is away" if self.shared.away else None

    def heed(self, tenant: TenantView) -> None:
        """Once `tenant` is gone, none of its answers is given to another one that gets its name."""
        if tenant.gone:
            self.shared.invalidate([scope_of(tenant.name, None), idempotent_scope(tenant.name)])

    # -- for flights

    def remove(self, flight: Flight) -> None:
        """Nobody can join `flight` any more."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def suits(self, exchange: Exchange, made: Recorded) -> bool:
        """Whether an answer as old as `made` may be given to `exchange`."""
        tenant = exchange.tenant
        assert tenant is not None
        return bool(made.fingerprint) or time() - made.made_at < tenant.cache.ttl_seconds

    def alone(self, exchange: Exchange, status: CacheStatus) -> None:
        """`exchange` makes its answer by itself, and nobody else gets it."""
        self.tell(exchange, status)
        self.pipeline.resume(exchange)

    def give(self, exchange: Exchange, made: Recorded, *, begun: bool = False) -> None:
        """Answer `exchange` with what was `made` before; `begun`: it has all of it but the end."""
        tenant, decision = exchange.tenant, exchange.decision
        assert tenant is not None
        assert decision is not None
        replayed = bool(made.fingerprint)
        share = 0.0 if replayed else tenant.cache.hit_price_share
        admission, allowance, most = exchange.admission, tenant.allowance, None
        if admission is not None and allowance is not None and allowance.priced:
            most = admission.reserved  # a budget would not bear more, should prices have fallen since
        exchange.recalled = recalled(made.parts, share, most, replayed=replayed)
        exchange.usage, exchange.pool = made.usage, self._pools.get(made.pool)
        exchange.decision = decision if decision.mode is made.mode else decision._replace(mode=made.mode)
        exchange.escalated, exchange.floored, exchange.stopped = made.escalated, made.floored, made.stopped
        exchange.judgement, exchange.allowance, exchange.clamped = made.judgement, made.allowance, made.clamped
        body, chunk = made.body, made.usage_chunk
        if not replayed:
            # The id of another request, which may be another tenant's, is nobody else's business.
            body = body.replace(made.rid.encode(), exchange.rid.encode())
            if chunk is not None and isinstance(chunk.get("id"), str):
                chunk = {**chunk, "id": chunk["id"].replace(made.rid, exchange.rid)}
        exchange.usage_chunk = chunk
        self._count_hit(exchange, replayed=replayed, saved=exchange.recalled.saved)
        if begun:
            self.pipeline.answered(exchange)
        elif made.stream:
            delivery.start_stream(exchange, body[:SLICE])
            _Replay(self.pipeline, exchange, body).resume()
        else:
            exchange.first_byte_at = perf_counter()
            exchange.answer = Answer(200, _JSON, body)
            self.pipeline.answered(exchange)

    def seconds_kept(self, tenant: TenantView, *, idempotent: bool) -> int:
        """How long an answer to `tenant` is kept."""
        return IDEMPOTENT_FOR if idempotent else tenant.cache.ttl_seconds

    # -- accounts

    def tell(self, exchange: Exchange, status: CacheStatus) -> None:
        """Note, and let the client know, what the cache had to do with `exchange`."""
        exchange.cache = status
        tenant, model = exchange.tenant, exchange.model
        assert tenant is not None
        assert model is not None
        key = (self._metrics.label_of(tenant.name), model.name, status.value)
        cell = self._counters.get(key)
        if cell is None:
            labels = {"tenant": key[0], "model": key[1], "status": key[2]}
            cell = self._counters[key] = self._metrics.counter(Metric.CACHE, labels)
        cell.add(1)

    def _count_hit(self, exchange: Exchange, *, replayed: bool, saved: int) -> None:
        tenant, model = exchange.tenant, exchange.model
        assert tenant is not None
        assert model is not None
        if replayed:
            exchange.cache = CacheStatus.HIT
            self._metrics.counter(Metric.REPLAYS, {"tenant": tenant.name}).add(1)
            return
        self.tell(exchange, CacheStatus.HIT)
        name = (self._metrics.label_of(tenant.name), model.name)
        dollars = self._saved.get(name)
        if dollars is None:
            labels = {"tenant": name[0], "model": name[1]}
            dollars = self._saved[name] = self._metrics.dollars(Metric.CACHE_SAVED, labels)
        dollars.add(saved)


class _Replay:
    """A recorded stream on its way to a client, as fast as that takes it: `exchange.Work`."""

    __slots__ = ("_at", "_body", "_exchange", "_pipeline", "_sending")

    def __init__(self, pipeline: Pipeline, exchange: Exchange, body: bytes) -> None:
        self._pipeline = pipeline
        self._exchange = exchange
        self._body = body
        self._at = SLICE
        self._sending = False
        exchange.work = self

    def abort(self) -> None:
        """The client has gone."""
        self._at = len(self._body)

    def pause(self) -> None:
        """Asked for before each slice."""

    def resume(self) -> None:
        """Write on, until all is written or the client reads too slowly."""
        if self._sending:
            return
        exchange, body = self._exchange, self._body
        self._sending = True
        while self._at < len(body) and not exchange.paused:
            at, self._at = self._at, self._at + SLICE
            exchange.client.send(body[at : at + SLICE])
        self._sending = False
        if self._at >= len(body) and exchange.work is self:
            exchange.work = None
            self._pipeline.answered(exchange)
