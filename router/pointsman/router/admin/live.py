"""The admin API of what goes on now: pools with their replicas, and the routers.

HTTP and nothing else. It shows what routers and replicas have told within the last seconds (`store/live.py`,
`store/replicas.py`), added up over all routers; nothing of it is kept, and with Redis away there is none.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from redis import Redis
from redis.exceptions import RedisError

from pointsman.contracts.config import Pool
from pointsman.contracts.keys import Role
from pointsman.contracts.modes import Mode
from pointsman.contracts.pricing import NANO
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.live_pools import LivePools
from pointsman.router.admin.managers import FILE
from pointsman.store.live import LiveState
from pointsman.store.replicas import Replica, registered
from pointsman.store.revisions import RevisionReport, revisions_of

_HOUR = 3600


class ReplicaAnswer(BaseModel):
    """One replica."""

    address: str
    version: str | None = Field(description="The engine's name and version; null: it is not registered.")
    registered: bool = Field(description="Whether it renews its registration; replicas given by URL never do.")
    states: dict[str, int] = Field(
        description="How many routers see it as `ready`, `resting` (its circuit is open), `trial` or `unhealthy`."
    )
    running: int = Field(description="Requests of all routers that it works on.")
    running_tokens: int = Field(description="What these were predicted to cost: tokens of output.")
    engine_load: int | None = Field(description="Requests that it runs or queues, as it says itself.")


class PoolAnswer(BaseModel):
    """One pool, added up over all routers."""

    pool: str
    model: str
    modes: list[Mode]
    engine: str
    managed_by: str = Field(description="Who alone may change it; `file`: the configuration file.")
    version: int = Field(description="Grows by one with each change; 0: it stands in the configuration file.")
    state: str = Field(description="`ready`, `full` (some wait), `unavailable` (no replica can answer), `unknown`.")
    replicas: list[ReplicaAnswer]
    places: int = Field(
        description="Requests that the replicas can work on at a time, as the router that sees most of them says."
    )
    running: int
    running_tokens: int
    waiting: int
    waiting_tokens: int
    max_waiting: int = Field(description="Requests that may wait, in each router.")


class LastRequests(BaseModel):
    """Which requests are left of a pool that was taken away."""

    routers: int = Field(description="Routers that have told anything in the last seconds; 0: nothing is known.")
    serving: int = Field(description="How many of them send requests to this pool, as far as they know.")
    running: int = Field(description="Requests of all of them that still run on its replicas.")


class PoolList(BaseModel):
    """All pools: the configuration's in its order, then the others by name."""

    data: list[PoolAnswer]
    routers: int = Field(description="Routers that have told; 0: nothing is known.")
    troubles: dict[str, str] = Field(description="Why something is not known.")


class RouterAnswer(BaseModel):
    """One router process."""

    run: str
    host: str
    pid: int
    started_at: datetime
    told_at: datetime
    status: str = Field(description="As `/readyz` says.")
    troubles: dict[str, str]
    in_flight: int


class RateAnswer(BaseModel):
    """What ended in the last seconds, of one model, mode and pool."""

    model: str
    mode: str
    pool: str
    requests_per_second: float
    mean_seconds: float = Field(description="From a request's arrival to the end of its answer.")
    mean_first_byte_seconds: float | None = Field(description="Of streams; null: there were none.")
    prompt_tokens_per_second: float
    output_tokens_per_second: float
    usd_per_hour: float = Field(description="What an hour would cost that went on like these seconds.")


class PoolLoad(BaseModel):
    """What one pool has to do."""

    running: int
    waiting: int
    places: int


class SparedAnswer(BaseModel):
    """An estimate: tokens of output, and nano-dollars."""

    tokens: int
    nano: int


class SparedAnswers(BaseModel):
    """What answers without thinking have spared since the routers began: quartiles of what thinking takes."""

    requests: int = Field(description="Answers that it was estimated of.")
    low: SparedAnswer
    middle: SparedAnswer
    high: SparedAnswer


