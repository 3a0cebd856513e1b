"""Which replica: the least busy usable one of a pool of the decided mode; or wait for one.

Stands after `decide` and before `relay`, which comes back here when a replica fails before its first byte. The
mode is never changed here: a request waits for its own track, and is refused when that takes too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from pointsman.contracts.config import Pool
from pointsman.contracts.errors import InvalidRequest, PoolUnavailable
from pointsman.router.exchange import Exchange
from pointsman.router.fleet import Fleet, PoolState
from pointsman.router.pipeline.outcome import Outcome

if TYPE_CHECKING:
    from pointsman.router.pipeline import Pipeline

RETRY_AFTER = 5
"""Seconds after which a client whose request found no replica may try again."""


class Place:
    """Fills `pool`, `replica` and `place_deadline`. `pipeline` is set once the pipeline exists."""

    name = "place"
    pipeline: Pipeline

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def __call__(self, exchange: Exchange) -> Outcome:
        failed = exchange.replica
        states = [self._fleet.pools[pool.name] for pool in _capable_pools(exchange)]
        for state in states:
            replica = state.pick(avoid=failed)
            if replica is not None:
                exchange.pool = state.config
                exchange.replica = replica
                replica.outstanding += 1
                return Outcome.NEXT
        exchange.pool = states[0].config
        exchange.replica = None
        now = monotonic()
        if exchange.place_deadline == 0.0:
            exchange.place_deadline = now + exchange.pool.place_timeout
        if now >= exchange.place_deadline:
            raise _unavailable(exchange.pool)
        exchange.work = _Waiting(self.pipeline, exchange, states, exchange.place_deadline - now)
        return Outcome.WAIT


class _Waiting:
    """A request that waits for a replica of any of `states`."""

    __slots__ = ("_call", "_exchange", "_pipeline", "_states", "_timer")

    def __init__(self, pipeline: Pipeline, exchange: Exchange, states: list[PoolState], seconds: float) -> None:
        self._pipeline = pipeline
        self._exchange = exchange
        self._states = states
        self._call: Callable[[], None] = self._try_again
        for state in states:
            state.waiting.append(self._call)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def abort(self) -> None:
        self._timer.cancel()
        for state in self._states:
            if self._call in state.waiting:
                state.waiting.remove(self._call)

    def pause(self) -> None:
        """Nothing is being sent."""

    def resume(self) -> None:
        """Nothing is being sent."""

    def _try_again(self) -> None:
        self.abort()
        self._exchange.work = None
        self._pipeline.again(self._exchange, Place.name)

    def _expire(self) -> None:
        self.abort()
        self._exchange.work = None
        assert self._exchange.pool is not None
        self._pipeline.refuse(self._exchange, _unavailable(self._exchange.pool))


def _capable_pools(exchange: Exchange) -> list[Pool]:
    """The pools of the model and mode that can do all the request needs; at least one."""
    assert exchange.model is not None
    pools = exchange.model.pools[exchange.mode]
    for need, field in exchange.needs.items():
        able = tuple(pool for pool in pools if getattr(pool.capabilities, need))
        if not able:
            raise InvalidRequest(
                f"'{field}' is not supported by this model in mode {exchange.mode}.",
                param=field,
                code="unsupported_parameter",
            )
        pools = able
    return list(pools)


def _unavailable(pool: Pool) -> PoolUnavailable:
    return PoolUnavailable(
        f"No replica of pool '{pool.name}' could take the request within {pool.place_timeout:g} seconds.",
        retry_after=RETRY_AFTER,
    )
