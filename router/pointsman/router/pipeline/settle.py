"""Account for the request: tokens, dollars, outcome and times.

A request may have been worked on in several parts: each is billed at the prices that held for the pool that did it
when the request came, and the client is told their sum. What was given again instead of being made, from the
response cache say, comes with its parts.

Last of the steps, and run for every request however it ended; the end of the answer leaves only afterwards, so
that whoever has read an answer finds it in the ledger's spool and in the counters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from pointsman.contracts.config import Pool
from pointsman.contracts.ledger import Part
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import Cost, cost_of
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.metrics import Account, Metrics
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.snapshot import Snapshot

log = logging.getLogger(__name__)

_COUNT_TOKENS = Endpoint.COUNT_TOKENS  # of which nobody learns, and nothing is answered in any mode

CLIENT_CLOSED = 499
"""The status that stands for a client that went away, as nginx writes it."""

_OK = 200
_NO_THINK, _CLIENT = Mode.NO_THINK, Source.CLIENT  # slow to look up by way of their classes


class Books(Protocol):
    """Where a request's entry is written; the ledger implements it."""

    def at(self, exchange: Exchange) -> int:
        """When `exchange` came, in milliseconds since 1970."""

    def settle(self, exchange: Exchange, status: int) -> None:
        """Write down what `exchange` was, with its `parts` and its `cost`."""


class Settle:
    """
    Fills `parts` and `cost`. `note` is told of each decided request, its status, and the seconds it took; `spared`
    of each that one engine answered without thinking, and that its client had not asked to go without.
    """

    name = "settle"

    def __init__(
        self,
        snapshot: Snapshot,
        metrics: Metrics,
        note: Callable[[Exchange, int, float], None],
        books: Books,
        spared: Callable[[Exchange], None],
    ) -> None:
        self._snapshot = snapshot
        self._metrics = metrics
        self._note = note
        self._books = books
        self._spared = spared
        self._excessive: set[str] = set()

    def __call__(self, exchange: Exchange) -> Outcome:
        tenant, model, decision = exchange.tenant, exchange.model, exchange.decision
        pool, error = exchange.pool, exchange.error
        account = self._metrics.account(
            "" if tenant is None else tenant.name,
            "" if model is None else model.name,
            "" if decision is None else decision.mode,
            "" if pool is None else pool.name,
        )
        status = CLIENT_CLOSED if exchange.abandoned else error.status if error is not None else _OK
        recalled = exchange.recalled
        if recalled is not None:
            self._bill_recalled(exchange, recalled.parts)
        elif exchange.legs:
            self._bill_parts(exchange, account)
        else:
            self._bill(exchange, account)
        self._books.settle(exchange, status)
        admission = exchange.admission
        if admission is not None:
            nano = 0 if exchange.cost is None else exchange.cost.total
            admission.settle(exchange.told_usage if recalled is None else None, nano)
            if nano > admission.reserved:
                self._tell_of_excess(pool)
        if exchange.course is not None:
            self._count_course(exchange)
        started, latencies, now = exchange.started_at, account.latencies, perf_counter()
        if exchange.stream_started:
            begun, usage = exchange.first_byte_at, exchange.usage
            latencies.first_byte.observe(begun - started)
            if usage is not None and status == _OK and usage.completion_tokens > 1:
                latencies.inter_token.observe((now - begun) / (usage.completion_tokens - 1))
        account.ended(status)
        duration = now - started
        latencies.duration.observe(duration)
        self._metrics.in_flight.add(-1)
        if decision is not None and exchange.endpoint is not _COUNT_TOKENS:
            self._note(exchange, status, duration)
        return Outcome.NEXT

    def _bill(self, exchange: Exchange, account: Account) -> None:
        """The work of one pool, or none at all."""
        pool, usage = exchange.pool, exchange.usage
        if pool is None or usage is None:
            return
        prices, version = self._snapshot.prices.at(pool.name, self._books.at(exchange))
        exchange.cost = cost = cost_of(usage, prices)
        decision, tenant = exchange.decision, exchange.tenant
        exchange.parts = (Part(pool.name, "" if decision is None else decision.mode, usage, cost, version),)
        account.spent(usage, cost)
        if tenant is not None and tenant.thinking is not None:
            tenant.thinking.unsent += usage.reasoning
        if exchange.output_length is not None and exchange.error is None and not usage.estimated:
            exchange.output_length.learn(usage.completion_tokens)
            if decision is not None and decision.mode is _NO_THINK and decision.source is not _CLIENT:
                self._spared(exchange)

    def _bill_parts(self, exchange: Exchange, account: Account) -> None:
        """Work that was done in several parts, the last of them beside those that came before."""
        assert exchange.tenant is not None
        assert exchange.model is not None
        tenant, model = exchange.tenant.name, exchange.model.name
        at = self._books.at(exchange)
        thinking = exchange.tenant.thinking
        parts = []
        work = [(leg.pool, leg.mode, leg.usage) for leg in exchange.legs]
        if exchange.pool is not None and exchange.usage is not None:
            work.append((exchange.pool, exchange.mode, exchange.usage))
        for pool, mode, usage in work:
            prices, version = self._snapshot.prices.at(pool.name, at)
            cost = cost_of(usage, prices)
            parts.append(Part(pool.name, mode, usage, cost, version))
            self._metrics.account(tenant, model, mode, pool.name).spent(usage, cost)
            if thinking is not None:
                thinking.unsent += usage.reasoning
        exchange.parts = tuple(parts)
        exchange.cost = _sum(exchange.parts)

    def _bill_recalled(self, exchange: Exchange, parts: tuple[Part, ...]) -> None:
        """What was made before, and is told once more: no tokens are used, its share of the cost is billed."""
        exchange.parts = parts
        exchange.cost = _sum(parts)
        if exchange.tenant is None or exchange.model is None:
            return
        tenant, model = exchange.tenant.name, exchange.model.name
        for pool, mode, _, cost, _ in parts:
            self._metrics.account(tenant, model, mode, pool).billed(cost)

    def _tell_of_excess(self, pool: Pool | None) -> None:
        """A request was billed more than its budget had set aside for it, which may exceed a hard mark."""
        name = "" if pool is None else pool.name
        if name not in self._excessive:
            self._excessive.add(name)
            log.warning("pool %s: a request cost more than it could by its max_tokens and its prices", name)
        self._metrics.counter(Metric.BEYOND_RESERVED, {"pool": name}).add(1)

    def _count_course(self, exchange: Exchange) -> None:
        """What happened on the way to an answer that was not the ordinary one."""
        metrics = self._metrics
        assert exchange.tenant is not None
        assert exchange.model is not None
        labels = {"tenant": exchange.tenant.name, "model": exchange.model.name}
        if exchange.escalated is not None:
            metrics.counter(Metric.ESCALATIONS, {**labels, "reason": exchange.escalated.value}).add(1)
        if exchange.floored:
            metrics.counter(Metric.ANSWER_FLOORS, labels).add(1)
        if exchange.stopped:
            metrics.counter(Metric.STOPPED, {**labels, "reason": exchange.stopped}).add(1)
        if exchange.judgement is not None:
            decided = exchange.mode if exchange.escalated is None else Mode.NO_THINK
            agrees = "agree" if exchange.judgement is decided else "disagree"
            metrics.counter(Metric.JUDGEMENTS, {**labels, "verdict": agrees}).add(1)


def _sum(parts: tuple[Part, ...]) -> Cost:
    return Cost(*(sum(amounts) for amounts in zip(*(part.cost for part in parts), strict=True)))
