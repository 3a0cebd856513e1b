"""Replicas among which one is chosen: all of a pool, or those of one revision while requests are divided.

Stands below `pool_state.py`, which says among which. `choose` is the hot path: it looks at the replica that the
conversation prefers and, where that one is too busy, at a handful of others, however many there are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from pointsman.router.fleet.replica import Replica
from pointsman.router.fleet.ring import Ring

BOUND = 1.25
"""A preferred replica is passed over once its load is above this many times the mean, and `SLACK` requests."""

SLACK = 4
"""Requests of the usual size: a pool with little to do keeps conversations where their prefix is cached."""

HANDFUL = 8
"""
Replicas next on the ring that are compared where the preferred one is passed over. All are where there are no more,
and where these are above the bound too, since some beginning is then shared by more than a handful can answer.
"""


class Group:
    """`members` are the replicas; `load` is their predicted tokens together, which others keep up to date."""

    __slots__ = ("_ring", "_share", "load", "members")

    def __init__(self) -> None:
        self.members: list[Replica] = []
        self.load = 0
        self._ring: Ring[Replica] | None = None
        self._share = 0.0

    def hold(self, members: list[Replica]) -> None:
        """These are the members from now on."""
        if members != self.members:
            self.members = members
            self._ring = None
        self._share = BOUND / len(members) if members else 0.0
        self.load = sum(replica.tokens for replica in members)

    def choose(self, key: int, usual: float, limit: int, avoid: Replica | None) -> Replica | None:
        """
        Who of the members, at least one, takes a request of the conversation `key` (32 bits); None where none can.

        `usual` is the usual size of a request in predicted tokens, `limit` how many one replica takes at a time.
        """
        ring = self._ring
        if ring is None:
            ring = self._ring = Ring([replica.address for replica in self.members], self.members)
        at = bisect_right(ring.starts, key)
        replica = ring.owners[at]
        bound = self._share * self.load + SLACK * usual
        if replica.tokens <= bound and replica.usable and replica.outstanding < limit and replica is not avoid:
            return replica
        if len(self.members) > HANDFUL:
            best = _least_loaded(ring.successors(at, HANDFUL), limit, avoid)
            if best is not None and best.tokens <= bound:
                return best
        return _least_loaded(self.members, limit, avoid)


def _least_loaded(candidates: Sequence[Replica], limit: int, avoid: Replica | None) -> Replica | None:
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
