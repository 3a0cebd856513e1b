"""What this router has for each pool to do, told every second: the number of replicas follows it.

Stands beside the fleet and reads it; no request waits for it. A task of its own, so that a pool that sleeps is
woken within a second whatever else there is to tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from redis.exceptions import RedisError

from pointsman.router.fleet import Fleet, PoolState
from pointsman.store.demand import INTERVAL, Demand, DemandWriter, Divided, Told

log = logging.getLogger(__name__)


class DemandReport:
    """Tells the demand on those pools of `fleet` whose number of replicas follows it."""

    def __init__(self, writer: DemandWriter, fleet: Fleet) -> None:
        self._writer = writer
        self._fleet = fleet
        self._told = True

    async def follow(self) -> None:
        """Tell each second, until cancelled."""
        task = asyncio.current_task()
        while True:
            await self._tell()
            if task and task.cancelling():
                raise asyncio.CancelledError  # which redis-py swallows at most of its waits
            await asyncio.sleep(INTERVAL)

    async def withdraw(self) -> None:
        """This run ends in order: it has nothing more for anybody to do."""
        try:
            await self._writer.withdraw()
        except RedisError as error:
            log.warning("could not withdraw the demand of this run: %s", type(error).__name__)

    async def _tell(self) -> None:
        demands = {
            name: _demand(state)
            for name, state in self._fleet.pools.items()
            if state.config.autoscaling is not None
        }
        try:
            await self._writer.tell(demands)
        except RedisError as error:
            if self._told:
                log.warning("could not tell what pools have to do: %s", type(error).__name__)
            self._told = False
        else:
            self._told = True


def _demand(state: PoolState) -> Told:
    """Who waits for several pools of a model is demand on each: any of them may be the one to answer."""
    demand = Demand(state.running, state.waiting, state.load, state.line.tokens if state.waiting else 0)
    weights = {name: one.weight for name, one in state.revisions.items() if one.weight is not None}
    everything = sum(weights.values())
    if not everything:
        return Told(demand)
    running: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for replica in state.replicas.values():
        running[replica.revision] += replica.outstanding
        tokens[replica.revision] += replica.tokens
    return Told(
        demand,
        {
            name: Divided(running[name], tokens[name], weights.get(name, 0.0) / everything)
            for name in state.revisions
        },
    )
