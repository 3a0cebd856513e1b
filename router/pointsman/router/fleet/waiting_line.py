"""Who waits for a place in a pool, and in which order: by priority, then fairly between tenants.

Stands below `pool_state.py`, which alone asks it, and only while somebody waits. Within a priority it is start-time
fair queueing (Goyal, Vin and Cheng 1996) over predicted tokens divided by the tenant's weight. A request is charged
to its tenant when it gets its place, so that one who leaves, or is pushed out, has paid nothing. Times here are
virtual: tokens divided by weight.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pointsman.router.fleet.pool_state import PoolState

TURN = 16
"""
One place in so many goes to a lower priority that waits, and one seat in so many is kept for each: who is served
last is slow, not starved.
"""

_SPARE = 64
"""Entries of no use any more that are let be."""


class Waiter(Protocol):
    """A request that waits for a place. `tokens`: what it is predicted to cost."""

    tenant: str
    priority: int
    weight: float
    tokens: int

    def try_again(self, state: PoolState) -> bool:
        """Take a place in the pool `state`; False where there is none after all."""

    def pushed_out(self, state: PoolState) -> None:
        """Its seat in the pool `state` is somebody else's now."""

    def moved(self, state: PoolState) -> None:
        """The pool `state` is gone."""


class _Flow:
    """
    One tenant's requests in one priority. `finish`: when the last that was served is paid for; `start`: when the
    first that waits begins; `told`: the greatest share of the seats that stands for it in `_Rank.crowd`.
    """

    __slots__ = ("finish", "queued", "rank", "start", "told", "waiters", "weight")

    def __init__(self, rank: _Rank) -> None:
        self.rank = rank
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.weight = 1.0
        self.start = 0.0
        self.finish = 0.0
        self.queued = False
        self.told = 0.0

    @property
    def share(self) -> float:
        """Seats that it takes, by its weight."""
        return len(self.waiters) / self.weight


class _Rank:
    """
    The requests of one priority. `now`: its virtual time; `seats`: how many wait; `passed`: how many of a higher
    priority were served since one of these.
    """

    __slots__ = ("_numbers", "_order", "_prune_at", "crowd", "flows", "now", "passed", "priority", "seats")

    def __init__(self, priority: int, numbers: Iterator[int]) -> None:
        self.priority = priority
        self.now = 0.0
        self.seats = 0
        self.passed = 0
        self.flows: dict[str, _Flow] = {}
        self.crowd: list[tuple[float, int, _Flow]] = []
        self._order: list[tuple[float, int, _Flow]] = []
        self._numbers = numbers
        self._prune_at = _SPARE

    def join(self, waiter: Waiter) -> _Flow:
        flow = self.flows.get(waiter.tenant)
        if flow is None:
            if len(self.flows) >= self._prune_at:
                self._prune()
            flow = self.flows[waiter.tenant] = _Flow(self)
        if not flow.waiters:
            flow.weight = waiter.weight
            flow.start = max(self.now, flow.finish)
            if not flow.queued:
                flow.queued = True
                heappush(self._order, (flow.start, next(self._numbers), flow))
        flow.waiters[waiter] = None
        self.seats += 1
        share = flow.share
        if share > flow.told:
            flow.told = share
            heappush(self.crowd, (-share, next(self._numbers), flow))
            if len(self.crowd) > _SPARE + 4 * self.seats:
                self._recount()
        return flow

    def first(self) -> Waiter:
        """Who is next of those that wait, at least one."""
        order = self._order
        while True:
            start, _, flow = order[0]
            if not flow.waiters:
                flow.queued = False
                heappop(order)
            elif flow.start > start:  # it left, and came again later
                heapreplace(order, (flow.start, next(self._numbers), flow))
            else:
                return next(iter(flow.waiters))

    def serve(self, flow: _Flow, waiter: Waiter) -> None:
        """Charge `waiter`, whom `first` has just named, and take it out."""
        flow.finish = flow.start + waiter.tokens / flow.weight
        self.now = max(self.now, flow.start)
        self.leave(flow, waiter)
        flow.start = flow.finish
        if flow.waiters:
            heapreplace(self._order, (flow.start, next(self._numbers), flow))

    def leave(self, flow: _Flow, waiter: Waiter) -> None:
        del flow.waiters[waiter]
        self.seats -= 1

    def most_crowded(self) -> _Flow:
        """The tenant that takes the most seats by its weight."""
        crowd = self.crowd
        while True:
            share, _, flow = crowd[0]
            now = flow.share
            if now and now == -share:
                return flow
            heappop(crowd)
            if -share == flow.told:
                flow.told = now
                if now:
                    heappush(crowd, (-now, next(self._numbers), flow))

    def _recount(self) -> None:
        for flow in self.flows.values():
            flow.told = flow.share
        busy = (flow for flow in self.flows.values() if flow.waiters)
        self.crowd = [(-flow.told, next(self._numbers), flow) for flow in busy]
        heapify(self.crowd)

    def _prune(self) -> None:
        """Forget the tenants that nothing is remembered of."""
        self._order = [entry for entry in self._order if entry[2].waiters]
        heapify(self._order)
        kept = {}
        for tenant, flow in self.flows.items():
            flow.queued = bool(flow.waiters)
            if flow.waiters or flow.finish > self.now:
                kept[tenant] = flow
        self.flows = kept
        self._recount()
        self._prune_at = max(_SPARE, 2 * len(kept))


