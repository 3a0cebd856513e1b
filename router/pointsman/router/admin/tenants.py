"""The admin API of tenants: page through them; make, change and delete those that no configuration file holds.

HTTP and nothing else: what a change does is `live_tenants.py`. Bodies are checked by the schema of the
configuration file. A tenant's `ETag` is its version; a change that was made of an older one is refused.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from pointsman.contracts.config import Tenant
from pointsman.contracts.keys import Role
from pointsman.contracts.tenant_file import KEYS, parse_tenant
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
from pointsman.router.admin.live_tenants import LiveTenants, PresentTenant
from pointsman.router.admin.managers import API, FILE, Manager, Origin, TakeFrom, check_manager

MOST = 1000
"""Tenants on one page at most."""

TenantName = Annotated[str, Path(alias="tenant", max_length=63, pattern=PLAIN)]


class TenantAnswer(BaseModel):
    """A tenant as it is."""

    name: str
    origin: str | None = Field(None, description="Of which of its manager's objects it was made.")
    version: int = Field(description="Grows by one with each change; 0: it stands in the configuration file.")
    managed_by: str = Field(description=f"Who alone may change it; `{FILE}`: the configuration file.")
    live: bool = Field(description="Whether it is where routers read it; if not, it will be when Redis is back.")
    keys: int = Field(description="Keys made by this API that open anything.")
    created_at: datetime | None = None
    updated_at: datetime | None = None
    updated_by: str | None = None
    document: Tenant = Field(description="The tenant, as in the configuration file.")


class TenantPage(BaseModel):
    """Some tenants, by name."""

    data: list[TenantAnswer]
    after: str | None = Field(description="What to give as `after` for the next page; null: there is none.")


_SHOWN: dict[str, Any] = {"response_model_exclude_unset": True, "response_model_exclude": {"document": {KEYS}}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tenant"}}},
    }
}


def tenant_routes(access: Access, tenants: LiveTenants) -> APIRouter:
    """The paths under `/admin/v1/tenants`. Every error has the form of OpenAI's."""
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    Owner = Annotated[Actor, Depends(access.needs(Role.OWNER))]
    routes = APIRouter(
        prefix="/admin/v1/tenants",
        tags=["tenants"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )

    def answer(response: Response, present: PresentTenant, *, defaults: bool = False) -> TenantAnswer:
        response.headers["etag"] = f'"{present.version}"'
        return _answer(present, defaults=defaults)

    @routes.get(
        "",
        response_model_exclude_unset=True,
        response_model_exclude={"data": {"__all__": {"document": {KEYS}}}},
        summary="Tenants by name, page by page",
    )
    def some(
        by: Reader,
        limit: Annotated[int, Query(ge=1, le=MOST, description="How many at most.")] = 100,
        after: Annotated[
            str | None, Query(max_length=63, pattern=PLAIN, description="The `after` of the page before.")
        ] = None,
        prefix: Annotated[str, Query(max_length=63, pattern=PLAIN, description="How their names begin.")] = "",
        managed_by: Annotated[
            str | None, Query(max_length=63, pattern=PLAIN, description="Of this manager.")
        ] = None,
    ) -> TenantPage:
        found = tenants.page(limit=limit + 1, after=after, prefix=prefix, managed_by=managed_by)
        data = [_answer(present, defaults=False) for present in found[:limit]]
        return TenantPage(data=data, after=data[-1].name if len(found) > limit else None)

    @routes.post("", status_code=201, summary="Make a tenant", openapi_extra=_BODY, **_SHOWN)
    async def create(by: Owner, request: Request, response: Response, manager: Manager = API) -> TenantAnswer:
        tenant = await run_in_threadpool(_tenant, await read_body(request), None)
        check_manager(manager)
        present = await run_in_threadpool(tenants.create, tenant, manager=manager, by=by.name)
        response.headers["location"] = f"/admin/v1/tenants/{tenant.name}"
        return answer(response, present)

    @routes.get("/{tenant}", summary="One tenant", **_SHOWN)
    def one(
        name: TenantName,
        by: Reader,
        response: Response,
        defaults: Annotated[bool, Query(description="Write fields at their default too.")] = False,
    ) -> TenantAnswer:
        return answer(response, tenants.present(name), defaults=defaults)

    @routes.put("/{tenant}", summary="Change a tenant, or make it", openapi_extra=_BODY, **_SHOWN)
    async def put(
        name: TenantName,
        by: Owner,
        request: Request,
        response: Response,
        if_match: Tag = None,
        manager: Manager = API,
        origin: Origin = None,
        take_from: TakeFrom = None,
        revive: Annotated[
            bool,
            Query(description="Have it back where it was deleted, if it was this manager's and of this origin."),
        ] = False,
    ) -> TenantAnswer:
        # In a thread: what is wrong with a large body takes its time to find, and others wait for answers.
        tenant = await run_in_threadpool(_tenant, await read_body(request), name)
        check_manager(manager)
        present = await run_in_threadpool(
            tenants.put,
            tenant,
            expected=expected_version(if_match),
            manager=manager,
            by=by.name,
            origin=origin,
            take_from=take_from,
            revive=revive,
        )
        return answer(response, present)

    @routes.delete("/{tenant}", status_code=204, summary="Delete a tenant, and revoke its keys")
    def delete(
        name: TenantName, by: Owner, if_match: Tag = None, manager: Manager = API, origin: Origin = None
    ) -> None:
        tenants.delete(name, expected=expected_version(if_match), manager=manager, by=by.name, origin=origin)

    return routes


def _tenant(body: bytes, name: str | None) -> Tenant:
    """The tenant in `body`, called `name` where the path says so; raises `InvalidRequest` that names the fields."""
    value = named(json_of(body), name)
    tenant = checked(lambda: parse_tenant(value, most=MOST_TOLD + 1))
    check_name(tenant.name, name)
    return tenant


def _answer(present: PresentTenant, *, defaults: bool) -> TenantAnswer:
    written, tenant = present.written, present.tenant
    return TenantAnswer(
        name=tenant.name,
        origin=None if written is None else written.origin,
        version=present.version,
        managed_by=present.managed_by,
        live=present.live,
        keys=present.keys,
        created_at=None if written is None else _moment(written.created_at),
        updated_at=None if written is None else _moment(written.updated_at),
        updated_by=None if written is None else written.updated_by,
        document=Tenant.model_validate(tenant.model_dump()) if defaults else tenant,
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
