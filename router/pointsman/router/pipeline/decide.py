"""Throw the points: decide the mode of one request.

Stands after `parse`, which read the client's wishes, and before `place`, which needs the mode to choose a pool.
Pure: reads the exchange and the policy; touches no socket, store or clock.
"""

from __future__ import annotations

from pointsman.contracts.modes import Mode, Source, choose_mode
from pointsman.contracts.names import Metric
from pointsman.router.exchange import Exchange
from pointsman.router.metrics import Cell, Metrics
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.predictor import Predictor


class Decide:
    """Fills `decision`."""

    name = "decide"

    def __init__(self, predictor: Predictor, metrics: Metrics) -> None:
        self._predictor = predictor
        self._metrics = metrics
        self._cells: dict[tuple[str, Mode, Source], Cell] = {}

    def __call__(self, exchange: Exchange) -> Outcome:
        assert exchange.tenant is not None
        assert exchange.model is not None
        policy = exchange.tenant.policy
        exchange.policy = policy.policy
        question = exchange.question
        probability = self._predictor.probability(question) if question else None
        decision = exchange.decision = choose_mode(
            exchange.signals,
            probability=probability,
            policy=policy.modes,
            offered=exchange.model.modes,
        )
        key = (exchange.tenant.name, decision.mode, decision.source)
        cell = self._cells.get(key)
        if cell is None:
            labels = {"tenant": key[0], "mode": key[1].value, "source": key[2].value}
            cell = self._cells[key] = self._metrics.counter(Metric.DECISIONS, labels)
        cell.add(1)
        return Outcome.NEXT
