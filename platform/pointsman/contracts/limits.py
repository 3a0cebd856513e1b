"""What a tenant may use: how fast, how much money, with which priority, and what is kept of its answers.

One schema for the configuration file, the admin API and the store. What the fields mean for one request is worked
out elsewhere: here are the fields and the rules between them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from pointsman.contracts.config_types import Dollars, Flag, Name, Strict

PerMinute = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000_000)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=30 * 86_400)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]

LOWEST_PRIORITY, HIGHEST_PRIORITY = 0, 9


class Limits(Strict):
    """How fast a tenant may go. What is not set is not limited."""

    requests_per_minute: PerMinute | None = None
    """Requests a minute, as many at once at most. Default: no limit."""
    tokens_per_minute: PerMinute | None = None
    """Tokens a minute, of prompts and of output together. Default: no limit."""
    input_tokens_per_minute: PerMinute | None = None
    """Tokens of prompts a minute. Default: no limit."""
    output_tokens_per_minute: PerMinute | None = None
    """Tokens of output a minute, thinking included. Default: no limit."""
    concurrency: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    """Requests at the same time. Default: no limit."""


class Budget(Strict):
    """What a tenant may spend in one period."""

    hard_usd: Dollars | None = None
    """US dollars that are never exceeded. Default: no limit."""
    soft_usd: Dollars | None = None
    """US dollars from which on `at_soft_mark` holds; at most `hard_usd`. Default: none."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.hard_usd is not None and self.soft_usd is not None and self.soft_usd > self.hard_usd:
            raise ValueError(f"soft_usd {self.soft_usd} is above hard_usd {self.hard_usd}")
        return self


class AtSoftMark(StrEnum):
    """What happens from a budget's soft mark on."""

    WARN = "warn"
    """Nothing changes but a header and a metric."""
    DEGRADE = "degrade"
    """What would think is answered without thinking, with the source `budget`."""


class WhenBudgetSpent(StrEnum):
    """The refusal of a request that does not fit into a budget any more."""

    PAYMENT_REQUIRED = "payment_required"
    """402: somebody has to pay."""
    TOO_MANY_REQUESTS = "too_many_requests"
    """429, with the time at which the period ends."""


class Budgets(Strict):
    """What a tenant may spend; periods are days and calendar months in UTC."""

    daily: Budget = Budget()
    """A day. Default: no limit."""
    monthly: Budget = Budget()
    """A calendar month. Default: no limit."""
    at_soft_mark: AtSoftMark = AtSoftMark.WARN
    """What happens from a soft mark on. Default: `warn`."""
    when_spent: WhenBudgetSpent = WhenBudgetSpent.PAYMENT_REQUIRED
    """How a request that does not fit any more is refused. Default: `payment_required`."""


class ResponseCache(Strict):
    """Whether equal requests are answered from a cache. Answers lie in Redis then, in clear, until they expire."""

    enabled: Flag = False
    """Whether answers are kept and given again. Default: no."""
    ttl_seconds: Seconds = 3600
    """Seconds that an answer is kept. Default: 3600."""
    group: Name | None = None
    """Tenants that name the same group share their answers. Default: a tenant shares with nobody."""
    hit_price_share: Share = 0.0
    """What a hit costs, as a share of what the answer cost that it repeats. Default: 0, hits are free."""
