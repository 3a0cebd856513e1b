"""Whether this router can answer: `/livez`, `/startupz` and `/readyz`.

Answered by the data plane itself, since only it knows; read by probes and by people. Each part that requests can
do without for a while is asked for its trouble here, so that one page says what is missing; `live_report.py` brings
the same into the metrics and the log.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import orjson

from pointsman.router.fleet import Fleet
from pointsman.router.fleet.breaker import Circuit
from pointsman.router.tenants import Tenants

PATIENCE = 10.0
"""Seconds that a router which starts waits for pools that the admin API has made."""

Trouble = Callable[[], str | None]
"""What is wrong with a part, in a few words that hold nothing of a request; None while all is well."""


class Health:
    """
    `/livez`: 200 as long as the process answers at all.
    `/startupz`: 200 once every pool has answered once or sleeps on purpose, else 503. Pools that the admin API made
    are waited for no longer than `PATIENCE`: any may lack its machines, and its requests wait for it alone.
    `/readyz`: 503 before that, while draining, and when no pool at all can answer or nobody is let in; else 200,
    where there are no pools yet too: those who make them come this way.
    Whatever else is missing makes the status `degraded` and is listed under `missing`, with a few words under
    `troubles`.
    """

    PATHS = ("/livez", "/startupz", "/readyz")

    def __init__(self, fleet: Fleet, tenants: Tenants) -> None:
        self._fleet = fleet
        self._tenants = tenants
        self._watched: dict[str, Trouble] = {}
        self._began = monotonic()
        self._started = False
        self.draining = False
        self.elsewhere: dict[str, str] = {}
        """The troubles of other processes, as they were told last."""

    def watch(self, part: str, trouble: Trouble) -> None:
        """Ask `trouble` how `part` is, from now on; it is to answer at once."""
        self._watched[part] = trouble

    @property
    def started(self) -> bool:
        """Whether every pool has answered once or sleeps on purpose."""
        if not self._started:
            waiting = {
                name for name, state in self._fleet.pools.items() if not (state.answered or state.config.may_sleep)
            }
            if monotonic() - self._began >= PATIENCE:
                waiting -= self._fleet.made
            self._started = not waiting
        return self._started

    def troubles(self) -> dict[str, str]:
        """What is missing, by a short name, in a few words each."""
        found = {
            f"pool {name}": "no replica can answer"
            for name, state in self._fleet.pools.items()
            if not (state.can_answer() or state.sleeps)
        }
        if not self._fleet.pools:
            found["pools"] = "there are none yet"
        if not self._fleet.store_reachable and self._fleet.uses_store:
            found["redis"] = "does not answer: replicas and policies are those that were known last"
        for part, trouble in self._watched.items():
            words = trouble()
            if words is not None:
                found.setdefault(part, words)
        for part, words in self.elsewhere.items():
            found.setdefault(part, words)
        return found

    def status(self, troubles: dict[str, str]) -> str:
        """`starting`, `draining`, `unavailable`, `degraded` or `ready`."""
        if not self.started:
            return "starting"
        if self.draining:
            return "draining"
        pools = self._fleet.pools.values()
        # A router whose pools all sleep must be asked, or nobody ever wakes one.
        answering = not pools or any(state.can_answer() or state.sleeps for state in pools)
        if self._tenants.stale or not answering:
            return "unavailable"
        return "degraded" if troubles else "ready"

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and JSON body for `path`, one of `PATHS`."""
        pools: dict[str, Any] = {
            name: {
                "can_answer": state.can_answer(),
                "asleep": state.sleeps,
                "replicas": len(state.replicas),
                "healthy": sum(replica.healthy for replica in state.replicas.values()),
                "circuits": {circuit.value: state.count(circuit) for circuit in Circuit},
                "waiting": state.waiting,
            }
            for name, state in self._fleet.pools.items()
        }
        troubles = self.troubles()
        status = self.status(troubles)
        good = path == "/livez" or (self.started if path == "/startupz" else status in ("ready", "degraded"))
        body = {"status": status, "missing": list(troubles), "troubles": troubles, "pools": pools}
        return (200 if good else 503), orjson.dumps(body)