class WaitingLine:
    """Those that wait for a place in one pool."""

    __slots__ = ("_flows", "_numbers", "_ranks", "_urgent")

    def __init__(self) -> None:
        self._urgent: OrderedDict[Waiter, None] = OrderedDict()
        self._ranks: list[_Rank] = []  # the highest first; those in which somebody waits
        self._flows: dict[Waiter, _Flow] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._flows)

    def all(self) -> tuple[Waiter, ...]:
        """All that wait, in no order."""
        return (*self._urgent, *self._flows)

    @property
    def tokens(self) -> int:
        """Predicted tokens of all that wait. Looks at each of them."""
        return sum(waiter.tokens for waiters in (self._urgent, self._flows) for waiter in waiters)

    def join(self, waiter: Waiter, *, urgent: bool = False) -> None:
        """`waiter` waits from now on; an `urgent` one goes before all that are not, whatever its priority."""
        if urgent:
            self._urgent[waiter] = None
        else:
            self._flows[waiter] = self._rank(waiter.priority).join(waiter)

    def first(self) -> Waiter:
        """Who is next of those that wait, at least one."""
        if self._urgent:
            return next(iter(self._urgent))
        return self._next_rank().first()

    def serve(self, waiter: Waiter) -> None:
        """`waiter`, the first, has its place."""
        if waiter in self._urgent:
            del self._urgent[waiter]
            return
        flow = self._flows.pop(waiter)
        served = flow.rank
        served.serve(flow, waiter)
        served.passed = 0
        for rank in self._ranks:
            if rank.priority < served.priority:
                rank.passed += 1
        if not served.seats:
            self._ranks.remove(served)

    def leave(self, waiter: Waiter) -> bool:
        """`waiter` waits no more, and is charged nothing; False where it did not."""
        if waiter in self._urgent:
            del self._urgent[waiter]
            return True
        flow = self._flows.pop(waiter, None)
        if flow is None:
            return False
        flow.rank.leave(flow, waiter)
        if not flow.rank.seats:
            self._ranks.remove(flow.rank)
        return True

    def least(self, newcomer: Waiter, seats: int) -> Waiter | None:
        """
        Who has to go so that `newcomer` may wait where there are `seats` and all are taken; None: `newcomer`.

        It is one of the lowest priority that has more than its kept seats, and there the latest of the tenant that
        takes the most seats by its weight.
        """
        kept = seats // TURN
        mine = newcomer.priority
        for rank in reversed(self._ranks):
            if rank.priority > mine and kept < 1:
                return None
            if rank.seats + (rank.priority == mine) > kept:
                flow = rank.most_crowded()
                if rank.priority == mine:
                    own = rank.flows.get(newcomer.tenant)
                    weight = newcomer.weight if own is None or not own.waiters else own.weight
                    taken = 0 if own is None else len(own.waiters)
                    if (taken + 1) / weight >= flow.share:
                        return None
                return next(reversed(flow.waiters))
        return None

    def _rank(self, priority: int) -> _Rank:
        for rank in self._ranks:
            if rank.priority == priority:
                return rank
        rank = _Rank(priority, self._numbers)
        self._ranks.append(rank)
        self._ranks.sort(key=_descending)
        return rank

    def _next_rank(self) -> _Rank:
        ranks = self._ranks
        highest = ranks[0]
        if len(ranks) > 1:
            passed = max(ranks, key=_passed)
            if passed.passed >= TURN - 1:
                return passed
        return highest


def _passed(rank: _Rank) -> int:
    return rank.passed


def _descending(rank: _Rank) -> int:
    return -rank.priority
