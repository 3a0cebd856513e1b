"""Throw the points: decide the mode of one request.

Stands after `parse`, which read the client's wishes and found which policy holds, and before `place`, which needs
the mode to choose a pool. Changes nothing but the exchange: what prices and load make of a threshold is asked of
those who know. Where there are two policies both decide; what the other one would have done is only noted.
"""

from __future__ import annotations

from time import time
from zlib import crc32

from pointsman.contracts.errors import ApiError, KeyOutOfScope, ModeNotOffered, ThinkingBudgetSpent
from pointsman.contracts.modes import (
    HYSTERESIS,
    Mode,
    ModeDecision,
    Source,
    choose_mode,
    threshold_by_cost,
    threshold_by_history,
    threshold_by_load,
)
from pointsman.contracts.names import Metric
from pointsman.router.exchange import Exchange
from pointsman.router.fleet import Fleet
from pointsman.router.key_scope import Scope
from pointsman.router.metrics import PROBABILITY_BUCKETS, Cell, Histogram, Metrics
from pointsman.router.pipeline.conversation import conversation_key
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.place import BYTES_OF_A_TOKEN
from pointsman.router.pipeline.thinking_price import ThinkingPrice
from pointsman.router.policies import Arm
from pointsman.router.predictors import Predictors
from pointsman.router.tenant_view import ModelView, TenantView
from pointsman.router.tracks import Tracks

DAY = 86_400


