"""May it: hold the request against its tenant's limits and budgets, and set aside what it uses at most.

Stands after `decide`, since the mode says which pools may answer and at what price, and before anything that makes
an engine work. Last it has the ledger note what is about to be worked on. A tenant without limits costs one look
at an attribute; one with limits a handful of comparisons, as long as its leases last.
"""

from __future__ import annotations

import asyncio
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from pointsman.contracts.errors import (
    ApiError,
    BudgetReserved,
    BudgetSpent,
    BudgetSpentForNow,
    LimitsUnavailable,
    RateLimitExceeded,
)
from pointsman.contracts.limits import WhenBudgetSpent
from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import dollars
from pointsman.router.admission.allowance import Allowance
from pointsman.router.admission.bounds import Bounds
from pointsman.router.admission.lease_book import MOST_WAITING, PATIENCE, SLOW, WAIT, LeaseBook
from pointsman.router.admission.reservation import Admission
from pointsman.router.admission.stock import Need, Shortage
from pointsman.router.exchange import Exchange
from pointsman.router.ledger import Ledger
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline.outcome import Outcome

if TYPE_CHECKING:
    from pointsman.router.pipeline import Pipeline

FRESH = 0.25
"""Seconds for which a refusal follows from what Redis said last: a flood costs Redis four words a second."""

RETRY_AFTER = 2
"""Seconds after which a client may try again where Redis is away, or requests that run hold all there is."""


class Admit:
    """Fills `admission`, and has the ledger fill `intended`. `pipeline` is set once the pipeline exists."""

    name = "admit"
    pipeline: Pipeline

    def __init__(self, book: LeaseBook, bounds: Bounds, ledger: Ledger, metrics: Metrics) -> None:
        self.book = book
        self._bounds = bounds
        self._ledger = ledger
        self._metrics = metrics

    def __call__(self, exchange: Exchange) -> Outcome:
        tenant = exchange.tenant
        assert tenant is not None
        allowance = tenant.allowance
        if allowance is not None:
            at = self._ledger.at(exchange)
            need = self._bounds.of(exchange, at, priced=allowance.priced)
            now = monotonic()
            admission = allowance.take(need, at, now)
            if admission is None:
                admission = self._without_lease(exchange, allowance, need, now)
                if admission is None:
                    return Outcome.WAIT
            exchange.admission = admission
        self._ledger.intend(exchange)
        return Outcome.NEXT

    def _without_lease(self, exchange: Exchange, allowance: Allowance, need: Need, now: float) -> Admission | None:
        """There is too little here: refuse where that is certain, else wait for more (None)."""
        book = self.book
        if now - allowance.buckets.known_at < FRESH and (shortage := allowance.shortage(need, now)) is not None:
            raise self.refusal(allowance, shortage, need)
        if allowance.hard:
            if book.away(now, PATIENCE):
                raise self.unavailable(allowance)
        elif book.away(now, SLOW):
            return self.alone(exchange, allowance, need, now)
        if len(allowance.waiting) >= MOST_WAITING:
            raise self.refusal(allowance, allowance.blockage(need), need)
        allowance.starve(need)
        exchange.work = Waiting(self, exchange, allowance, need, now)
        book.urge(allowance)
        return None

    def alone(self, exchange: Exchange, allowance: Allowance, need: Need, now: float) -> Admission:
        """Set `need` aside from a share of the limits, as Redis is away. Raises `RateLimitExceeded`."""
        allowance.alone(now)
        admission = allowance.grab(need, exchange.at)
        if admission is None:
            raise self.refusal(allowance, allowance.blockage(need), need)
        return admission

    def admitted(self, exchange: Exchange, admission: Admission) -> None:
        """`exchange` has waited and got what it needs: go on with it."""
        exchange.work = None
        exchange.admission = admission
        try:
            self._ledger.intend(exchange)
        except ApiError as error:
            self.pipeline.refuse(exchange, error)
        else:
            self.pipeline.resume(exchange)

    def refusal(self, allowance: Allowance, shortage: Shortage, need: Need) -> ApiError:
        """The error that tells of `shortage`."""
        limit, seconds, spent = shortage
        self._metrics.counter(Metric.LIMITED, {"tenant": allowance.name, "limit": limit}).add(1)
        if limit not in ("daily", "monthly"):
            most = allowance.held_to.model_dump()[limit]
            return RateLimitExceeded(
                f"The limit of {most:,} {_WORDS[limit]} is reached.", param=limit, retry_after=max(1, ceil(seconds))
            )
        if not spent:
            return BudgetReserved(
                f"What is left of the {limit} budget is set aside for requests that are running.",
                param=limit,
                retry_after=RETRY_AFTER,
            )
        purse = allowance.day if limit == "daily" else allowance.month
        message = (
            f"The {limit} budget is spent: the request may cost up to {dollars(need.nano)} US dollars, "
            f"and {dollars(max(0, purse.hard - purse.spent))} are left."
        )
        if allowance.budgets.when_spent is WhenBudgetSpent.PAYMENT_REQUIRED:
            return BudgetSpent(message, param=limit)
        ends = purse.ends - self._ledger.now() // 1000
        return BudgetSpentForNow(message, param=limit, retry_after=max(1, ends))

    def unavailable(self, allowance: Allowance) -> LimitsUnavailable:
        """The refusal of a request whose money can't be leased."""
        self._metrics.counter(Metric.LIMITED, {"tenant": allowance.name, "limit": "redis"}).add(1)
        return LimitsUnavailable(
            "What is left of the budget can't be known at the moment.", retry_after=RETRY_AFTER
        )