class LiveAnswer(BaseModel):
    """What goes on now."""

    at: datetime
    routers: list[RouterAnswer]
    in_flight: int
    waiting: int
    running_tokens: int
    waiting_tokens: int
    rates: list[RateAnswer]
    spared: SparedAnswers
    pools: dict[str, PoolLoad] = Field(description="By name.")
    parts: dict[str, dict[str, str] | None] = Field(
        description="The other processes, with what each has to do without; null: it says nothing."
    )
    troubles: dict[str, str] = Field(description="Everything that any process has to do without.")


class PoolStates:
    """What goes on in `pools`, as routers and replicas have told."""

    def __init__(self, pools: LivePools, redis: Redis) -> None:
        self._pools = pools
        self._redis = redis
        self._live = LiveState(redis)

    def all(self) -> PoolList:
        """All of them."""
        versions = self._pools.versions()
        reports, replicas, troubles = self._told()
        by_pool: dict[str, list[Replica]] = {}
        for replica in replicas:
            by_pool.setdefault(replica.pool, []).append(replica)
        answers = [
            _pool(pool, versions.get(pool.name, (0, FILE)), reports, by_pool.get(pool.name, ()))
            for pool in self._pools.directory.all
        ]
        return PoolList(data=answers, routers=len(reports), troubles=troubles)

    def one(
        self, pool: Pool, version: int, managed_by: str
    ) -> tuple[PoolAnswer, dict[str, RevisionReport], dict[str, str]]:
        """What goes on in `pool`, how its revisions fare, and why something of it is not known."""
        reports, replicas, troubles = self._told()
        own = [replica for replica in replicas if replica.pool == pool.name]
        state = _pool(pool, (version, managed_by), reports, own)
        return state, revisions_of(reports, pool.name), troubles

    def last(self, pool: str) -> LastRequests:
        """What is left of the pool called `pool`, whether there is one or not."""
        reports, _, _ = self._told()
        serving = [report["pools"][pool] for report in reports if pool in report["pools"]]
        closing = sum(report.get("closing", {}).get(pool, 0) for report in reports)
        running = closing + sum(one["running"] + one["waiting"] for one in serving)
        return LastRequests(routers=len(reports), serving=len(serving), running=running)

    def _told(self) -> tuple[Sequence[Mapping[str, Any]], Sequence[Replica], dict[str, str]]:
        try:
            reports, replicas = self._live.routers(), registered(self._redis)
        except RedisError:
            return [], [], {"redis": "does not answer"}
        return reports, replicas, {} if reports else {"routers": "none has told anything in the last seconds"}


