"""The pools that this process routes to: those of the configuration, and those that the admin API has made.

Stands between what is told of pools (`pool_watch.py`) and whatever lives by them: the fleet, the models of the
tenants, the prices. Lets all of them follow at once, between two requests, and in an order in which nobody asks for
what is not there: prices first, then replicas, then models; what has gone is closed last. Touches no store and no
clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.contracts.config import Config, Pool
from pointsman.router.fleet import Fleet
from pointsman.router.snapshot import Snapshot
from pointsman.store.pool_projection import MadePool


class Pools:
    """
    All pools of the process. `now` are they, by name: one mapping for as long as the process runs.

    Pools of `config` stay as they are; one that was made under the name of one of them is left out.
    """

    def __init__(self, config: Config, snapshot: Snapshot, fleet: Fleet) -> None:
        self._configured = {pool.name: pool for pool in config.pools}
        self._snapshot = snapshot
        self._fleet = fleet
        self._divided: set[str] = set()  # pools whose requests are divided between revisions
        self.now: dict[str, Pool] = dict(self._configured)

    def take(self, changed: Mapping[str, MadePool | None]) -> None:
        """Let the pools of `changed` be these from now on; None: it is gone."""
        there = {name: made for name, made in changed.items() if name not in self._configured and made is not None}
        gone = [name for name, made in changed.items() if made is None and name in self._fleet.made]
        self._snapshot.prices.configure({name: made.prices for name, made in there.items()})
        closing = [self._fleet.put(made.pool) for made in there.values()]
        closing += [self._fleet.drop(name) for name in gone]
        for name, made in there.items():
            self.now[name] = made.pool
        for name in gone:
            del self.now[name]
            self._divided.discard(name)
        # The file's in its order, then the others by name: the same one is first in every process.
        others = sorted(name for name in self.now if name not in self._configured)
        self._snapshot.tenants.serve([*self._configured.values(), *(self.now[name] for name in others)])
        for name, made in there.items():
            if made.traffic or name in self._divided:
                self._fleet.pools[name].direct(made.traffic)
            if made.traffic:
                self._divided.add(name)
            else:
                self._divided.discard(name)
        for state in closing:
            if state is not None:
                self._fleet.close_pool(state)