class Waiting:
    """A request that waits for a lease; `exchange.Work` towards its client."""

    __slots__ = ("_allowance", "_exchange", "_step", "_timer", "_until", "need")

    def __init__(self, step: Admit, exchange: Exchange, allowance: Allowance, need: Need, now: float) -> None:
        self._step = step
        self._exchange = exchange
        self._allowance = allowance
        self._until = now + WAIT
        self.need = need
        allowance.waiting[self] = None
        # Who has no hard budget needs nobody's leave to go on where Redis turns out to be away.
        seconds = WAIT if allowance.hard else SLOW
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def look(self, now: float) -> None:
        """Redis has answered or failed, or something was given back here: go on or give up, where that is clear."""
        allowance, step = self._allowance, self._step
        if now < allowance.deadline:
            admission = allowance.grab(self.need, self._exchange.at)
            if admission is not None:
                self.abort()
                step.admitted(self._exchange, admission)
                return
            shortage = allowance.shortage(self.need, now)
            if shortage is not None:
                self._refuse(step.refusal(allowance, shortage, self.need))
                return
        if allowance.hard and not step.book.ready and not step.book.away(now, PATIENCE):
            self._refuse(step.unavailable(allowance))
        elif not allowance.hard and step.book.away(now, SLOW):
            self._go_alone(now)

    def abort(self) -> None:
        self._timer.cancel()
        self._allowance.waiting.pop(self, None)

    def pause(self) -> None:
        """Nothing is being sent."""

    def resume(self) -> None:
        """Nothing is being sent."""

    def _expire(self) -> None:
        now, allowance, step = monotonic(), self._allowance, self._step
        if not allowance.hard and step.book.away(now, SLOW):
            self._go_alone(now)
        elif now < self._until - SLOW / 2:
            self._timer = asyncio.get_running_loop().call_later(self._until - now, self._expire)
        elif step.book.away(now, SLOW) or not step.book.ready:
            self._refuse(step.unavailable(allowance))
        else:
            self._refuse(step.refusal(allowance, allowance.blockage(self.need), self.need))

    def _go_alone(self, now: float) -> None:
        self.abort()
        try:
            admission = self._step.alone(self._exchange, self._allowance, self.need, now)
        except ApiError as error:
            self._exchange.work = None
            self._step.pipeline.refuse(self._exchange, error)
        else:
            self._step.admitted(self._exchange, admission)

    def _refuse(self, error: ApiError) -> None:
        self.abort()
        self._exchange.work = None
        self._step.pipeline.refuse(self._exchange, error)


_WORDS = {
    "requests_per_minute": "requests a minute",
    "tokens_per_minute": "tokens a minute",
    "input_tokens_per_minute": "tokens of prompts a minute",
    "output_tokens_per_minute": "tokens of output a minute",
    "concurrency": "requests at the same time",
}
