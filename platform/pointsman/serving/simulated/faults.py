"""Faults on demand: which of the next requests go wrong, and how.

Stands before the answer: the plan is asked once for each request that carried the secret, in the order of
arrival, and hands out first what was ordered for "the next N requests", then by rate from a seeded generator.
Knows no socket; `answering.py` does what a fault says.
"""

from __future__ import annotations

import random
from collections import deque
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class FaultKind(StrEnum):
    """What goes wrong."""

    ERROR = "error"
    """An HTTP error in SGLang's form, `status` says which."""
    HANG = "hang"
    """No byte, for `seconds` or for ever."""
    DIE = "die"
    """The connection is dropped before the first byte."""
    GARBAGE = "garbage"
    """Bytes that are no HTTP, then the connection is closed."""
    GARBAGE_BODY = "garbage_body"
    """HTTP 200 with the right content type, and a body (or events) that is no JSON."""
    ERROR_MIDSTREAM = "error_midstream"
    """After `after_tokens`: SGLang's error event, then `[DONE]`. Not streamed: as `error`."""
    HANG_MIDSTREAM = "hang_midstream"
    """After `after_tokens`: no further byte, for `seconds` or for ever."""
    DIE_MIDSTREAM = "die_midstream"
    """After `after_tokens`: the connection is dropped."""
    GARBAGE_MIDSTREAM = "garbage_midstream"
    """After `after_tokens`: bytes that break the HTTP framing, then the connection is closed."""
    TRUNCATE = "truncate"
    """After `after_tokens`: the body ends in good HTTP order, without finish reason, usage or `[DONE]`."""
    SLOW = "slow"
    """Prefill and decode take `factor` times as long."""


class Fault(BaseModel):
    """One way to go wrong, for one request."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: FaultKind
    """What goes wrong."""
    status: Annotated[int, Field(ge=400, le=599)] = 500
    """HTTP status of `error`. Default: 500."""
    after_tokens: Annotated[int, Field(ge=0)] = 2
    """Tokens sent before a fault in mid-stream. Not streamed: half of the body is sent instead. Default: 2."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds that a hang lasts; the answer then goes on. Default: for ever."""
    factor: Annotated[float, Field(ge=1)] = 10.0
    """How many times longer `slow` takes. Default: 10."""


class OrderedFault(Fault):
    """A fault ordered for requests to come."""

    times: Annotated[int, Field(ge=1, le=1_000_000)] | None = 1
    """How many requests it hits; null: all, until the plan is cleared. Default: 1."""

    def once(self) -> Fault:
        return Fault(**self.model_dump(exclude={"times"}))


class Order(BaseModel):
    """The body of `POST /simulated/faults`; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    next: list[OrderedFault] = Field(default_factory=list)
    """Faults for the next requests, after those already ordered."""
    rates: dict[FaultKind, Annotated[float, Field(ge=0, le=1)]] | None = None
    """Share of the other requests that each kind hits, 0 to 1; at most 1 together."""
    seed: int | None = None
    """Starts the generator behind the rates anew."""
    healthy: bool | None = None
    """Whether `GET /health` answers 200, or 503."""


class FaultPlan:
    """Hands each request its fault, or none."""

    def __init__(self, rates: dict[FaultKind, float] | None = None, *, seed: int = 0) -> None:
        """Raises ValueError where the rates add up to more than 1."""
        self._first = dict(rates or {})
        _check(self._first)
        self._seed = seed
        self.clear()

    def clear(self) -> None:
        """Forget every order: the plan is as it was at the start."""
        self._ordered: deque[tuple[Fault, int | None]] = deque()
        self._rates = dict(self._first)
        self._random = random.Random(self._seed)
        self.healthy = True

    def order(self, order: Order) -> None:
        """Add `order`. Raises ValueError where its rates add up to more than 1; nothing is changed then."""
        if order.rates is not None:
            _check(order.rates)
            self._rates = dict(order.rates)
        if order.seed is not None:
            self._random = random.Random(order.seed)
        if order.healthy is not None:
            self.healthy = order.healthy
        self._ordered.extend((fault.once(), fault.times) for fault in order.next)

    def take(self) -> Fault | None:
        """The fault of the request that has just arrived."""
        if self._ordered:
            fault, times = self._ordered[0]
            if times == 1:
                self._ordered.popleft()
            elif times is not None:
                self._ordered[0] = (fault, times - 1)
            return fault
        if self._rates:
            drawn = self._random.random()
            for kind, rate in self._rates.items():
                drawn -= rate
                if drawn < 0:
                    return Fault(kind=kind)
        return None

    def state(self) -> dict[str, object]:
        """What is still to come, as JSON."""
        return {
            "next": [{**fault.model_dump(mode="json"), "times": times} for fault, times in self._ordered],
            "rates": {kind.value: rate for kind, rate in self._rates.items()},
            "healthy": self.healthy,
        }


def _check(rates: dict[FaultKind, float]) -> None:
    if sum(rates.values()) > 1:
        raise ValueError("the rates of all faults together must not be above 1")
