"""What answers without thinking have spared: estimated, and told with how sure that is.

Nobody knows what the answer that was not asked for would have been. What is known is how long this tenant's answers
by this model are in either mode: their running median and quartiles. A request that the client had not asked to go
without thinking, and that did, has spared the difference: `middle` takes the median of answers with thinking, `low`
and `high` their quartiles, each against the median without. What thinking adds is priced as reasoning, the rest as
answer, each at its own mode's prices; prompts are left out, as they are as long in either mode.

Stands beside `settle`, which counts a request by adding one here; the arithmetic is done at the sweeps, for a part
of the tenants at each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Metric
from pointsman.contracts.price_book import PriceBook
from pointsman.contracts.pricing import NANO, PriceList
from pointsman.router.exchange import Exchange
from pointsman.router.metrics import Cell, Metrics
from pointsman.router.pipeline.place import Place
from pointsman.router.tenant_view import ModelView, TenantView

ENOUGH = 8
"""Answers in each mode that must have been seen before anything is claimed."""

SOME = 32
"""Tenants that are told of at one sweep: a millisecond."""

SWEEPS = 16
"""Sweeps after which all are told of that had something to tell, where more than `SOME` at a sweep are needed."""

ESTIMATES = ("low", "middle", "high")
"""The quartile, the median and the quartile of answers with thinking that an estimate takes."""

_REASONING, _ANSWER = 2, 3  # places of the token classes in a list of prices


class Estimate(NamedTuple):
    """What one answer without thinking spares: tokens of output, and nano-dollars. Never below 0."""

    tokens: float
    nano: float


class _Count:
    """Requests of one tenant and model that were not told yet."""

    __slots__ = ("model", "number", "tenant")

    def __init__(self, tenant: TenantView, model: ModelView) -> None:
        self.tenant = tenant
        self.model = model
        self.number = 0


class Savings:
    """Counts what was spared, of each tenant and model. One event loop owns it."""

    def __init__(self, place: Place, prices: PriceBook, metrics: Metrics) -> None:
        self._place = place
        self._prices = prices
        self._metrics = metrics
        self._untold: dict[tuple[str, str], _Count] = {}
        self._due: dict[tuple[str, str], _Count] = {}  # what was untold when the round began
        self._some = SOME
        self._cells: dict[tuple[str, str], list[tuple[Cell, Cell]]] = {}
        self._requests = 0
        self._sums = [[0.0, 0.0] for _ in ESTIMATES]

    def note(self, exchange: Exchange) -> None:
        """`exchange` was answered without thinking, and its client had not asked for that."""
        tenant, model = exchange.tenant, exchange.model
        assert tenant is not None
        assert model is not None
        key = (tenant.name, model.name)
        count = self._untold.get(key)
        if count is None:
            count = self._untold[key] = _Count(tenant, model)
        count.number += 1

    def tell(self, now: float) -> None:
        """Bring the metrics up to date, a part where many asked; `now` is of no matter, as in all sweeps."""
        if not self._due:
            self._due, self._untold = self._untold, {}
            self._some = max(SOME, -(-len(self._due) // SWEEPS))
        for _ in range(min(self._some, len(self._due))):
            self._tell(*self._due.popitem())

    def finish(self) -> None:
        """Tell of all that is left: the last request has ended."""
        for waiting in (self._due, self._untold):
            while waiting:
                self._tell(*waiting.popitem())

    def _tell(self, key: tuple[str, str], count: _Count) -> None:
        estimates = self.estimates(count.tenant, count.model)
        if estimates is None:
            return
        self._requests += count.number
        for (tokens, dollars), sums, estimate in zip(self._cells_of(key), self._sums, estimates, strict=True):
            tokens.add(count.number * estimate.tokens)
            dollars.add(count.number * estimate.nano / NANO)
            sums[0] += count.number * estimate.tokens
            sums[1] += count.number * estimate.nano

    def told(self) -> dict[str, Any]:
        """What was spared since this process began, of all tenants: tokens of output and whole nano-dollars."""
        return {
            "requests": self._requests,
            **{
                estimate: {"tokens": round(tokens), "nano": round(nano)}
                for estimate, (tokens, nano) in zip(ESTIMATES, self._sums, strict=True)
            },
        }

    def estimates(self, tenant: TenantView, model: ModelView) -> tuple[Estimate, ...] | None:
        """By `ESTIMATES`, what an answer without thinking spares; None while too little is known."""
        route = self._place.route(tenant, model)
        if route.think is None or route.no_think is None:
            return None
        long, short = route.think.output_length, route.no_think.output_length
        if min(long.seen, short.seen) < ENOUGH:
            return None
        think = self._prices[model.pools[Mode.THINK][0].name]
        no_think = self._prices[model.pools[Mode.NO_THINK][0].name]
        return tuple(
            _estimate(length, short.tokens, think, no_think) for length in (long.low, long.tokens, long.high)
        )

    def _cells_of(self, key: tuple[str, str]) -> list[tuple[Cell, Cell]]:
        tenant, model = self._metrics.label_of(key[0]), key[1]
        cells = self._cells.get((tenant, model))
        if cells is None:
            cells = self._cells[tenant, model] = []
            for estimate in ESTIMATES:
                labels = {"tenant": tenant, "model": model, "method": "estimated", "estimate": estimate}
                counter = self._metrics.counter
                cells.append((counter(Metric.AVOIDED_TOKENS, labels), counter(Metric.AVOIDED_COST, labels)))
        return cells


def _estimate(long: float, short: float, think: PriceList, no_think: PriceList) -> Estimate:
    answer = min(long, short)
    nano = (
        answer * _rate(think, _ANSWER)
        + (long - answer) * _rate(think, _REASONING)
        - short * _rate(no_think, _ANSWER)
    )
    return Estimate(max(0.0, long - short), max(0.0, nano))


def _rate(prices: PriceList, token_class: int) -> float:
    """Nano-dollars a token."""
    numerator, denominator = prices.rates[token_class]
    return numerator / denominator
