"""Money: what tokens cost, in integer nano-dollars.

A price is stated in US dollars per 1,000,000 tokens; an amount is an integer count of nano-dollars (1e-9 USD),
rounded half-even once per request and token class. One dollar per 1M tokens is exactly 1,000 nano-dollars a
token, so every price with at most three decimals bills without any rounding at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum

NANO = 1_000_000_000
_NANO_PER_TOKEN = Decimal(1000)


class TokenClass(StrEnum):
    """What a token is billed as. The four classes of a request add up to the engine's own totals."""

    INPUT = "input"
    CACHED_INPUT = "cached_input"
    REASONING = "reasoning"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request by class; `estimated` where the engine's own count never arrived."""

    input: int = 0
    cached_input: int = 0
    reasoning: int = 0
    answer: int = 0
    estimated: bool = False

    @property
    def prompt_tokens(self) -> int:
        return self.input + self.cached_input

    @property
    def completion_tokens(self) -> int:
        return self.reasoning + self.answer


@dataclass(frozen=True, slots=True)
class PriceList:
    """US dollars per 1M tokens of each class."""

    input: Decimal
    cached_input: Decimal
    reasoning: Decimal
    answer: Decimal


@dataclass(frozen=True, slots=True)
class Cost:
    """Nano-dollars by token class."""

    input: int = 0
    cached_input: int = 0
    reasoning: int = 0
    answer: int = 0

    @property
    def total(self) -> int:
        return self.input + self.cached_input + self.reasoning + self.answer


def amount(tokens: int, dollars_per_million: Decimal) -> int:
    """Nano-dollars for `tokens` tokens at `dollars_per_million`, rounded half-even."""
    exact = tokens * dollars_per_million * _NANO_PER_TOKEN
    return int(exact.to_integral_value(rounding=ROUND_HALF_EVEN))


def cost_of(usage: Usage, prices: PriceList) -> Cost:
    """What `usage` costs at `prices`, each class rounded once."""
    return Cost(
        input=amount(usage.input, prices.input),
        cached_input=amount(usage.cached_input, prices.cached_input),
        reasoning=amount(usage.reasoning, prices.reasoning),
        answer=amount(usage.answer, prices.answer),
    )


def dollars(nano: int) -> str:
    """`nano` nano-dollars as a plain decimal of dollars with all nine places: `dollars(1500) == "0.000001500"`."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    return f"{sign}{nano // NANO}.{nano % NANO:09d}"
