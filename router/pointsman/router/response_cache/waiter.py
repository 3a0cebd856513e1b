"""One request that waits for the answer to another one, and what it gets of it meanwhile.

Stands beside `flight.py`, which it waits for. It never waits without end: for what it has not begun to get it has a
patience of its own.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from pointsman.contracts.errors import IdempotencyKeyInUse
from pointsman.contracts.names import Header
from pointsman.router.exchange import CacheStatus, Exchange
from pointsman.router.pipeline import delivery
from pointsman.router.response_cache.billing import recalled

if TYPE_CHECKING:
    from pointsman.router.response_cache.flight import Flight

PATIENCE = 60.0
"""Seconds after its arrival that a request waits for the answer to another one."""

STREAM_PATIENCE = 10.0
"""Seconds that one waits for a stream from another router, of which nothing is seen before its end."""

RETRY_AFTER = 5
"""Seconds after which a client may ask once more for an answer that is still being made."""


class Waiter:
    """One request that waits for the answer of a flight: its `exchange.Work`. `begun`: its stream has."""

    __slots__ = ("_flight", "_timer", "begun", "exchange")

    def __init__(self, flight: Flight, exchange: Exchange) -> None:
        self._flight = flight
        self.exchange = exchange
        self.begun = False
        left = PATIENCE - (perf_counter() - exchange.started_at)
        self._timer = asyncio.get_running_loop().call_later(max(0.0, left), self._expire)

    def end(self) -> Exchange:
        """The request, which waits no more."""
        self._timer.cancel()
        self.exchange.work = None
        return self.exchange

    def abort(self) -> None:
        """The client has gone."""
        self.end()
        self._flight.left(self)

    def pause(self) -> None:
        self._flight.pace()

    def resume(self) -> None:
        self._flight.pace()

    def begin(self, leader: Exchange, first: bytes) -> None:
        """Start the client's own stream, which is the leader's."""
        exchange = self.exchange
        self._timer.cancel()
        self.begun = True
        assert exchange.decision is not None
        exchange.pool = leader.pool
        exchange.decision = exchange.decision._replace(mode=leader.mode)
        exchange.escalated, exchange.judgement = leader.escalated, leader.judgement
        exchange.allowance, exchange.clamped = leader.allowance, leader.clamped
        exchange.cache = CacheStatus.HIT
        # Who leaves now is billed nothing.
        exchange.recalled = recalled((), 0.0, None, replayed=bool(self._flight.fingerprint))
        delivery.start_stream(exchange, self._own(leader, first))

    def add(self, leader: Exchange, data: bytes, *, framed: bool) -> None:
        """Pass on more of the stream."""
        client = self.exchange.client
        (client.send_chunks if framed else client.send)(self._own(leader, data))

    def grow_impatient(self) -> None:
        """Go on alone, if it has waited for long."""
        if perf_counter() - self.exchange.started_at >= STREAM_PATIENCE:
            self._expire()

    def _own(self, leader: Exchange, data: bytes) -> bytes:
        if self._flight.fingerprint:
            return data
        return data.replace(leader.rid.encode(), self.exchange.rid.encode())

    def _expire(self) -> None:
        flight, exchange = self._flight, self.end()
        flight.left(self)
        if flight.fingerprint:
            flight.answers.pipeline.refuse(
                exchange,
                IdempotencyKeyInUse(
                    f"The first request with this '{Header.IDEMPOTENCY_KEY}' is still being answered.",
                    param=Header.IDEMPOTENCY_KEY,
                    retry_after=RETRY_AFTER,
                ),
            )
        else:
            flight.answers.alone(exchange, CacheStatus.MISS)
