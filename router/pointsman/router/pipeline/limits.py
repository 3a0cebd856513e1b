"""How much a request may say and think: what the client asks for, below the ceilings of policy, pool and model.

Stands below `plans.py`, which asks once for each kind of request, because the ceilings are the pool's too. What
does not change from one kind to the next is worked out once for each policy, pool and mode.
"""

from __future__ import annotations

from typing import NamedTuple

from pointsman.contracts.config import Pool
from pointsman.contracts.modes import Mode, thinking_allowance
from pointsman.contracts.policies import Policy
from pointsman.router import families
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.wire import rewriting

FLOOR = 32
"""From so many tokens of output on, an answer is never empty."""

MAX_CEILINGS = 10_000
"""Triples of policy, pool and mode that are remembered; with more, all are forgotten and worked out anew."""

_NO_BOUND = 1 << 60
_THINK, _CHAT = Mode.THINK, Endpoint.CHAT  # members of an Enum are slow to look up by way of its class


class Limits(NamedTuple):
    """
    What one sending of a request is held to.

    `max_tokens`: output tokens, thinking included. `thinking`: tokens of it that may be thought; None outside of
    mode think. `by_engine`: whether the engine sees to that by itself; else `counted` tells whether it is seen to
    here. `rewritten`: whether the output has to be rewritten for the client.
    """

    max_tokens: int
    thinking: int | None
    by_engine: bool
    counted: bool
    rewritten: bool


class Held(NamedTuple):
    """The limits of requests that ask alike, and what each such exchange is filled with."""

    limits: Limits
    allowance: int | None
    clamped: dict[str, int] | None


def output_ceiling(policy: Policy, pool: Pool, mode: Mode) -> int:
    """Output tokens, thinking included, that a request of `policy` gets from `pool` in `mode` at most."""
    of_policy = policy.max_output.think if mode is _THINK else policy.max_output.no_think
    ceilings = [limit for limit in (of_policy, families.output_ceiling(pool.family)) if limit is not None]
    return min(ceilings, default=_NO_BOUND)


def context_of(pool: Pool) -> int | None:
    """Tokens of a prompt that the pool's engine takes at most; None where the configuration does not say so."""
    capabilities = pool.capabilities
    return capabilities.context if not pool.urls or "context" in capabilities.model_fields_set else None


def prompts_and_choices(exchange: Exchange) -> tuple[int, int]:
    """How many prompts a request has, and how many answers an engine makes to each."""
    payload = exchange.payload
    if exchange.engine_endpoint is _CHAT:
        return 1, payload.get("n", 1)
    prompt = payload["prompt"]
    return len(prompt) if type(prompt) is list else 1, max(payload.get("n", 1), payload.get("best_of", 1))


class _Ceilings:
    """What holds for the requests of one policy to one pool in one mode, and what followed from it so far."""

    __slots__ = ("budget", "by_engine", "counted", "output", "policy", "rewritten", "thinks")

    def __init__(self, policy: Policy, pool: Pool, mode: Mode) -> None:
        self.policy = policy
        self.thinks = mode is Mode.THINK
        budgets = [limit for limit in (policy.thinking_budget, pool.thinking_budget) if limit is not None]
        self.output = output_ceiling(policy, pool, mode)
        self.budget = min(budgets, default=_NO_BOUND)
        self.by_engine = pool.enforces_thinking_budget
        can_go_on = families.closing(pool, "") is not None or Mode.NO_THINK in pool.modes
        self.counted = not self.by_engine and can_go_on
        self.rewritten = rewriting.needed(pool, mode)

    def hold(self, asked: int, wish: int | None, *, own: bool) -> Held:
        """The limits for `asked` tokens of output (`own`: by the client) and a `wish` for thinking ones at most."""
        clamped: dict[str, int] = {}
        limit = min(asked, self.output)
        if own and asked > limit:
            clamped["max_tokens"] = limit
        if not self.thinks:
            return Held(Limits(limit, None, False, False, self.rewritten), None, clamped or None)
        budget = self.budget if wish is None else min(wish, self.budget)
        if wish is not None and wish > budget:
            clamped["thinking_budget"] = budget
        allowance = thinking_allowance(limit, budget)
        limits = Limits(limit, allowance, self.by_engine, self.counted, self.rewritten)
        return Held(limits, None if budget == _NO_BOUND else allowance, clamped or None)


class Ceilings:
    """Works out the limits of requests."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str, bool], _Ceilings] = {}

    def held(self, exchange: Exchange, pool: Pool, mode: Mode) -> Held:
        """What `exchange`, sent to `pool` in `mode`, is held to."""
        policy = exchange.policy
        key = (id(policy), pool.name, mode is _THINK)
        ceilings = self._known.get(key)
        if ceilings is None or ceilings.policy is not policy:
            if len(self._known) >= MAX_CEILINGS:
                self._known.clear()
            ceilings = self._known[key] = _Ceilings(policy, pool, mode)
        own = exchange.max_tokens is not None
        asked = exchange.max_tokens or pool.default_max_tokens
        if exchange.engine_endpoint is not _CHAT:
            limit = min(asked, ceilings.output)
            clamped = {"max_tokens": limit} if own and asked > limit else None
            return Held(Limits(limit, None, False, False, False), None, clamped)
        return ceilings.hold(asked, exchange.thinking_budget, own=own)
