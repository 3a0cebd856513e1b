"""One pool: which of its replicas takes the next request, and who waits for one.

Stands below `place`, which knows requests, and above the single replica. `take` is the hot path; everything it
looks at is kept up to date by `refresh`, `take` and `give_back`. While the pool is upgraded `direct` says how new
requests are divided between its revisions; at all other times nobody looks at those.
"""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.contracts.config import Pool
from pointsman.router.fleet.breaker import Circuit
from pointsman.router.fleet.group import Group
from pointsman.router.fleet.output_length import PRIOR
from pointsman.router.fleet.replica import Replica
from pointsman.router.fleet.revision import Revision
from pointsman.router.fleet.waiting_line import Waiter, WaitingLine
from pointsman.router.metrics import Cell

USUAL = 0.05
"""Weight of the newest request in the pool's usual size of a request."""


_HALF_OPEN = Circuit.HALF_OPEN  # a member of an Enum is slow to look up by way of its class


class PoolState(Group):
    """
    One pool. `members` are the replicas that requests may be placed on; `many` is whether there are several,
    so that the conversation matters; `load` is the members' predicted tokens together, `running` their requests;
    `waiting` is how many wait, in `line`: nobody looks at the line while nobody waits. `revisions` are those that
    have replicas, a weight, or had requests lately, by name.
    """

    __slots__ = (
        "_divided",
        "_full",
        "_gauges",
        "_usual",
        "_waking",
        "answered",
        "config",
        "limit",
        "line",
        "many",
        "replicas",
        "revisions",
        "running",
        "waiting",
    )

    def __init__(self, config: Pool, able: Cell, resting: Cell) -> None:
        super().__init__()
        self.config = config
        self.limit = config.max_ongoing_requests
        self.replicas: dict[str, Replica] = {}
        self.revisions: dict[str, Revision] = {}
        self.many = False
        self.running = 0
        self.waiting = 0
        self.line = WaitingLine()
        self.answered = False
        self._divided: list[Revision] = []
        self._usual = float(PRIOR)
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
            if self._divided:
                replica = self._divide(key, avoid)
            else:
                replica = self.choose(key, self._usual, self.limit, avoid)
            if replica is None and avoid is not None and avoid.usable and avoid.outstanding < self.limit:
                mine = self.replicas.get(avoid.address) is avoid  # it may be of another pool
                replica = avoid if mine else None
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
        if replica.group is not None:
            replica.group.load += tokens
        self.running += 1
        self._usual += (tokens - self._usual) * USUAL
        breaker = replica.breaker
        if breaker.state is _HALF_OPEN:
            breaker.trial = True
            replica.usable = False
        return replica

    def _divide(self, key: int, avoid: Replica | None) -> Replica | None:
        """Who takes a request of `key`, of the revision that it belongs to, or else of one that has room."""
        for revision in sorted(self._divided, key=lambda one: one.score(key), reverse=True):
            replica = revision.choose(key, self._usual, self.limit, avoid)
            if replica is not None:
                return replica
        return None

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
        if replica.group is not None:
            replica.group.load -= tokens
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

    def close(self) -> None:
        """The pool is gone: those that wait go to where else there may be a place for them."""
        for waiter in self.line.all():
            waiter.moved(self)

    def direct(self, traffic: Mapping[str, float]) -> None:
        """
        Divide new requests between revisions by their weights, 0 or more; none given: nobody looks at revisions.

        A revision of weight 0 gets none. One that is not named gets some only where no other has a replica. Where
        there is no room at the revision that a request belongs to, another one with a weight takes it.
        """
        for name in traffic:
            self._revision(name)
        for name, revision in self.revisions.items():
            revision.weight = traffic.get(name)
        self.refresh()

    def refresh(self) -> None:
        """A replica came, left, or is another's equal no more or again: work out who can be placed on."""
        for replica in self.replicas.values():
            if replica.tally is not self._revision(replica.revision).tally:
                replica.tally = self.revisions[replica.revision].tally
            replica.barred = False
            replica.refresh()
        self._bar()
        members = [replica for replica in self.replicas.values() if replica.member]
        self.hold(members)
        self.many = len(members) > 1
        self._group()
        self.running = sum(replica.outstanding for replica in members)
        self._full = not members
        able, resting = self._gauges
        able.set(len(members))
        resting.set(sum(replica.breaker.state is not Circuit.CLOSED for replica in self.replicas.values()))
        self.wake()

    def _bar(self) -> None:
        """Keep new requests from replicas whose revision is to have none."""
        weights = {name: one.weight for name, one in self.revisions.items() if one.weight is not None}
        if not weights:
            return
        served = any(replica.member and weights.get(replica.revision) for replica in self.replicas.values())
        for replica in self.replicas.values():
            weight = weights.get(replica.revision)
            if weight == 0 or (weight is None and served):
                replica.barred = True
                replica.refresh()

    def _group(self) -> None:
        """Work out between which revisions requests are divided: none where there is one at most."""
        for revision in self.revisions.values():
            revision.hold([replica for replica in self.members if replica.revision == revision.name])
        self._divided = [one for one in self.revisions.values() if one.weight and one.members]
        if len(self._divided) < 2:
            self._divided = []
        for replica in self.members:
            replica.group = self.revisions[replica.revision] if self._divided else None

    def _revision(self, name: str) -> Revision:
        revision = self.revisions.get(name)
        if revision is None:
            revision = self.revisions[name] = Revision(name)
        return revision

    def look(self, now: float) -> None:
        """Keep how the revisions fare at `now` (`monotonic` seconds), and forget those that are gone."""
        for name, revision in list(self.revisions.items()):
            revision.tally.look(now)
            here = any(replica.revision == name for replica in self.replicas.values())
            if not here and revision.weight is None and revision.tally.idle:
                del self.revisions[name]

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

    @property
    def sleeps(self) -> bool:
        """Whether there is no replica because nobody asked, and one is started where somebody does."""
        config = self.config
        return not self.replicas and config.autoscaling is not None and config.may_sleep

    def can_answer(self) -> bool:
        """Whether any replica is up, busy or not."""
        return bool(self.members)

    def count(self, circuit: Circuit) -> int:
        """How many replicas have their circuit in this state."""
        return sum(replica.breaker.state is circuit for replica in self.replicas.values())