def live_routes(access: Access, states: PoolStates, redis: Redis) -> APIRouter:
    """`/admin/v1/pools` and `/admin/v1/live`."""
    live = LiveState(redis)
    By = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    routes = APIRouter(
        prefix="/admin/v1",
        tags=["operations"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )

    @routes.get("/pools", summary="Pools: replicas, their states, load, and who waits")
    def pools(by: By) -> PoolList:
        return states.all()

    @routes.get("/live", summary="What goes on now: routers, requests, rates, and what is missing")
    def now(by: By) -> LiveAnswer:
        parts: Mapping[str, Mapping[str, str] | None]
        try:
            reports, parts, troubles = live.routers(), live.parts(), {}
        except RedisError:
            reports, parts, troubles = [], {}, {"redis": "does not answer"}
        for report in reports:
            troubles.update(report.get("troubles", {}))
        every = [pool for report in reports for pool in report["pools"].values()]
        return LiveAnswer(
            at=datetime.now(UTC),
            routers=[RouterAnswer.model_validate(report) for report in reports],
            in_flight=sum(report["in_flight"] for report in reports),
            waiting=sum(pool["waiting"] for pool in every),
            running_tokens=sum(pool["running_tokens"] for pool in every),
            waiting_tokens=sum(pool["waiting_tokens"] for pool in every),
            rates=_rates(reports),
            spared=_spared(reports),
            pools=_loads(reports),
            parts={part: None if told is None else dict(told) for part, told in parts.items()},
            troubles=troubles,
        )

    return routes


def _pool(
    pool: Pool,
    version: tuple[int, str],
    reports: Iterable[Mapping[str, Any]],
    registrations: Iterable[Replica],
) -> PoolAnswer:
    """`registrations`: those of its replicas; `version`: its own, and who manages it."""
    told = [report["pools"][pool.name] for report in reports if pool.name in report["pools"]]
    known = {replica.address: replica for replica in registrations}
    seen: dict[str, list[Mapping[str, Any]]] = {address: [] for address in known}
    for one in told:
        for replica in one["replicas"]:
            seen.setdefault(replica["address"], []).append(replica)
    replicas = [_replica(address, views, known.get(address)) for address, views in sorted(seen.items())]
    waiting = sum(one["waiting"] for one in told)
    able = any(view["state"] in ("ready", "trial") for views in seen.values() for view in views)
    return PoolAnswer(
        pool=pool.name,
        model=pool.model,
        modes=list(pool.modes),
        engine=pool.engine,
        version=version[0],
        managed_by=version[1],
        state="unknown" if not told else "unavailable" if not able else "full" if waiting else "ready",
        replicas=replicas,
        places=max((one["places"] for one in told), default=0),
        running=sum(one["running"] for one in told),
        running_tokens=sum(one["running_tokens"] for one in told),
        waiting=waiting,
        waiting_tokens=sum(one["waiting_tokens"] for one in told),
        max_waiting=pool.max_waiting,
    )


def _replica(address: str, views: Iterable[Mapping[str, Any]], registration: Replica | None) -> ReplicaAnswer:
    views = list(views)
    return ReplicaAnswer(
        address=address,
        version=None if registration is None else registration.version,
        registered=registration is not None,
        states=dict(Counter(view["state"] for view in views)),
        running=sum(view["running"] for view in views),
        running_tokens=sum(view["running_tokens"] for view in views),
        engine_load=None if registration is None else registration.load,
    )


def _rates(reports: Iterable[Mapping[str, Any]]) -> list[RateAnswer]:
    sums: dict[tuple[str, str, str], list[float]] = {}
    for report in reports:
        for rate in report["rates"]:
            found = sums.setdefault((rate["model"], rate["mode"], rate["pool"]), [0.0] * 8)
            for place, value in enumerate(
                (
                    rate["requests"] / rate["window"],
                    rate["requests"],
                    rate["seconds"],
                    rate["streams"],
                    rate["first_byte_seconds"],
                    rate.get("prompt_tokens", 0) / rate["window"],
                    rate.get("output_tokens", 0) / rate["window"],
                    rate.get("nano", 0) / rate["window"],
                )
            ):
                found[place] += value
    return [
        RateAnswer(
            model=model,
            mode=mode,
            pool=pool,
            requests_per_second=per_second,
            mean_seconds=seconds / requests,
            mean_first_byte_seconds=first_byte / streams if streams else None,
            prompt_tokens_per_second=prompt,
            output_tokens_per_second=output,
            usd_per_hour=nano * _HOUR / NANO,
        )
        for (model, mode, pool), told in sorted(sums.items())
        for per_second, requests, seconds, streams, first_byte, prompt, output, nano in (told,)
    ]


def _loads(reports: Iterable[Mapping[str, Any]]) -> dict[str, PoolLoad]:
    loads: dict[str, PoolLoad] = {}
    for report in reports:
        for name, pool in report["pools"].items():
            load = loads.setdefault(name, PoolLoad(running=0, waiting=0, places=0))
            load.running += pool["running"]
            load.waiting += pool["waiting"]
            load.places = max(load.places, pool["places"])
    return loads


def _spared(reports: Iterable[Mapping[str, Any]]) -> SparedAnswers:
    told = [report["spared"] for report in reports if "spared" in report]

    def of(estimate: str) -> SparedAnswer:
        return SparedAnswer(
            tokens=sum(one[estimate]["tokens"] for one in told), nano=sum(one[estimate]["nano"] for one in told)
        )

    return SparedAnswers(
        requests=sum(one["requests"] for one in told), low=of("low"), middle=of("middle"), high=of("high")
    )
