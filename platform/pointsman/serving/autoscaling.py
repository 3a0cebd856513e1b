"""How many replicas a pool is to have: what the routers have for it to do, divided by what one replica is to have.

Runs inside Ray Serve's controller, which asks several times a second and must not be kept waiting: the policy reads
nothing but what a thread of its own has fetched from the store. Requests don't pass through Ray, so Ray's counts of
them are empty; where the store is away, what the replicas themselves tell Ray stands in.
"""

from __future__ import annotations

import logging
import os
import weakref
from threading import Event, Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import RedisError

from pointsman.contracts.autoscaling import autoscaling_fields
from pointsman.contracts.config import Pool
from pointsman.contracts.names import Env
from pointsman.serving.replica import LOAD
from pointsman.store.demand import INTERVAL, STALE, Demand, DemandReader

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingConfig, AutoscalingContext

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that the store has to answer."""


def autoscaling_config(pool: Pool, revision: str) -> AutoscalingConfig:
    """What Ray Serve is told of the autoscaling of a `revision` of `pool`, which has some."""
    from ray.serve.config import AutoscalingConfig

    assert pool.autoscaling is not None
    return AutoscalingConfig(**autoscaling_fields(pool, pool.autoscaling, revision))


def wanted(demand: Demand, *, target_requests: float, target_tokens: int | None) -> float:
    """Replicas that `demand` asks for, not rounded."""
    by_requests = demand.requests / target_requests
    return by_requests if target_tokens is None else max(by_requests, demand.tokens / target_tokens)


class DemandAgent:
    """
    Keeps the demand on a `revision` of `pool` at hand, from its first question on, until nobody holds it any more.

    `redis_url`: None where the environment says none; then nothing is ever known.
    """

    def __init__(self, pool: str, revision: str, redis_url: str | None) -> None:
        self._pool = pool
        self._revision = revision
        self._redis_url = redis_url
        self._known = _Known()
        self._started = False

    def demand(self) -> Demand | None:
        """What the routers have for the pool to do; None where nothing was heard of them for `STALE` seconds."""
        if not self._started:
            self._started = True
            self._start()
        return self._known.get(monotonic())

    def _start(self) -> None:
        if self._redis_url is None:
            log.error(
                "pool %s: %s is not set, so nobody knows what waits at the routers", self._pool, Env.REDIS_URL
            )
            return
        known = self._known
        redis = Redis.from_url(self._redis_url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
        reader = DemandReader(redis, self._pool, self._revision)
        Thread(target=_keep, args=(known, reader), name=f"demand-{self._pool}", daemon=True).start()
        weakref.finalize(self, known.stopped.set)


class _Known:
    """What the thread has fetched. The thread holds this alone, so that it ends with its agent."""

    def __init__(self) -> None:
        self.stopped = Event()
        self._lock = Lock()
        self._demand: Demand | None = None
        self._at = 0.0

    def put(self, demand: Demand | None, now: float) -> None:
        with self._lock:
            self._demand, self._at = demand, now

    def get(self, now: float) -> Demand | None:
        with self._lock:
            return self._demand if now - self._at < STALE else None


def _keep(known: _Known, reader: DemandReader) -> None:
    while not known.stopped.wait(INTERVAL):
        began = monotonic()
        try:
            known.put(reader.read(), began)
        except RedisError as error:
            log.warning("the demand can't be read: %s", type(error).__name__)
        except Exception:  # the thread is never to end, whatever is in the store
            log.exception("the demand can't be read")


class Scaler:
    """Decides how many replicas a revision of `pool` is to have; the numbers are those of `autoscaling_fields`."""

    def __init__(self, *, pool: str, revision: str, target_requests: float, target_tokens: int | None) -> None:
        self._targets: dict[str, Any] = {"target_requests": target_requests, "target_tokens": target_tokens}
        self._agent = DemandAgent(pool, revision, os.environ.get(Env.REDIS_URL))

    def __call__(self, context: AutoscalingContext) -> float:
        """
        Replicas, not rounded; bounds and delays are Ray's business.

        Where the routers' demand is not known: what the replicas themselves have to do decides, and none that runs
        alone goes to sleep, since nobody knows who waits.
        """
        demand = self._agent.demand()
        if demand is not None:
            return wanted(demand, **self._targets)
        now: int = context.target_num_replicas
        if not context.current_num_replicas:
            return now
        loads = (context.aggregated_metrics or {}).get(LOAD, {})
        if len(loads) < context.current_num_replicas:
            return now  # not all of them have told anything yet
        running = int(sum(loads.values()))
        return max(1.0, wanted(Demand(running=running), **self._targets))
