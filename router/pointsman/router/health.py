"""Whether this router can answer: `/startupz` and `/readyz`.

Answered by the data plane itself, since only it knows; read by probes and by people.
"""

from __future__ import annotations

import orjson

from pointsman.contracts.config import Pool
from pointsman.router.fleet import Fleet
from pointsman.router.fleet.breaker import Circuit


class Health:
    """
    `/startupz`: 200 once every pool has answered once or sleeps on purpose, else 503.
    `/readyz`: 503 before that, while draining, and when no pool at all can answer; else 200. Whatever else is
    missing makes the status `degraded` and is listed under `missing`.
    """

    PATHS = ("/startupz", "/readyz")

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._started = False
        self.draining = False

    @property
    def started(self) -> bool:
        """Whether every pool has answered once or sleeps on purpose."""
        if not self._started:
            self._started = all(state.answered or _sleeps(state.config) for state in self._fleet.pools.values())
        return self._started

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and JSON body for `path`, one of `PATHS`."""
        pools = {}
        missing = []
        for name, state in self._fleet.pools.items():
            able = state.can_answer()
            pools[name] = {
                "can_answer": able,
                "replicas": len(state.replicas),
                "healthy": sum(replica.healthy for replica in state.replicas.values()),
                "circuits": {circuit.value: state.count(circuit) for circuit in Circuit},
                "waiting": state.waiting,
            }
            if not able:
                missing.append(f"pool {name}")
        none_can_answer = len(missing) == len(pools)
        if not self._fleet.store_reachable and self._fleet.uses_store:
            missing.append("redis")
        started = self.started
        if not started:
            status = "starting"
        elif self.draining:
            status = "draining"
        elif none_can_answer:
            status = "unavailable"
        else:
            status = "degraded" if missing else "ready"
        good = started if path == "/startupz" else status in ("ready", "degraded")
        body = orjson.dumps({"status": status, "missing": missing, "pools": pools})
        return (200 if good else 503), body


def _sleeps(pool: Pool) -> bool:
    """Whether `pool` is meant to have no replica until somebody asks for one."""
    least = pool.autoscaling.min_replicas if pool.autoscaling else pool.replicas
    return least == 0 and not pool.urls