class Decide:
    """Fills `predictor`, `decision` and `conversation`."""

    name = "decide"

    def __init__(
        self,
        predictors: Predictors,
        metrics: Metrics,
        fleet: Fleet,
        thinking_price: ThinkingPrice,
        tracks: Tracks,
    ) -> None:
        self._predictors = predictors
        self._metrics = metrics
        self._fleet = fleet
        self._thinking_price = thinking_price
        self._tracks = tracks
        self._cells: dict[tuple[str, Mode, Source], Cell] = {}
        self._probabilities: dict[str, Histogram] = {}
        self._thresholds: dict[str, float] = {}

    def __call__(self, exchange: Exchange) -> Outcome:
        tenant, arm, question = exchange.tenant, exchange.arm, exchange.question
        assert tenant is not None
        assert arm is not None
        predictors = self._predictors
        predictor = predictors.base if arm.predictor is None else predictors.of(arm.predictor)
        exchange.predictor = predictor
        probability = predictor.probability(question) if question else None
        decision = self._decision(exchange, arm, probability)
        if arm.stage is not None:
            assert exchange.ruling is not None
            other = exchange.ruling.other(arm)
            assert other is not None
            if other.predictor == arm.predictor:
                judged = probability
            else:
                judge = predictors.base if other.predictor is None else predictors.of(other.predictor)
                judged = judge.probability(question) if question else None
            decision = decision._replace(shadow=self._shadow(exchange, other, judged))
        exchange.decision = decision
        name, mode, source = tenant.name, decision.mode, decision.source
        (self._cells.get((name, mode, source)) or self._cell(name, mode, source)).add(1)
        if probability is not None:
            assert exchange.model is not None
            model = exchange.model.name
            (self._probabilities.get(model) or self._histogram(model)).observe(probability)
            if self._thresholds.get(name) != decision.threshold:
                self._show_threshold(name, decision.threshold)
        return Outcome.NEXT

    def _cell(self, tenant: str, mode: Mode, source: Source) -> Cell:
        """Who has no numbers of his own is counted with all others, and not remembered."""
        tenant = self._metrics.label_of(tenant)
        cell = self._cells.get((tenant, mode, source))
        if cell is None:
            labels = {"tenant": tenant, "mode": mode.value, "source": source.value}
            cell = self._cells[tenant, mode, source] = self._metrics.counter(Metric.DECISIONS, labels)
        return cell

    def _histogram(self, model: str) -> Histogram:
        labels = {"model": model}
        found = self._probabilities[model] = Histogram(
            self._metrics, Metric.PROBABILITY, labels, PROBABILITY_BUCKETS
        )
        return found

    def _show_threshold(self, tenant: str, threshold: float) -> None:
        if self._metrics.shows(tenant):  # thresholds of several have no sum
            self._thresholds[tenant] = threshold
            self._metrics.tenants_gauge(Metric.THRESHOLD, {"tenant": tenant}).set(threshold)

    def _decision(self, exchange: Exchange, arm: Arm, probability: float | None) -> ModeDecision:
        tenant, model = exchange.tenant, exchange.model
        assert tenant is not None
        assert model is not None
        offered = model.modes if exchange.scope is None else _offered(exchange.scope, model)
        modes = arm.modes
        if arm.rules is not None:
            modes = arm.rules.modes_for(
                model.name, exchange.endpoint, exchange.key, exchange.payload, exchange.question
            )
        threshold = raised = None
        if modes.cost_of_wrong_fast is not None:
            extra = self._thinking_price.extra(tenant, model)
            if extra is not None:
                threshold = threshold_by_cost(modes.cost_of_wrong_fast, extra)
        unmoved = modes.threshold if threshold is None else threshold
        if arm.hysteresis:
            threshold = self._moved(exchange, tenant, model, unmoved, arm.hysteresis)
        limits = arm.saturation
        if limits is not None:
            raised = threshold_by_load(
                modes.threshold if threshold is None else threshold,
                limits.highest_threshold,
                limits.from_load,
                limits.full_load,
                self._fleet.load_of(model.pools.get(Mode.THINK, ())),
            )
        try:
            decision = choose_mode(
                exchange.signals,
                probability=probability,
                policy=modes,
                offered=offered,
                spent=tenant.thinking_spent,
                degraded=tenant.degraded,
                threshold=threshold,
                raised=raised,
            )
            if threshold is not None and _stayed(decision, unmoved, threshold):
                decision = decision._replace(detail=HYSTERESIS)
            return decision
        except ThinkingBudgetSpent as error:
            error.retry_after = DAY - int(time()) % DAY
            raise
        except ModeNotOffered as error:
            if offered is model.modes or offered == model.modes:
                raise
            raise KeyOutOfScope("The mode that is asked for is not open to this key.", param=error.param) from None

    def _moved(
        self, exchange: Exchange, tenant: TenantView, model: ModelView, threshold: float, most: float
    ) -> float:
        """`threshold`, moved by `most` at most towards the track that the conversation of `exchange` is on."""
        messages = exchange.payload.get("messages")
        if messages is None:
            return threshold
        conversation = exchange.conversation
        if not conversation:
            seed = crc32(f"{tenant.cache_salt}\0{model.name}".encode())
            conversation = exchange.conversation = conversation_key(exchange, seed)
        if not any(message["role"] == "assistant" for message in messages):
            return threshold
        track = self._tracks.last(conversation)
        if track is None:
            return threshold
        extra = self._thinking_price.extra(tenant, model)
        if extra is None:
            return threshold
        history = self._thinking_price.history(model, track, len(exchange.body) // BYTES_OF_A_TOKEN)
        return threshold_by_history(threshold, most, extra, history)

    def _shadow(self, exchange: Exchange, arm: Arm, probability: float | None) -> Mode | None:
        """What `arm`, which does not hold, would have decided; None where it would have refused."""
        try:
            return self._decision(exchange, arm, probability).mode
        except ApiError:
            return None


def _stayed(decision: ModeDecision, unmoved: float, moved: float) -> bool:
    """Whether the predictor decided so only because the history has `moved` its threshold."""
    probability = decision.probability
    if probability is None or decision.source is not Source.PREDICTOR:
        return False
    return (probability >= unmoved) != (probability >= moved)


def _offered(scope: Scope, model: ModelView) -> frozenset[Mode]:
    """The modes in which `model` answers to a key with `scope`; raises `KeyOutOfScope` where there is none."""
    offered = scope.offered(model)
    if not offered:
        raise KeyOutOfScope("This model is served in no mode that is open to this key.", param="model")
    return offered
