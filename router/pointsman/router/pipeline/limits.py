"""How much a request may say and think: what the client asks for, below the ceilings of policy, pool and model.

Stands beside `relay.py`, which asks once for each time that a request is sent, because the ceilings are the pool's
too. What does not change from one request to the next is worked out once for each policy, pool and mode.
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


class _Ceilings(NamedTuple):
    policy: Policy
    output: int
    budget: int
    by_engine: bool
    counted: bool
    rewritten: bool


class Ceilings:
    """Works out the limits of requests."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str, Mode], _Ceilings] = {}

    def limits(self, exchange: Exchange, pool: Pool, mode: Mode) -> Limits:
        """
        What `exchange`, sent to `pool` in `mode`, is held to.

        Fills `exchange.clamped` where the client asked for more, and `exchange.allowance` in mode think.
        """
        policy = exchange.policy
        key = (id(policy), pool.name, mode)
        ceilings = self._known.get(key)
        if ceilings is None or ceilings.policy is not policy:
            ceilings = self._learn(key, policy, pool, mode)
        limit = asked = exchange.max_tokens or pool.default_max_tokens
        if asked > ceilings.output:
            limit = ceilings.output
            if exchange.max_tokens is not None:
                _clamp(exchange, "max_tokens", limit)
        if mode is not Mode.THINK or exchange.endpoint is not Endpoint.CHAT:
            return Limits(limit, None, False, False, ceilings.rewritten and exchange.endpoint is Endpoint.CHAT)
        budget, wish = ceilings.budget, exchange.thinking_budget
        if wish is not None:
            if wish > budget:
                _clamp(exchange, "thinking_budget", budget)
            else:
                budget = wish
        allowance = thinking_allowance(limit, min(budget, limit))
        if budget != _NO_BOUND:
            exchange.allowance = allowance
        return Limits(limit, allowance, ceilings.by_engine, ceilings.counted, ceilings.rewritten)

    def _learn(self, key: tuple[int, str, Mode], policy: Policy, pool: Pool, mode: Mode) -> _Ceilings:
        of_policy = policy.max_output.think if mode is Mode.THINK else policy.max_output.no_think
        output = [limit for limit in (of_policy, families.output_ceiling(pool.family)) if limit is not None]
        budgets = [limit for limit in (policy.thinking_budget, pool.thinking_budget) if limit is not None]
        by_engine = pool.enforces_thinking_budget
        if len(self._known) >= MAX_CEILINGS:
            self._known.clear()
        ceilings = self._known[key] = _Ceilings(
            policy,
            min(output, default=_NO_BOUND),
            min(budgets, default=_NO_BOUND),
            by_engine,
            not by_engine and (families.closing(pool, "") is not None or Mode.NO_THINK in pool.modes),
            rewriting.needed(pool, mode),
        )
        return ceilings


def _clamp(exchange: Exchange, name: str, value: int) -> None:
    exchange.clamped = {**(exchange.clamped or {}), name: value}
