"""The admin API of single pools: show one, and make, change, direct and take away those that no file holds.

HTTP and nothing else: what a change does is `live_pools.py`; the list of all, and what goes on in them, is
`live.py`. Bodies are checked by the schema of the configuration file. A pool's `ETag` is its version; a change that
was made of an older one is refused.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from pointsman.contracts.config import Pool
from pointsman.contracts.keys import Role
from pointsman.contracts.pool_file import Traffic, parse_pool, parse_traffic
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.bodies import (
    MOST_TOLD,
    PLAIN,
    Tag,
    check_name,
    checked,
    expected_version,
    json_of,
    named,
    read_body,
)
from pointsman.router.admin.live import LastRequests, PoolAnswer, PoolStates
from pointsman.router.admin.live_pools import LivePools, PresentPool
from pointsman.router.admin.managers import API, FILE, Manager, Origin, TakeFrom, check_manager
from pointsman.store.revisions import RevisionReport

PoolName = Annotated[str, Path(alias="pool", max_length=63, pattern=PLAIN)]


class Twins(StrEnum):
    """What becomes of the pools whose price can't differ from that of the pool that is put."""

    AGREE = "agree"
    REPRICE = "reprice"


class RevisionAnswer(BaseModel):
    """One revision of a pool's replicas, as all routers together see it."""

    replicas: int = Field(description="That can answer.")
    weight: float | None = Field(description="Its share of new requests beside others; null: none was given.")
    requests: int = Field(description="That ended within the window.")
    errors: int = Field(description="Of these, what a replica failed.")
    streams: int
    ttft_mean: float | None = Field(description="Seconds to the first byte of streams; null: there were none.")
    ttft_p95: float | None
    window: float = Field(description="Seconds.")


class OnePool(BaseModel):
    """A pool as it is."""

    name: str
    version: int = Field(description="Grows by one with each change; 0: it stands in the configuration file.")
    managed_by: str = Field(description=f"Who alone may change it; `{FILE}`: the configuration file.")
    origin: str | None = Field(None, description="Of which of its manager's objects it was made.")
    live: bool = Field(description="Whether it is where routers read it; if not, it will be when Redis is back.")
    created_at: datetime | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None
    pool: Pool = Field(description="The pool, as in the configuration file.")
    traffic: dict[str, float] = Field(
        description="Weights of the revisions of its replicas, by which requests are divided; empty: all alike."
    )
    state: PoolAnswer = Field(description="What goes on in it, added up over all routers.")
    revisions: dict[str, RevisionAnswer] = Field(description="How each revision of its replicas fares.")
    troubles: dict[str, str] = Field(description="Why something of its state is not known.")


_SHOWN: dict[str, Any] = {"response_model_exclude_unset": True}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_POOL = _body({"$ref": "#/components/schemas/Pool"})
_TRAFFIC = _body({"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1000}})


def pool_routes(access: Access, pools: LivePools, states: PoolStates) -> APIRouter:
    """The paths under `/admin/v1/pools/{pool}`. Every error has the form of OpenAI's."""
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    Owner = Annotated[Actor, Depends(access.needs(Role.OWNER))]
    routes = APIRouter(
        prefix="/admin/v1/pools",
        tags=["pools"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )

    def answer(response: Response, present: PresentPool, *, defaults: bool = False) -> OnePool:
        response.headers["etag"] = f'"{present.version}"'
        state, revisions, troubles = states.one(present.pool, present.version, present.managed_by)
        return _answer(present, state, revisions, troubles, defaults=defaults)

    @routes.get("/{pool}", summary="One pool: what holds for it, and what goes on in it", **_SHOWN)
    def one(
        name: PoolName,
        by: Reader,
        response: Response,
        defaults: Annotated[bool, Query(description="Write fields at their default too.")] = False,
    ) -> OnePool:
        return answer(response, pools.present(name), defaults=defaults)

    @routes.get(
        "/{pool}/requests", summary="Requests that are left of a pool, which may have been taken away already"
    )
    def left(name: PoolName, by: Reader) -> LastRequests:
        return states.last(name)

    @routes.put("/{pool}", summary="Change a pool, or make it", openapi_extra=_POOL, **_SHOWN)
    async def put(
        name: PoolName,
        by: Owner,
        request: Request,
        response: Response,
        if_match: Tag = None,
        manager: Manager = API,
        origin: Origin = None,
        take_from: TakeFrom = None,
        twins: Annotated[
            Twins,
            Query(
                description="Pools of one model and mode have one price. `reprice`: those of the same manager "
                "follow this one's; `agree`: it is refused where it differs from theirs."
            ),
        ] = Twins.AGREE,
    ) -> OnePool:
        pool = await run_in_threadpool(_pool, await read_body(request), name)
        check_manager(manager)
        present, new = await run_in_threadpool(
            pools.put,
            pool,
            expected=expected_version(if_match),
            manager=manager,
            by=by.name,
            origin=origin,
            take_from=take_from,
            reprice=twins is Twins.REPRICE,
        )
        response.status_code = 201 if new else 200
        return await run_in_threadpool(answer, response, present)

    @routes.put(
        "/{pool}/traffic",
        summary="Divide a pool's requests between revisions of its replicas",
        openapi_extra=_TRAFFIC,
        **_SHOWN,
    )
    async def direct(
        name: PoolName,
        by: Owner,
        request: Request,
        response: Response,
        if_match: Tag = None,
        manager: Manager = API,
    ) -> OnePool:
        value = json_of(await read_body(request))
        traffic: Traffic = checked(lambda: parse_traffic(value))
        present = await run_in_threadpool(
            pools.direct, name, traffic, expected=expected_version(if_match), manager=manager, by=by.name
        )
        return await run_in_threadpool(answer, response, present)

    @routes.delete("/{pool}", status_code=204, summary="Take a pool away; what runs there runs on")
    def delete(
        name: PoolName, by: Owner, if_match: Tag = None, manager: Manager = API, origin: Origin = None
    ) -> None:
        pools.delete(name, expected=expected_version(if_match), manager=manager, by=by.name, origin=origin)

    return routes


def _pool(body: bytes, name: str) -> Pool:
    """The pool in `body`, called `name`; raises `InvalidRequest` that names the fields."""
    value = named(json_of(body), name)
    pool = checked(lambda: parse_pool(value, most=MOST_TOLD + 1))
    check_name(pool.name, name)
    return pool


def _answer(
    present: PresentPool,
    state: PoolAnswer,
    revisions: dict[str, RevisionReport],
    troubles: dict[str, str],
    *,
    defaults: bool,
) -> OnePool:
    written, pool = present.written, present.pool
    return OnePool(
        name=pool.name,
        version=present.version,
        managed_by=present.managed_by,
        live=present.live,
        created_at=None if written is None else _moment(written.created_at),
        updated_at=None if written is None else _moment(written.updated_at),
        updated_by=None if written is None else written.updated_by,
        origin=None if written is None else written.origin,
        pool=Pool.model_validate(pool.model_dump()) if defaults else pool,
        traffic=present.traffic,
        state=state,
        revisions={name: RevisionAnswer(**report._asdict()) for name, report in revisions.items()},
        troubles=troubles,
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
