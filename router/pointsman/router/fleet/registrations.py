"""Follow the registrations in the store, and decide what a missing one means.

Stands as a task of its own, so that no request and no health check ever waits for Redis. A replica that withdrew
is let go at once. One that merely is not there any more, since Redis was emptied or all registrations of its pool
ran out together, is kept for a while as long as it answers its health endpoint: replicas register again within a
second of Redis being back, and a pool must not go dark for that second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from time import monotonic

from redis.exceptions import RedisError

from pointsman.router.fleet.last_known import LastKnown
from pointsman.router.fleet.pool_state import PoolState
from pointsman.router.fleet.replica import Replica
from pointsman.store.replicas import Reading, ReplicaRegistry
from pointsman.store.replicas import Replica as Registration

log = logging.getLogger(__name__)

GRACE = 15.0
"""
Seconds for which replicas without a registration are kept, while they answer: three times a registration's
time-to-live, in which a Redis that was restarted is up again and has heard from every replica.
"""

PATIENCE = 1.0
"""Seconds beyond the interval that Redis has to answer."""


class Registrations:
    """
    Keeps the replicas of `pools()` as the store has them. `reachable` is whether Redis answered the last time.
    Where it does not answer the first time, the replicas in `last_known` stand in.

    `came`, `left` and `doubted` hear of each replica that is new, gone, or kept without a registration.
    """

    def __init__(
        self,
        registry: ReplicaRegistry,
        pools: Callable[[], Sequence[PoolState]],
        *,
        interval: float,
        last_known: LastKnown | None,
        came: Callable[[PoolState, Replica], None],
        left: Callable[[Replica], None],
        doubted: Callable[[Replica], None],
    ) -> None:
        self._registry = registry
        self._pools = pools
        self._interval = interval
        self._last_known = last_known
        self._came = came
        self._left = left
        self._doubted = doubted
        self._epoch: str | None = None
        self._began = False
        self._confirmed = True
        self.reachable = True

    async def follow(self) -> None:
        """Read at the interval until cancelled."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            await self._read()
            if task.cancelling():
                return  # asked, because redis-py swallows a cancellation that comes while it waits for an answer
            await asyncio.sleep(self._interval)

    async def _read(self) -> None:
        if not self._pools():
            return
        try:
            async with asyncio.timeout(self._interval + PATIENCE):
                reading = await self._registry.read()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._unreachable(type(error).__name__)
            return
        self.reachable = self._began = True
        self.apply(reading, monotonic())
        if self._last_known is not None:
            await self._last_known.keep(self._known())

    def _unreachable(self, why: str) -> None:
        if self.reachable:
            log.warning("Redis can't be reached (%s): placing on the last known replicas", why)
        self.reachable = False
        if not self._began and self._last_known is not None:
            self._confirmed = False
            known = _by_pool(self._last_known.load())
            for state in self._pools():
                self._add(state, known.get(state.config.name, ()))
                state.refresh()
        self._began = True

    def apply(self, reading: Reading, now: float) -> None:
        """Make the pools' replicas those of `reading`; `now` in `monotonic` seconds."""
        emptied = not self._confirmed or (self._epoch is not None and reading.epoch != self._epoch)
        self._confirmed = True
        if reading.epoch is not None:
            self._epoch = reading.epoch
        registered = {item.address: item for item in reading.replicas}
        by_pool = _by_pool(reading.replicas)
        for state in self._pools():
            here = by_pool.get(state.config.name, ())
            changed = False
            for replica in list(state.replicas.values()):
                item = registered.get(replica.address)
                if item is not None and (item.pool, item.instance) == (replica.pool, replica.instance):
                    replica.missing_since = None
                    continue
                lost = item is None and (emptied or (replica.address in reading.expired and not here))
                if lost and replica.missing_since is None:
                    log.warning("replica %s of pool %s lost its registration", replica.address, replica.pool)
                    replica.missing_since = now
                    self._doubted(replica)
                kept = item is None and replica.missing_since is not None and now - replica.missing_since < GRACE
                if not kept or replica.failing:
                    self._left(state.remove(replica.address))
                changed = True
            changed |= self._add(state, here)
            if changed:
                state.refresh()

    def _add(self, state: PoolState, registered: Sequence[Registration]) -> bool:
        fresh = [item for item in registered if item.address not in state.replicas]
        for item in fresh:
            replica = Replica(state.config.name, item.address, item.instance, item.version, item.revision)
            state.replicas[item.address] = replica
            self._came(state, replica)
        return bool(fresh)

    def _known(self) -> list[Registration]:
        return [
            Registration(replica.pool, replica.address, replica.instance, "", revision=replica.revision)
            for state in self._pools()
            for replica in state.replicas.values()
        ]


def _by_pool(registered: Iterable[Registration]) -> dict[str, list[Registration]]:
    found: dict[str, list[Registration]] = {}
    for item in registered:
        found.setdefault(item.pool, []).append(item)
    return found
