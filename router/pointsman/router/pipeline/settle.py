"""Account for the request: tokens, dollars, outcome and times.

A request may have been worked on in several parts: each is billed at the prices of the pool that did it, and the
client is told their sum.

Last of the steps, and run for every request however it ended; the end of the answer leaves only afterwards, so
that whoever has read an answer finds it in the counters.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import Cost, cost_of
from pointsman.router.exchange import Exchange
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.snapshot import Snapshot

CLIENT_CLOSED = 499
"""The status that stands for a client that went away, as nginx writes it."""


class Settle:
    """Fills `cost`. `note` is told of each decided request, its status, and the seconds it took."""

    name = "settle"

    def __init__(self, snapshot: Snapshot, metrics: Metrics, note: Callable[[Exchange, int, float], None]) -> None:
        self._snapshot = snapshot
        self._metrics = metrics
        self._note = note

    def __call__(self, exchange: Exchange) -> Outcome:
        tenant, model, decision = exchange.tenant, exchange.model, exchange.decision
        pool, usage = exchange.pool, exchange.usage
        account = self._metrics.account(
            "" if tenant is None else tenant.name,
            "" if model is None else model.name,
            "" if decision is None else decision.mode,
            "" if pool is None else pool.name,
        )
        if pool is not None and usage is not None:
            exchange.cost = cost_of(usage, self._snapshot.prices[pool.name])
            account.spent(usage, exchange.cost)
            if tenant is not None and tenant.thinking is not None:
                tenant.thinking.unsent += usage.reasoning
            if (
                exchange.output_length is not None
                and exchange.error is None
                and not usage.estimated
                and not exchange.legs
            ):
                exchange.output_length.learn(usage.completion_tokens)
        if exchange.course is not None:
            self._settle_course(exchange)
        started = exchange.started_at
        if exchange.stream_started:
            account.latencies.first_byte.observe(exchange.first_byte_at - started)
        error = exchange.error
        status = CLIENT_CLOSED if exchange.abandoned else error.status if error is not None else 200
        account.ended(status)
        duration = perf_counter() - started
        account.latencies.duration.observe(duration)
        self._metrics.in_flight.add(-1)
        if decision is not None:
            self._note(exchange, status, duration)
        return Outcome.NEXT

    def _settle_course(self, exchange: Exchange) -> None:
        """What only some requests have: parts that came before the last one, and what happened on the way."""
        metrics = self._metrics
        assert exchange.tenant is not None
        assert exchange.model is not None
        tenant, model = exchange.tenant.name, exchange.model.name
        for leg in exchange.legs:
            cost = cost_of(leg.usage, self._snapshot.prices[leg.pool.name])
            metrics.account(tenant, model, leg.mode, leg.pool.name).spent(leg.usage, cost)
            if exchange.tenant.thinking is not None:
                exchange.tenant.thinking.unsent += leg.usage.reasoning
            so_far = exchange.cost or Cost()
            exchange.cost = Cost(*(one + other for one, other in zip(so_far, cost, strict=True)))
        labels = {"tenant": tenant, "model": model}
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
