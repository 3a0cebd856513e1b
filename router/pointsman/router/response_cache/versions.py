"""Which versions pools are served in: an engine of another version may answer otherwise.

Stands between the fleet and the keys of answers. What was known last holds while a pool has no replica, so that its
answers are found again, and can be given meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable

from pointsman.contracts.config import Pool
from pointsman.router.fleet import Fleet


class Versions:
    """Tells the versions that pools are served in."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: dict[str, str] = {}

    def __call__(self, pools: Iterable[Pool]) -> str:
        """The versions of the replicas of `pools`, as one text; empty where nobody has told any."""
        return ";".join(self._of(pool.name) for pool in pools)

    def _of(self, pool: str) -> str:
        state = self._fleet.pools.get(pool)
        replicas = () if state is None else state.replicas.values()
        versions = sorted({replica.version for replica in replicas if replica.version})
        if versions:
            self._known[pool] = ",".join(versions)
        return self._known.get(pool, "")
