"""The circuit breaker of one replica: when its failures are enough to leave it alone, and how it comes back.

Stands apart from the replica because it is a state machine over times and failures alone: it knows no socket,
and the clock is handed to it. `docs/decisions/when-a-replica-rests.md` says why these numbers.
"""

from __future__ import annotations

import random
from enum import Enum
from typing import Final

CONNECT: Final = "connect"
"""The failure that opens the circuit at once: nobody listens there."""

REFUSED: Final = "refused"
"""The engine answered with a server error: it lives, and the request may have been the cause."""

IN_A_ROW = 3
"""Requests that fail one after another, with no success between them, open the circuit. Refusals don't count."""

WINDOW = 10.0
"""Seconds over which the share of failures is taken, beginning with a failure."""

WINDOW_FAILURES = 5
"""Failures inside the window that open the circuit, where they are at least half of what was answered."""

SHORTEST_REST, LONGEST_REST = 2.0, 30.0
"""Seconds for which the circuit stays open: the first time, and at most; each time in a row twice as long."""

JITTER = 0.2
"""Share by which a rest may be shorter or longer, so that routers and replicas don't keep step."""


class Circuit(Enum):
    """Closed: all requests pass. Open: none does. Half open: one at a time passes, and decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """
    The circuit of one replica; times are `monotonic` seconds.

    `state` and `open_until` are read by others; `trial` is whether a request is out that decides.
    """

    __slots__ = (
        "_failures",
        "_random",
        "_rest",
        "_row",
        "_successes",
        "_window_began",
        "open_until",
        "state",
        "trial",
    )

    def __init__(self, generator: random.Random | None = None) -> None:
        self.state = Circuit.CLOSED
        self.open_until = 0.0
        self.trial = False
        self._random = generator or random.Random()
        self._rest = SHORTEST_REST
        self._row = 0
        self._failures = 0
        self._successes = 0
        self._window_began = 0.0

    def succeeded(self) -> bool:
        """A request was answered. True where that closed the circuit."""
        self._row = 0
        self._successes += 1
        if self.state is not Circuit.HALF_OPEN:
            return False  # while it is open: a request that was sent before, which says nothing of now
        self._close()
        return True

    def failed(self, reason: str, now: float, *, may_open: bool = True) -> bool:
        """
        A request failed for `reason`. True where that changed the circuit.

        `may_open`: False where too many other replicas of the pool rest already; only a replica that can't even
        be connected to is then left out.
        """
        if self.state is Circuit.OPEN:
            return False
        if self.state is Circuit.HALF_OPEN:
            if may_open or reason == CONNECT:
                self._open(now)
            else:
                self._close()
            return True
        if now - self._window_began > WINDOW:
            self._window_began = now
            self._failures = self._successes = 0
        self._failures += 1
        if reason != REFUSED:
            self._row += 1
        enough = self._row >= IN_A_ROW or self._failures >= max(WINDOW_FAILURES, self._successes)
        if reason != CONNECT and not (enough and may_open):
            return False
        self._open(now)
        return True

    def health_told(self, healthy: bool, now: float) -> bool:
        """What the health endpoint said once the rest was over. True where that changed the circuit."""
        if self.state is not Circuit.OPEN or now < self.open_until:
            return False
        if healthy:
            self.state = Circuit.HALF_OPEN
            self.trial = False
            return True
        self._open(now)
        return False

    def _open(self, now: float) -> None:
        self.state = Circuit.OPEN
        self.trial = False
        self.open_until = now + self._rest * self._random.uniform(1 - JITTER, 1 + JITTER)
        self._rest = min(2 * self._rest, LONGEST_REST)

    def _close(self) -> None:
        self.state = Circuit.CLOSED
        self.trial = False
        self._rest = SHORTEST_REST
        self._row = self._failures = self._successes = 0
