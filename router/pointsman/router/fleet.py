"""The replicas as the data plane knows them: who is alive, how busy, and who waits for one.

Stands between the registrations in the store and the step `place`. A request never asks the store: a task
reads the registrations at an interval, and a replica becomes usable once its health endpoint has answered.
When Redis is away the last known replicas stay; those that fail are left out for a while by what they answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic

from redis.exceptions import RedisError

from pointsman.contracts.config import Config, Pool
from pointsman.contracts.names import Metric
from pointsman.router.http.upstream import Site, UpstreamConnection, tcp_site
from pointsman.router.http.wire import request_head
from pointsman.router.metrics import Cell, Metrics
from pointsman.store.replicas import Replica as Registration
from pointsman.store.replicas import ReplicaRegistry

log = logging.getLogger(__name__)

REST = 2.0
"""Seconds for which a replica that failed a request is left out, unless a new instance takes its place."""

HEALTH_TIMEOUT = 5.0
"""Seconds a replica has to answer its health endpoint."""

HEALTH_INTERVAL = 5.0
"""Seconds between two looks at the health of replicas that somebody else runs."""


class Replica:
    """One replica: its connections, and how many requests this router has running on it."""

    __slots__ = ("address", "healthy", "host", "instance", "outstanding", "pool", "rest_until", "site", "tokens")

    def __init__(self, pool: str, address: str, instance: str) -> None:
        self.pool = pool
        self.address = address
        self.instance = instance
        self.host, port = address.rsplit(":", 1)
        self.site: Site = tcp_site(self.host.strip("[]"), int(port))
        self.outstanding = 0
        self.tokens = 0
        self.healthy = False
        self.rest_until = 0.0


class PoolState:
    """One pool: its replicas, and the requests that wait for one of them."""

    __slots__ = ("answered", "config", "gauge", "replicas", "waiting")

    def __init__(self, config: Pool, gauge: Cell) -> None:
        self.config = config
        self.gauge = gauge
        self.replicas: dict[str, Replica] = {}
        self.waiting: deque[Callable[[], None]] = deque()
        self.answered = False

    def pick(self, avoid: Replica | None = None) -> Replica | None:
        """The usable replica with the fewest requests running; `avoid` only where there is no other."""
        now = monotonic()
        best: Replica | None = None
        for replica in self.replicas.values():
            if not replica.healthy or replica.rest_until > now:
                continue
            if replica.outstanding >= self.config.max_ongoing_requests:
                continue
            if best is None or (replica is not avoid, -replica.outstanding) > (
                best is not avoid,
                -best.outstanding,
            ):
                best = replica
        return best

    def can_answer(self) -> bool:
        """Whether any replica is up, busy or not."""
        now = monotonic()
        return any(replica.healthy and replica.rest_until <= now for replica in self.replicas.values())

    def wake(self) -> None:
        """Let those that wait try again, as many as there are places."""
        for _ in range(len(self.waiting)):
            # One that is refused at once frees its place again, which wakes others from inside this loop.
            if not self.waiting or self.pick() is None:
                return
            self.waiting.popleft()()


class Fleet:
    """All pools of one configuration."""

    def __init__(self, config: Config, registry: ReplicaRegistry, metrics: Metrics, *, secret: str) -> None:
        self.pools = {
            pool.name: PoolState(pool, metrics.gauge(Metric.REPLICAS, {"pool": pool.name, "model": pool.model}))
            for pool in config.pools
        }
        self.secret = secret
        self.uses_store = any(not pool.urls for pool in config.pools)
        self.store_reachable = True
        self._registry = registry
        self._interval = config.router.registry_interval
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._leaving: list[Site] = []
        for state in self.pools.values():
            for url in state.config.urls:
                address = _address(url)
                state.replicas[address] = Replica(state.config.name, address, "")

    async def watch(self) -> None:
        """Follow the registrations, and the health of replicas, until cancelled."""
        static_due = 0.0
        task = asyncio.current_task()
        # Asked, because redis-py swallows a cancellation that comes while it waits for an answer.
        while task is not None and not task.cancelling():
            if self.uses_store:
                await self._read_registrations()
            now = monotonic()
            look_at_static = now >= static_due
            if look_at_static:
                static_due = now + HEALTH_INTERVAL
            for state in self.pools.values():
                for replica in state.replicas.values():
                    lost = not replica.healthy and replica.rest_until <= now
                    if lost or (look_at_static and state.config.urls):
                        self._probe(state, replica)
                state.gauge.set(sum(replica.healthy for replica in state.replicas.values()))
                state.wake()
            await asyncio.sleep(self._interval)

    def failed(self, replica: Replica, reason: str) -> None:
        """
        `replica` failed a request: leave it out for a while, and until its health endpoint answers again.

        `reason`: `connect`, `timeout`, `closed`, `garbage`, or `refused` for a server error of the engine.
        """
        if reason == "refused":
            return  # it answers; the request goes elsewhere, the replica need not rest
        log.info("replica %s of pool %s rests: %s", replica.address, replica.pool, reason)
        replica.rest_until = monotonic() + REST
        replica.healthy = False
        replica.site.close()

    def succeeded(self, replica: Replica) -> None:
        """`replica` began a stream, or gave a whole answer."""
        replica.rest_until = 0.0

    def released(self, replica: Replica, tokens: int) -> None:
        """A request on `replica` has ended; `tokens` are what it was predicted to cost."""
        replica.tokens -= tokens
        replica.outstanding -= 1
        self.pools[replica.pool].wake()

    def sweep(self, now: float) -> None:
        """Give up on replicas that are silent for longer than their pool allows."""
        for state in self.pools.values():
            for replica in state.replicas.values():
                replica.site.sweep(now)
        for site in self._leaving:
            site.sweep(now)
        self._leaving = [site for site in self._leaving if site.busy]

    def close(self) -> None:
        for probe in list(self._probes.values()):
            probe.cancel()
        for state in self.pools.values():
            for replica in state.replicas.values():
                replica.site.close()

    async def _read_registrations(self) -> None:
        try:
            async with asyncio.timeout(self._interval + 1.0):
                registered = await self._registry.alive()
        except (RedisError, OSError, TimeoutError) as error:
            if self.store_reachable:
                log.warning("Redis can't be reached (%s): placing on the last known replicas", type(error).__name__)
            self.store_reachable = False
            return
        self.store_reachable = True
        for state in self.pools.values():
            if not state.config.urls:
                self._follow(state, [item for item in registered if item.pool == state.config.name])

    def _follow(self, state: PoolState, registered: list[Registration]) -> None:
        known = state.replicas
        present = {item.address for item in registered}
        for address in [address for address in known if address not in present]:
            self._leave(known.pop(address))
        for item in registered:
            replica = known.get(item.address)
            if replica is not None and replica.instance == item.instance:
                continue
            if replica is not None:
                self._leave(replica)
            known[item.address] = Replica(state.config.name, item.address, item.instance)

    def _leave(self, replica: Replica) -> None:
        """Place nothing more on `replica`; what still runs there keeps its deadlines."""
        replica.site.close()
        self._leaving.append(replica.site)

    def _probe(self, state: PoolState, replica: Replica) -> None:
        """Ask for the health of `replica`, unless that is being asked already."""
        key = f"{replica.address} {replica.instance}"
        if key in self._probes or state.replicas.get(replica.address) is not replica:
            return
        task = asyncio.get_running_loop().create_task(self._ask_health(state, replica))
        self._probes[key] = task
        task.add_done_callback(lambda _: self._probes.pop(key, None))

    async def _ask_health(self, state: PoolState, replica: Replica) -> None:
        healthy = await _answers(replica)
        if healthy and replica.rest_until > monotonic():
            return
        if healthy and not replica.healthy:
            log.info("replica %s of pool %s can answer", replica.address, replica.pool)
        replica.healthy = healthy
        if healthy:
            state.answered = True
            state.wake()


class _Health:
    """Receives the answer of a health endpoint."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        if not self.status.done():
            self.status.set_result(status)

    def on_data(self, data: bytes) -> None:
        """The body says nothing that the status does not."""

    def on_complete(self) -> None:
        """The status has been told."""

    def on_lost(self, reason: str) -> None:
        if not self.status.done():
            self.status.set_result(0)


async def _answers(replica: Replica) -> bool:
    """Whether the health endpoint answers with anything but a server error; 404 is an engine without one."""
    opened: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()

    def use(connection: UpstreamConnection | None) -> None:
        if not opened.done():
            opened.set_result(connection)
        elif connection is not None:
            connection.abort()

    replica.site.open(HEALTH_TIMEOUT, use)
    connection = await opened
    if connection is None:
        return False
    health = _Health()
    request = request_head("GET", "/health", [("host", replica.address), ("connection", "close")], length=0)
    connection.send(request, health, first_byte_timeout=HEALTH_TIMEOUT, idle_timeout=HEALTH_TIMEOUT)
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT):
            return 0 < await health.status < 500
    except TimeoutError:
        connection.abort()
        return False


def _address(url: str) -> str:
    rest = url.removeprefix("http://").split("/", 1)[0]
    return rest if ":" in rest.rsplit("]", 1)[-1] else f"{rest}:80"
