"""Account for the request: tokens, dollars, outcome and times.

Last of the steps, and run for every request however it ended; the end of the answer leaves only afterwards, so
that whoever has read an answer finds it in the counters.
"""

from __future__ import annotations

from time import perf_counter

from pointsman.contracts.pricing import cost_of
from pointsman.router.exchange import Exchange
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.snapshot import Snapshot

CLIENT_CLOSED = 499
"""The status that stands for a client that went away, as nginx writes it."""


class Settle:
    """Fills `cost`."""

    name = "settle"

    def __init__(self, snapshot: Snapshot, metrics: Metrics) -> None:
        self._snapshot = snapshot
        self._metrics = metrics

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
            if exchange.output_length is not None and exchange.error is None and not usage.estimated:
                exchange.output_length.learn(usage.completion_tokens)
        started = exchange.started_at
        if exchange.stream_started:
            account.latencies.first_byte.observe(exchange.first_byte_at - started)
        error = exchange.error
        status = CLIENT_CLOSED if exchange.abandoned else error.status if error is not None else 200
        account.ended(status)
        account.latencies.duration.observe(perf_counter() - started)
        self._metrics.in_flight.add(-1)
        return Outcome.NEXT
