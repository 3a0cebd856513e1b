"""The other mode, for a request whose own has no replica: where its policy allows that, and nothing forbids it.

Stands beside `place`, which asks here once a request has been held as long as it may be. Admission has set aside
what either mode may cost, and the response cache never has such an answer: it is not what the request asked for.
"""

from __future__ import annotations

from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.policies import WhenUnavailable
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.fleet import Fleet

UNAVAILABLE = "on_unavailable"
"""What such a decision gives as its reason: the field of the policy that allowed it."""

_FIXED = frozenset({Source.POLICY, Source.BUDGET})
"""Who has set a mode that is never left."""


def substitute(exchange: Exchange, fleet: Fleet) -> bool:
    """Decide for the other mode, in which `exchange` is to be placed anew; False where it has to be refused."""
    tenant, model, decision, flight = exchange.tenant, exchange.model, exchange.decision, exchange.flight
    assert tenant is not None
    assert model is not None
    assert decision is not None
    if (
        exchange.policy.on_unavailable is not WhenUnavailable.SUBSTITUTE
        or decision.source in _FIXED
        or exchange.engine_endpoint is not Endpoint.CHAT  # completions say themselves where thinking begins
        or exchange.course is not None  # work on an answer has begun in the decided mode
        or exchange.abandoned
    ):
        return False
    mode = decision.mode.other
    offered = model.modes if exchange.scope is None else exchange.scope.offered(model)
    if mode not in offered or (mode is Mode.THINK and (tenant.thinking_spent or tenant.degraded)):
        return False
    able = (
        fleet.pools[pool.name]
        for pool in model.pools[mode]
        if all(getattr(pool.capabilities, need) for need in exchange.needs)
    )
    if not any(state.can_answer() for state in able):
        return False
    if flight is not None:
        flight.leave(exchange)
    overruled = bool(exchange.signals) and exchange.signals[0].mode is not mode
    exchange.decision = decision._replace(mode=mode, source=Source.POLICY, detail=UNAVAILABLE, overruled=overruled)
    exchange.place_deadline = 0.0
    return True
