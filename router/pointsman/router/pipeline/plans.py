"""How a request is relayed: what is asked of the engine, what is counted, what makes the answer worth a second try.

Stands between `relay.py`, which acts on it, and what it follows from: policy, pool, mode and a few words of the
request. Requests that agree in all of these are relayed alike, so that it is worked out once for all of them; one
that goes on from an answer has a plan of its own.
"""

from __future__ import annotations

from pointsman.contracts.config import Pool
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header
from pointsman.contracts.policies import Trigger
from pointsman.router import families
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.pipeline import judging
from pointsman.router.pipeline.limits import FLOOR, Ceilings, Held
from pointsman.router.wire.upstream_request import Ask, is_forced

MAX_PLANS = 10_000
"""Kinds of requests whose plans are remembered; with more, all are forgotten and worked out anew."""

_ESCALATION = Header.ESCALATION.encode()
_THINK, _NO_THINK = Mode.THINK, Mode.NO_THINK  # members of an Enum are slow to look up by way of its class
_CHAT, _COUNT_TOKENS = Endpoint.CHAT, Endpoint.COUNT_TOKENS


class Plan:
    """
    How the requests of one kind are relayed.

    `ask`: what the engine is asked. `counted`: whether tokens of thinking are counted here. `continued`: whether
    the answer goes on from an earlier one. `single`: whether there is one choice. `alone`: whether the answer may
    hold one tool call at most. `triggers`: what makes the answer worth a second try; `holds`: whether a stream is
    held back until all of it is known. `verbatim`: whether a stream may go on as it comes. `unseen`: whether a
    plain text needs no closer look.
    """

    __slots__ = (
        "alone",
        "ask",
        "continued",
        "counted",
        "held",
        "holds",
        "limits",
        "mode",
        "policy",
        "pool",
        "single",
        "triggers",
        "unseen",
        "verbatim",
    )

    def __init__(self, exchange: Exchange, pool: Pool, mode: Mode, held: Held) -> None:
        course = exchange.course
        self.policy = exchange.policy
        self.pool = pool
        self.mode = mode
        self.held = held
        self.limits = limits = held.limits
        self.single = single = exchange.payload.get("n", 1) == 1
        self.continued = course is not None and (course.closed or course.resort)
        tokenized = exchange.endpoint is _COUNT_TOKENS
        self.counted = limits.counted and single and not self.continued and not tokenized
        resort = course is not None and course.resort
        self.triggers = () if resort or tokenized or mode is _THINK else judging.triggers_of(exchange)
        self.holds = bool(self.triggers) and exchange.stream and judging.holds_back(exchange)
        waits = self.holds or not exchange.stream
        max_tokens, continuation = limits.max_tokens, None
        if course is not None and self.continued:
            max_tokens -= course.spent
            if course.closed:
                thought = course.assembly.reasoning() if course.thought is None else course.thought
                continuation = families.closing(pool, thought, course.assembly.content())
        self.ask = Ask(
            mode,
            max_tokens,
            exchange.stream or self.counted or self.continued,
            limits.thinking if limits.by_engine and not self.continued else None,
            not exchange.policy.model_decides or resort or is_forced(exchange),
            continuation,
            Trigger.CONFIDENCE in self.triggers and waits and pool.capabilities.logprobs,
            self.counted,
        )
        several = not single and limits.max_tokens >= FLOOR and exchange.engine_endpoint is _CHAT
        calls = exchange.toolbox is not None
        self.alone = calls and exchange.payload.get("parallel_tool_calls") is False
        changed = limits.rewritten or self.alone
        self.verbatim = not (self.counted or self.continued or self.holds or changed or several)
        self.unseen = not (limits.rewritten or self.ask.logprobs or calls)


class Plans:
    """Finds the plans of requests, and fills their `allowance` and `clamped`."""

    def __init__(self) -> None:
        self._ceilings = Ceilings()
        self._known: dict[tuple[object, ...], Plan] = {}

    def of(self, exchange: Exchange, pool: Pool) -> Plan:
        """The plan by which `exchange` is sent to `pool` now."""
        decision, tenant, model = exchange.decision, exchange.tenant, exchange.model
        assert decision is not None
        assert tenant is not None
        assert model is not None
        if (
            exchange.course is not None
            or exchange.needs
            or exchange.scope is not None
            or _ESCALATION in exchange.headers
        ):
            plan = self._worked_out(exchange, pool)
        else:
            policy = exchange.policy
            key = (
                id(policy),
                pool.name,
                model.name,
                decision.mode,
                decision.source,
                tenant.thinking_spent or tenant.degraded,
                exchange.endpoint,
                exchange.stream,
                exchange.max_tokens,
                exchange.thinking_budget,
                exchange.payload.get("n"),
            )
            known = self._known.get(key)
            if known is None or known.policy is not policy or known.pool is not pool:
                if len(self._known) >= MAX_PLANS:
                    self._known.clear()
                known = self._known[key] = self._worked_out(exchange, pool)
            plan = known
        _, exchange.allowance, clamped = plan.held
        if clamped is not None:
            exchange.clamped = {**(exchange.clamped or {}), **clamped}
        return plan

    def _worked_out(self, exchange: Exchange, pool: Pool) -> Plan:
        course = exchange.course
        if course is not None and course.closed and families.closing(pool, "") is None:
            course.closed, course.resort = False, True  # the request has come to another pool, which can't go on
        mode = _NO_THINK if course is not None and course.resort else exchange.mode
        return Plan(exchange, pool, mode, self._ceilings.held(exchange, pool, mode))
