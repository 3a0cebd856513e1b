"""What thinking usually costs more: in US dollars a request, per tenant and model, from how long answers are.

Stands beside `decide`, which derives thresholds from it, and above `place`, whose running lengths of answers it
reads. Worked out anew every `FRESH` seconds, not per request, and only for tenants whose policy asks.
"""

from __future__ import annotations

from time import monotonic

from pointsman.contracts.modes import Mode
from pointsman.contracts.price_book import PriceBook
from pointsman.contracts.pricing import NANO, PriceList
from pointsman.router.pipeline.place import Place
from pointsman.router.snapshot import ModelView, TenantView

FRESH = 2.0
"""Seconds for which a figure holds."""

ENOUGH = 8
"""Answers in each mode that must have been seen before anything is said."""


class ThinkingPrice:
    """Knows what thinking costs more, at the prices that hold when it is worked out."""

    def __init__(self, place: Place, prices: PriceBook) -> None:
        self._place = place
        self._prices = prices
        self._known: dict[tuple[str, str], tuple[float, float | None]] = {}

    def extra(self, tenant: TenantView, model: ModelView) -> float | None:
        """
        US dollars that an answer with thinking costs more than one without, or None while that is not known.

        Taken from the running medians of output tokens in both modes. What an answer with thinking is longer than
        one without counts as thinking, the rest as answer; each at its own mode's prices. Prompts are left out:
        they are as long in either mode.
        """
        key = (tenant.name, model.name)
        known = self._known.get(key)
        now = monotonic()
        if known is None or now >= known[0]:
            if known is None and len(self._known) >= MOST:
                self._known.clear()
            known = self._known[key] = (now + FRESH, self._worked_out(tenant, model))
        return known[1]

    def history(self, model: ModelView, cached: Mode, tokens: int) -> float:
        """
        US dollars that `tokens` of a conversation's history cost more with thinking than without, where they are
        cached on the track `cached` and the other one would have to read them anew: above 0 where that is the one
        that thinks, below 0 where it is the one that does not.
        """
        pools = model.pools.get(cached.other)
        if pools is None:
            return 0.0
        prices = self._prices[pools[0].name]
        nano = tokens * (_rate(prices, INPUT) - _rate(prices, CACHED))
        return (nano if cached is Mode.NO_THINK else -nano) / NANO

    def _worked_out(self, tenant: TenantView, model: ModelView) -> float | None:
        route = self._place.route(tenant, model)
        if route.think is None or route.no_think is None:
            return None
        long, short = route.think.output_length, route.no_think.output_length
        if min(long.seen, short.seen) < ENOUGH:
            return None
        think = self._prices[model.pools[Mode.THINK][0].name]
        no_think = self._prices[model.pools[Mode.NO_THINK][0].name]
        answer = min(long.tokens, short.tokens)
        nano = (
            answer * _rate(think, ANSWER)
            + (long.tokens - answer) * _rate(think, REASONING)
            - short.tokens * _rate(no_think, ANSWER)
        )
        return nano / NANO


MOST = 10_000
"""Pairs of tenant and model that are remembered; with more, all are worked out anew."""

INPUT, CACHED, REASONING, ANSWER = range(4)
"""Places of the token classes in a list of prices."""


def _rate(prices: PriceList, token_class: int) -> float:
    """Nano-dollars a token."""
    numerator, denominator = prices.rates[token_class]
    return numerator / denominator
