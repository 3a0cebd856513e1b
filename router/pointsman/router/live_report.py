"""How this router is, told each second: to the other processes through Redis, to the metrics, and to the log.

Stands beside the fleet and the health page, and reads both; no request ever waits for it, nor does it count
anything per request. It also brings word of the processes that routers can do without for a while.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter, deque
from time import monotonic, time
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from pointsman.contracts.names import Metric
from pointsman.router.fleet import Fleet, PoolState, Replica
from pointsman.router.fleet.breaker import Circuit
from pointsman.router.fleet.revision import Revision
from pointsman.router.health import Health
from pointsman.router.metrics import Cell, Metrics
from pointsman.router.revision_metrics import RevisionMetrics
from pointsman.router.savings import Savings
from pointsman.store.live import INTERVAL, TTL, LiveRouters

log = logging.getLogger(__name__)

WINDOW = 10
"""Seconds that rates are taken over."""

MISSES = 2
"""Words in a row that could not be told, after which Redis is missing: one may be due to a busy machine."""

_KEY = ("model", "mode", "pool")


class Seen(NamedTuple):
    """What was counted so far of one model, mode and pool. Times are seconds, `nano` nano-dollars, added up."""

    requests: float = 0.0
    seconds: float = 0.0
    streams: float = 0.0
    first_byte: float = 0.0
    prompt: int = 0
    output: int = 0
    nano: int = 0


class LiveReport:
    """Tells how the router run `run` is, until cancelled."""

    def __init__(
        self, run: str, store: LiveRouters, fleet: Fleet, health: Health, metrics: Metrics, savings: Savings
    ) -> None:
        self._run = run
        self._store = store
        self._fleet = fleet
        self._health = health
        self._metrics = metrics
        self._savings = savings
        self._began = time()
        self._heard = monotonic()
        self._misses = 0
        self._missing: set[str] = set()
        self._pools: set[str] = set()
        self._cells: dict[tuple[str, str], Cell] = {}
        self._revisions = RevisionMetrics(metrics)
        self._history: deque[tuple[float, dict[tuple[str, str, str], Seen]]] = deque(maxlen=WINDOW + 1)
        health.watch("redis", self._trouble)

    async def follow(self) -> None:
        """Tell each second."""
        task = asyncio.current_task()
        while True:
            self._note()
            try:
                parts = await self._store.tell(self._run, self._report())
            except RedisError:
                self._misses += 1
                self._health.elsewhere = {}  # who has not been heard of because of Redis is not missing himself
            else:
                self._hear(parts)
            if task and task.cancelling():
                raise asyncio.CancelledError  # which redis-py swallows at most of its waits
            await asyncio.sleep(INTERVAL)

    async def withdraw(self) -> None:
        """This run ends in order: let nobody wait for its next word."""
        try:
            await self._store.withdraw(self._run)
        except RedisError as error:
            log.warning("could not withdraw the report of this run: %s", type(error).__name__)

    def _trouble(self) -> str | None:
        return None if self._misses < MISSES else "does not answer"

    def _hear(self, parts: dict[str, Any]) -> None:
        now = monotonic()
        if self._misses:
            self._misses = 0
            self._heard = now  # others need a moment too
        elsewhere: dict[str, str] = {}
        for part, troubles in parts.items():
            if troubles is not None:
                elsewhere.update(troubles)
            elif now - self._heard > 2 * TTL:
                elsewhere[part] = "says nothing"
        self._health.elsewhere = elsewhere

    def _note(self) -> None:
        """Bring the metrics and the log up to date."""
        troubles = self._health.troubles()
        missing = set(troubles)
        if self._health.started:
            for part in sorted(missing - self._missing):
                log.warning("degraded: %s: %s", part, troubles[part])
            for part in sorted(self._missing - missing):
                log.warning("no longer degraded: %s", part)
            for part in missing ^ self._missing:
                self._gauge(Metric.DEGRADED, part, {"part": part}).set(float(part in missing))
            self._missing = missing
        now = monotonic()
        for name in self._pools - self._fleet.pools.keys():
            self._gone(name)
        self._pools = set(self._fleet.pools)
        for name, state in self._fleet.pools.items():
            labels = {"pool": name, "model": state.config.model}
            self._gauge(Metric.RUNNING, name, labels).set(state.running)
            self._gauge(Metric.WAITING, name, labels).set(state.waiting)
            running = self._gauge(Metric.PREDICTED, f"{name} running", {**labels, "state": "running"})
            running.set(state.load)
            waiting = self._gauge(Metric.PREDICTED, f"{name} waiting", {**labels, "state": "waiting"})
            waiting.set(state.line.tokens if state.waiting else 0)
            state.look(now)
            self._revisions.note(state, labels)
        self._history.append((now, self._seen()))

    def _gone(self, pool: str) -> None:
        """The pool is no more: let no number of it stay as it was last."""
        for name, key in (
            (Metric.RUNNING, pool),
            (Metric.WAITING, pool),
            (Metric.PREDICTED, f"{pool} running"),
            (Metric.PREDICTED, f"{pool} waiting"),
        ):
            cell = self._cells.pop((name, key), None)
            if cell is not None:
                cell.set(0)

    def _gauge(self, name: str, key: str, labels: dict[str, str]) -> Cell:
        cell = self._cells.get((name, key))
        if cell is None:
            kind = "gauge_livemax" if name == Metric.DEGRADED else "gauge_livesum"
            cell = self._cells[name, key] = self._metrics.cell(kind, name, name, labels)
        return cell

    def _seen(self) -> dict[tuple[str, str, str], Seen]:
        return {
            key: Seen(
                times.duration.count,
                times.duration.total,
                times.first_byte.count,
                times.first_byte.total,
                times.prompt,
                times.output,
                times.nano,
            )
            for key, times in self._metrics.all_latencies()
        }

    def _report(self) -> dict[str, Any]:
        troubles = self._health.troubles()
        return {
            "run": self._run,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._began,
            "told_at": time(),
            "status": self._health.status(troubles),
            "troubles": troubles,
            "in_flight": int(self._metrics.in_flight.value),
            "pools": {name: _pool(state) for name, state in self._fleet.pools.items()},
            "closing": self._fleet.closing(),
            "rates": self._rates(),
            "spared": self._savings.told(),
        }

    def _rates(self) -> list[dict[str, Any]]:
        """Requests a second and their mean times, of what ended within the window."""
        (since, before), (now, after) = self._history[0], self._history[-1]
        seconds = now - since
        rates = []
        for key, seen in after.items():
            earlier = before.get(key, Seen())
            requests, streams = seen.requests - earlier.requests, seen.streams - earlier.streams
            if requests > 0 and seconds > 0:
                rates.append(
                    {
                        **dict(zip(_KEY, key, strict=True)),
                        "requests": requests,
                        "streams": streams,
                        "window": seconds,
                        "seconds": seen.seconds - earlier.seconds,
                        "first_byte_seconds": seen.first_byte - earlier.first_byte,
                        "prompt_tokens": seen.prompt - earlier.prompt,
                        "output_tokens": seen.output - earlier.output,
                        "nano": seen.nano - earlier.nano,
                    }
                )
        return rates


def _pool(state: PoolState) -> dict[str, Any]:
    running: Counter[str] = Counter()
    able: Counter[str] = Counter()  # also of those that are to get none: an upgrade begins when they are there
    for replica in state.replicas.values():
        running[replica.revision] += replica.outstanding
        able[replica.revision] += _state(replica) == "ready"
    return {
        "running": state.running,
        "waiting": state.waiting,
        "places": state.places,
        "running_tokens": state.load,
        "waiting_tokens": state.line.tokens if state.waiting else 0,
        "replicas": [
            {
                "address": replica.address,
                "state": _state(replica),
                "running": replica.outstanding,
                "running_tokens": replica.tokens,
            }
            for replica in state.replicas.values()
        ],
        "revisions": {name: _revision(one, able[name], running[name]) for name, one in state.revisions.items()},
    }


def _revision(revision: Revision, able: int, running: int) -> dict[str, Any]:
    told: dict[str, Any] = {"replicas": able, "running": running, **revision.tally.report()}
    if revision.weight is not None:
        told["weight"] = revision.weight
    return told


def _state(replica: Replica) -> str:
    """`ready`, `resting` (its circuit is open), `trial` (half open) or `unhealthy`."""
    if not replica.healthy:
        return "unhealthy"
    if replica.breaker.state is Circuit.OPEN:
        return "resting"
    return "trial" if replica.breaker.state is Circuit.HALF_OPEN else "ready"
