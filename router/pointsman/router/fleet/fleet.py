"""All pools, and what happens to them and their replicas: the package's face towards the pipeline.

Stands on the other files of the package and ties them together: requests tell it how replicas behaved, the
store which there are, the health checks how they are; it passes each on to the replica's circuit and its pool.
Pools of the configuration are there for good, others come, change and go while requests run.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable
from time import monotonic

from pointsman.contracts.config import Config, Pool
from pointsman.contracts.names import Metric
from pointsman.router.fleet.breaker import CONNECT, REFUSED, Circuit
from pointsman.router.fleet.health_checks import HealthChecks
from pointsman.router.fleet.last_known import LastKnown
from pointsman.router.fleet.pool_state import PoolState
from pointsman.router.fleet.registrations import Registrations
from pointsman.router.fleet.replica import Replica
from pointsman.router.http.site import Site
from pointsman.router.metrics import Cell, Metrics
from pointsman.store.replicas import ReplicaRegistry

log = logging.getLogger(__name__)

MISSES = 2
"""Health checks that fail in a row take a replica out; one that is answered brings it back."""


class Fleet:
    """
    All pools by name in `pools`: those of `config`, and those that were `put` since, whose names are in `made`.
    `epoch` changes whenever a pool has come, gone or become another one.

    `secret`: what replicas that registered themselves want to see; `last_known`: where their list is kept, None for
    nowhere.
    """

    def __init__(
        self,
        config: Config,
        registry: ReplicaRegistry,
        metrics: Metrics,
        *,
        secret: str,
        last_known: LastKnown | None = None,
    ) -> None:
        self._metrics = metrics
        self._shed: dict[tuple[str, int], Cell] = {}
        self.pools: dict[str, PoolState] = {pool.name: self._new(pool) for pool in config.pools}
        self.made: set[str] = set()
        self.epoch = 0
        self.secret = secret
        self._leaving: list[Site] = []
        self._closing: dict[str, list[Replica]] = {}
        self._checks = HealthChecks(self._checked, lambda replica: self.pools[replica.pool].config.health_interval)
        self._registrations = Registrations(
            registry,
            self._registering,
            interval=config.router.registry_interval,
            last_known=last_known,
            came=self._came,
            left=self._left,
            doubted=self._doubted,
        )
        for state in self.pools.values():
            self._list(state)

    @property
    def uses_store(self) -> bool:
        """Whether there are pools whose replicas register themselves."""
        return bool(self._registering())

    @property
    def store_reachable(self) -> bool:
        """Whether the store answered the last time it was asked; True where nobody asks it."""
        return self._registrations.reachable

    async def watch(self) -> None:
        """Follow the registrations, and the health of replicas, until cancelled."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._checks.run()), loop.create_task(self._registrations.follow())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # neither ends by itself: it failed
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- pools that come, change and go

    def put(self, pool: Pool) -> PoolState | None:
        """
        Let `pool` be the one of its name, beside those of the configuration.

        Where it answers what the one before it did, nobody notices but by the new settings. Else that one is
        returned, and is to be closed (`close_pool`) once requests no longer ask for it.
        """
        self.made.add(pool.name)
        state = self.pools.get(pool.name)
        if state is not None and _alike(state.config, pool):
            if state.config != pool:
                state.config = pool
                state.limit = pool.max_ongoing_requests
                self._list(state)
                state.refresh()
            return None
        self.epoch += 1
        fresh = self.pools[pool.name] = self._new(pool)
        self._list(fresh)
        return state

    def drop(self, name: str) -> PoolState | None:
        """There is no pool `name` any more, which was `put`; it is returned as `put` returns one."""
        self.made.discard(name)
        self.epoch += 1
        return self.pools.pop(name, None)

    def close_pool(self, state: PoolState) -> None:
        """Place nothing more on the replicas of `state`, none of `pools` any more; what runs there runs on."""
        for address in list(state.replicas):
            replica = state.remove(address)
            self._left(replica)
            if replica.outstanding:
                self._closing.setdefault(replica.pool, []).append(replica)
        state.refresh()
        state.close()

    def closing(self) -> dict[str, int]:
        """How many requests still run on replicas of pools that were closed, by the name of the pool."""
        for name, replicas in list(self._closing.items()):
            self._closing[name] = [replica for replica in replicas if replica.outstanding]
            if not self._closing[name]:
                del self._closing[name]
        return {name: sum(replica.outstanding for replica in replicas) for name, replicas in self._closing.items()}

    def _new(self, pool: Pool) -> PoolState:
        labels = {"pool": pool.name, "model": pool.model}
        able = self._metrics.gauge(Metric.REPLICAS, labels)
        return PoolState(pool, able, self._metrics.gauge(Metric.RESTING_REPLICAS, labels))

    def _list(self, state: PoolState) -> None:
        """Let the replicas of `state` be those at its URLs, where it has any; those that stay are left alone."""
        addresses = {_address(url) for url in state.config.urls}
        for replica in list(state.replicas.values()):
            listed = not replica.instance
            if replica.address not in addresses and (addresses or listed):
                self._left(state.remove(replica.address))
        for address in addresses - state.replicas.keys():
            replica = state.replicas[address] = Replica(state.config.name, address, "")
            self._came(state, replica)

    def _registering(self) -> list[PoolState]:
        return [state for state in self.pools.values() if not state.config.urls]

    # -- what requests tell

    def failed(self, replica: Replica, reason: str) -> None:
        """
        `replica` failed a request: its circuit opens, where that was enough.

        `reason`: `connect`, `timeout`, `closed`, `garbage`, or `refused` for a server error of the engine.
        """
        if reason in (CONNECT, "closed"):
            replica.site.close()  # what is idle there is most likely dead as well
        replica.tally.errors += 1
        state = self.pools.get(replica.pool)
        if state is None:
            return  # it has been taken away meanwhile
        breaker, now = replica.breaker, monotonic()
        resting = len(state.replicas) - state.count(Circuit.CLOSED)
        others = resting - (breaker.state is not Circuit.CLOSED)
        if breaker.failed(reason, now, may_open=2 * (others + 1) <= len(state.replicas)):
            if breaker.state is Circuit.OPEN:
                rest = breaker.open_until - now
                log.warning(
                    "replica %s of pool %s rests for %.1f s: %s", replica.address, replica.pool, rest, reason
                )
            self._current(replica)
        elif breaker.state is Circuit.CLOSED and reason != REFUSED:
            self._checks.soon(replica)

    def succeeded(self, replica: Replica) -> None:
        """`replica` began a stream, or gave a whole answer."""
        if replica.breaker.succeeded():
            log.info("replica %s of pool %s takes requests again", replica.address, replica.pool)
            self._current(replica)

    def released(self, replica: Replica, tokens: int) -> None:
        """A request on `replica` has ended; `tokens` are what it was predicted to cost."""
        replica.tally.requests += 1
        state = self.pools.get(replica.pool)
        if state is not None:
            state.give_back(replica, tokens)  # if need be to its successor, to which the replica means nothing
        else:
            replica.outstanding -= 1
            replica.tokens -= tokens

    def shed(self, pool: Pool, priority: int) -> None:
        """A request of `priority` was refused since too many wait for `pool` already."""
        cell = self._shed.get((pool.name, priority))
        if cell is None:
            labels = {"pool": pool.name, "model": pool.model, "priority": str(priority)}
            cell = self._shed[pool.name, priority] = self._metrics.counter(Metric.SHED, labels)
        cell.add(1)

    def load_of(self, pools: Iterable[Pool]) -> float:
        """
        How busy this router keeps `pools` together: its requests that run there or wait, per place.

        Infinite where some wait and there is no place at all.
        """
        running = waiting = places = 0
        for pool in pools:
            state = self.pools.get(pool.name)
            if state is None:
                continue  # it has been taken away since the request came
            running += state.running
            places += state.places
            waiting = max(waiting, state.waiting)  # who waits for one of a model's pools waits for all
        if places:
            return (running + waiting) / places
        return math.inf if waiting else 0.0

    def sweep(self, now: float) -> None:
        """Give up on replicas that are silent for longer than their pool allows."""
        for state in self.pools.values():
            for replica in state.replicas.values():
                replica.site.sweep(now)
        for site in self._leaving:
            site.sweep(now)
        self._leaving = [site for site in self._leaving if site.active]

    def close(self) -> None:
        """Close what is idle."""
        for state in self.pools.values():
            for replica in state.replicas.values():
                replica.site.close()

    # -- what the registrations and the health checks tell

    def _came(self, state: PoolState, replica: Replica) -> None:
        self._checks.at(replica, monotonic())

    def _left(self, replica: Replica) -> None:
        """Nothing more is placed on `replica`; what still runs there keeps its deadlines."""
        self._checks.forget(replica)
        replica.site.leave()
        self._leaving.append(replica.site)

    def _doubted(self, replica: Replica) -> None:
        """Place nothing on `replica` before it has answered its health endpoint again."""
        replica.healthy = False
        self._checks.soon(replica)

    def _checked(self, replica: Replica, healthy: bool) -> None:
        breaker, now = replica.breaker, monotonic()
        was = (replica.healthy, breaker.state)
        breaker.health_told(healthy, now)
        if healthy:
            replica.healthy = True
            state = self.pools.get(replica.pool)
            if state is not None:
                state.answered = True
        elif replica.failing >= MISSES:
            replica.healthy = False
        if (replica.healthy, breaker.state) != was:
            what = "can answer" if replica.healthy else "does not answer its health endpoint"
            log.info("replica %s of pool %s %s", replica.address, replica.pool, what)
        self._current(replica)

    def _current(self, replica: Replica) -> None:
        """Act on what has just been told about `replica`, unless it has left meanwhile."""
        state = self.pools.get(replica.pool)
        if state is None or state.replicas.get(replica.address) is not replica:
            return
        if replica.breaker.state is Circuit.OPEN:
            self._checks.at(replica, replica.breaker.open_until)
        before = (replica.member, replica.usable)
        replica.refresh()
        if (replica.member, replica.usable) != before:
            state.refresh()


def _alike(one: Pool, other: Pool) -> bool:
    """Whether requests for the one may be placed on the other."""
    return one.model == other.model and set(one.modes) == set(other.modes)


def _address(url: str) -> str:
    rest = url.removeprefix("http://").split("/", 1)[0]
    return rest if ":" in rest.rsplit("]", 1)[-1] else f"{rest}:80"
