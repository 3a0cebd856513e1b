"""One pool: which of its replicas takes the next request, and who waits for one.

Stands below `place`, which knows requests, and above the single replica. `take` is the hot path: it looks at the
replica that the conversation prefers and, where that one is too busy, at a handful of others, however many
there are. Everything it looks at is kept up to date by `refresh`, `take` and `give_back`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from pointsman.contracts.config import Pool
from pointsman.router.fleet.breaker import Circuit
from pointsman.router.fleet.output_length import PRIOR
from pointsman.router.fleet.replica import Replica
from pointsman.router.fleet.ring import Ring
from pointsman.router.fleet.waiting_line import Waiter, WaitingLine
from pointsman.router.metrics import Cell

BOUND = 1.25
"""A preferred replica is passed over once its load is above this many times the mean, and `SLACK` requests."""

SLACK = 4
"""Requests of the usual size: a pool with little to do keeps conversations where their prefix is cached."""

HANDFUL = 8
"""
Replicas next on the ring that are compared where the preferred one is passed over. All are where there are no more,
and where these are above the bound too, since some beginning is then shared by more than a handful can answer.
"""

USUAL = 0.05
"""Weight of the newest request in the pool's usual size of a request."""


_HALF_OPEN = Circuit.HALF_OPEN  # a member of an Enum is slow to look up by way of its class


class PoolState:
    """
    One pool. `members` are the replicas that requests may be placed on; `many` is whether there are several,
    so that the conversation matters; `load` is the members' predicted tokens together, `running` their requests;
    `waiting` is how many wait, in `line`: nobody looks at the line while nobody waits.
    """

    __slots__ = (
        "_full",
        "_gauges",
        "_ring",
        "_share",
        "_usual",
        "_waking",
        "answered",
        "config",
        "limit",
        "line",
        "load",
        "many",
        "members",
        "replicas",
        "running",
        "waiting",
    )

    def __init__(self, config: Pool, able: Cell, resting: Cell) -> None:
        self.config = config
        self.limit = config.max_ongoing_requests
        self.replicas: dict[str, Replica] = {}
        self.members: list[Replica] = []
        self.many = False
        self.load = 0
        self.running = 0
        self.waiting = 0
        self.line = WaitingLine()
        self.answered = False
        self._ring: Ring[Replica] | None = None
        self._usual = float(PRIOR)
        self._share = 0.0
        self._full = True
        self._waking = False
        self._gauges = (able, resting)

    # -- per request

    def take(self, key: int, tokens: int, avoid: Replica | None = None) -> Replica | None:
        """
        Take a place for a request of the conversation `key` (32 bits) that is predicted to cost `tokens`.

        None where there is no place. `avoid` is taken only where there is no other.
        """
        if self._full:
            return None
        replica: Replica | None
        if self.many:
            replica = self._choose(key, avoid)
        else:
            replica = self.members[0]
            if not replica.usable or replica.outstanding >= self.limit:
                replica = None
        if replica is None:
            self._full = True
            return None
        replica.outstanding += 1
        replica.tokens += tokens
        self.load += tokens
        self.running += 1
        self._usual += (tokens - self._usual) * USUAL
        breaker = replica.breaker
        if breaker.state is _HALF_OPEN:
            breaker.trial = True
            replica.usable = False
        return replica

    def _choose(self, key: int, avoid: Replica | None) -> Replica | None:
        ring = self._ring
        if ring is None:
            ring = self._ring = Ring([replica.address for replica in self.members], self.members)
        at = bisect_right(ring.starts, key)
        replica = ring.owners[at]
        bound = self._share * self.load + SLACK * self._usual
        if replica.tokens <= bound and replica.usable and replica.outstanding < self.limit and replica is not avoid:
            return replica
        best: Replica | None
        if len(self.members) > HANDFUL:
            best = self._least_loaded(ring.successors(at, HANDFUL), avoid)
            if best is not None and best.tokens <= bound:
                return best
        best = self._least_loaded(self.members, avoid)
        if best is None and avoid is not None and avoid.usable and avoid.outstanding < self.limit:
            return avoid
        return best

    def _least_loaded(self, candidates: Sequence[Replica], avoid: Replica | None) -> Replica | None:
        limit = self.limit
        best: Replica | None = None
        for replica in candidates:
            if (
                (best is None or replica.tokens < best.tokens)
                and replica.usable
                and replica.outstanding < limit
                and replica is not avoid
            ):
                best = replica
        return best

    def give_back(self, replica: Replica, tokens: int) -> None:
        """A request on `replica` that had been predicted to cost `tokens` has ended, however it did."""
        replica.outstanding -= 1
        replica.tokens -= tokens
        if replica.breaker.trial and not replica.outstanding:
            # It told nothing, since its client left. While older requests run, which of them has ended can't be
            # told from here; the first whose end says anything decides in its place.
            replica.breaker.trial = False
            replica.usable = replica.member
        if not replica.member:
            return
        self.load -= tokens
        self.running -= 1
        self._full = False
        if self.waiting:
            self.wake()

    # -- per request that has to wait

    def join(self, waiter: Waiter, *, urgent: bool = False) -> None:
        """`waiter` waits for a place from now on; an `urgent` one before all that are not."""
        self.line.join(waiter, urgent=urgent)
        self.waiting += 1

    def leave(self, waiter: Waiter) -> None:
        """`waiter` waits no more; harmless where it does not."""
        if self.line.leave(waiter):
            self.waiting -= 1

    def serve(self, waiter: Waiter) -> None:
        """`waiter`, whose turn it was, has taken a place."""
        self.line.serve(waiter)
        self.waiting -= 1

    # -- when something changed

    def refresh(self) -> None:
        """A replica came, left, or is another's equal no more or again: work out who can be placed on."""
        for replica in self.replicas.values():
            replica.refresh()
        members = [replica for replica in self.replicas.values() if replica.member]
        if members != self.members:
            self.members = members
            self._ring = None
        self.many = len(members) > 1
        self._share = BOUND / len(members) if members else 0.0
        self.load = sum(replica.tokens for replica in members)
        self.running = sum(replica.outstanding for replica in members)
        self._full = not members
        able, resting = self._gauges
        able.set(len(members))
        resting.set(sum(replica.breaker.state is not Circuit.CLOSED for replica in self.replicas.values()))
        self.wake()

    def remove(self, address: str) -> Replica:
        """Take the replica at `address` out: nothing more is placed on it. `refresh` is to follow."""
        replica = self.replicas.pop(address)
        replica.member = replica.usable = replica.healthy = False
        return replica

    def wake(self) -> None:
        """Let those that wait take what places there are, in the order of the line."""
        if self._waking:
            return  # one that fails at once gives its place back from inside the loop below
        self._waking = True
        try:
            while self.waiting and not self._full and self.line.first().try_again(self):
                pass
        finally:
            self._waking = False

    @property
    def places(self) -> int:
        """How many requests the members can work on at a time."""
        return self.limit * len(self.members)

    def can_answer(self) -> bool:
        """Whether any replica is up, busy or not."""
        return bool(self.members)

    def count(self, circuit: Circuit) -> int:
        """How many replicas have their circuit in this state."""
        return sum(replica.breaker.state is circuit for replica in self.replicas.values())
