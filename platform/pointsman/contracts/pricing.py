"""Money: what tokens cost, in integer nano-dollars.

A price is stated in US dollars per 1,000,000 tokens; an amount is an integer count of nano-dollars (1e-9 USD),
rounded half-even once per request and token class. One dollar per 1M tokens is exactly 1,000 nano-dollars a
token, so every price with at most three decimals bills without any rounding at all.

Context caches that a hosted model keeps are billed apart from requests, by classes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

NANO = 1_000_000_000
_NANO_PER_TOKEN = 1000
"""Nano-dollars a token at one dollar per 1M tokens."""


class TokenClass(StrEnum):
    """What a token is billed as. The four classes of a request add up to the engine's own totals."""

    INPUT = "input"
    CACHED_INPUT = "cached_input"
    REASONING = "reasoning"
    ANSWER = "answer"


class CacheClass(StrEnum):
    """What a hosted context cache is billed as; no request has these, a charge has."""

    CREATION = "cache_creation"
    """Tokens that were put into a cache. Priced per 1M tokens."""
    STORAGE = "cache_storage"
    """Token-minutes: tokens in a cache times the minutes they lay there. Priced per 1M tokens per minute."""
    CALL = "cache_call"
    """Calls that used a cache. Priced each."""


class Usage(NamedTuple):
    """
    Tokens of one request by class; `estimated` where the engine's own count never arrived.

    A charge of a hosted context cache counts `cache_creation` in tokens, `cache_storage` in token-minutes and
    `cache_call` in calls; none of them is part of a request's tokens.
    """

    input: int = 0
    cached_input: int = 0
    reasoning: int = 0
    answer: int = 0
    estimated: bool = False
    cache_creation: int = 0
    cache_storage: int = 0
    cache_call: int = 0

    @property
    def prompt_tokens(self) -> int:
        return self.input + self.cached_input

    @property
    def completion_tokens(self) -> int:
        return self.reasoning + self.answer


@dataclass(frozen=True, slots=True)
class PriceList:
    """US dollars per 1M tokens of each class; of a context cache's, see `CacheClass`. What has no price is None."""

    input: Decimal
    cached_input: Decimal
    reasoning: Decimal
    answer: Decimal
    cache_creation: Decimal | None = None
    cache_storage: Decimal | None = None
    cache_call: Decimal | None = None
    rates: tuple[tuple[int, int], ...] = field(init=False, repr=False)
    """The same as exact fractions of nano-dollars a token: what a request is billed by, in integers alone."""
    whole: tuple[int, int, int, int] | None = field(init=False, repr=False)
    """Nano-dollars a token, where all four are whole: what most requests are billed by. Else None."""

    def __post_init__(self) -> None:
        prices = (self.input, self.cached_input, self.reasoning, self.answer)
        rates = tuple((Fraction(price) * _NANO_PER_TOKEN).as_integer_ratio() for price in prices)
        object.__setattr__(self, "rates", rates)
        whole = tuple(rate for rate, unit in rates if unit == 1)
        object.__setattr__(self, "whole", whole if len(whole) == len(rates) else None)


class Cost(NamedTuple):
    """Nano-dollars by class."""

    input: int = 0
    cached_input: int = 0
    reasoning: int = 0
    answer: int = 0
    cache_creation: int = 0
    cache_storage: int = 0
    cache_call: int = 0

    @property
    def total(self) -> int:
        return sum(self)


class Unpriced(Exception):
    """A charge is for something that has no price; `cache_class` says what."""

    def __init__(self, cache_class: CacheClass) -> None:
        super().__init__(f"there is no price for {cache_class}")
        self.cache_class = cache_class


def charge_of(usage: Usage, prices: PriceList) -> Cost:
    """
    What the context cache in `usage` costs at `prices`, each class rounded half-even once; nothing else is counted.

    Raises `Unpriced` where something was used that has no price: it must not be free by mistake.
    """
    amounts = []
    for cache_class in CacheClass:
        price: Decimal | None = getattr(prices, cache_class)
        used: int = getattr(usage, cache_class)
        if price is None and used:
            raise Unpriced(cache_class)
        unit = NANO if cache_class is CacheClass.CALL else _NANO_PER_TOKEN
        amounts.append(_half_even(*_times(used, price or Decimal(0), unit)))
    return Cost(0, 0, 0, 0, *amounts)


def _times(count: int, price: Decimal, unit: int) -> tuple[int, int]:
    return (count * unit * Fraction(price)).as_integer_ratio()


def cost_of(usage: Usage, prices: PriceList) -> Cost:
    """What the request with `usage` costs at `prices`, each class rounded half-even once."""
    if (whole := prices.whole) is not None:
        return Cost(usage[0] * whole[0], usage[1] * whole[1], usage[2] * whole[2], usage[3] * whole[3])
    (per_input, a), (per_cached, b), (per_reasoning, c), (per_answer, d) = prices.rates
    return Cost(
        _half_even(usage.input * per_input, a),
        _half_even(usage.cached_input * per_cached, b),
        _half_even(usage.reasoning * per_reasoning, c),
        _half_even(usage.answer * per_answer, d),
    )


def _half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` as the nearest integer, the even one of two that are equally near."""
    if denominator == 1:
        return numerator
    whole, rest = divmod(numerator, denominator)
    twice = 2 * rest
    return whole + 1 if twice > denominator or (twice == denominator and whole % 2) else whole


def dollars(nano: int) -> str:
    """`nano` nano-dollars as a plain decimal of dollars with all nine places: `dollars(1500) == "0.000001500"`."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    return f"{sign}{nano // NANO}.{nano % NANO:09d}"
