"""The admin API of recorded answers: how many there are, and letting none of them be given any more.

HTTP and nothing else: what a recorded answer is, and when it stops being one, is `store/response_cache.py`. None is
ever shown here.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from pointsman.contracts.config_types import ModelName, Name
from pointsman.contracts.errors import CacheUnavailable, InvalidRequest
from pointsman.contracts.keys import Role
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.live_tenants import LiveTenants
from pointsman.router.response_cache.keys import idempotent_scope, scope_of
from pointsman.store.audit import AuditLog
from pointsman.store.response_cache import ALL, AnswerStore

RETRY_AFTER = 5
"""Seconds after which Redis may be back."""

OfTenant = Annotated[
    Name | None,
    Query(
        description="Answers that this tenant may be given: its own, its group's, those to its idempotency keys."
    ),
]
OfGroup = Annotated[Name | None, Query(description="Answers that the tenants of this group share.")]
OfModel = Annotated[
    ModelName | None,
    Query(description="Answers of this model alone; those to idempotency keys are of none."),
]


class CacheAnswer(BaseModel):
    """Recorded answers in Redis."""

    answers: int = Field(description="How many there are; some may have expired a moment ago.")
    bytes: int = Field(description="Bytes that they have there.")


class Invalidated(BaseModel):
    """What was invalidated."""

    deleted: int = Field(description="Answers that were deleted from Redis.")


def cache_routes(access: Access, answers: AnswerStore, audit: AuditLog, tenants: LiveTenants) -> APIRouter:
    """The paths under `/admin/v1/cache`. Every error has the form of OpenAI's."""
    routes = APIRouter(
        prefix="/admin/v1/cache",
        tags=["cache"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    Operator = Annotated[Actor, Depends(access.needs(Role.OPERATOR))]

    async def scopes_of(tenant: str | None, group: str | None) -> list[str]:
        if tenant is not None and group is not None:
            raise InvalidRequest("Give 'tenant' or 'group', not both.", param="group", code="invalid_value")
        if group is not None:
            return [scope_of("", group)]
        if tenant is None:
            return [ALL]
        present = await run_in_threadpool(tenants.present, tenant)
        shared = present.tenant.cache.group
        scopes = [scope_of(tenant, None), idempotent_scope(tenant)]
        return scopes if shared is None else [*scopes, scope_of(tenant, shared)]

    @routes.get("", summary="How many answers are recorded")
    async def usage(by: Reader, tenant: OfTenant = None, group: OfGroup = None) -> CacheAnswer:
        try:
            found = [await answers.usage(scope) for scope in await scopes_of(tenant, group)]
        except (RedisError, OSError):
            raise _unavailable() from None
        return CacheAnswer(answers=sum(one.answers for one in found), bytes=sum(one.bytes for one in found))

    @routes.delete("", summary="Invalidate recorded answers; without a tenant or a group, everybody's")
    async def invalidate(
        by: Operator, tenant: OfTenant = None, group: OfGroup = None, model: OfModel = None
    ) -> Invalidated:
        scopes = await scopes_of(tenant, group)
        asked = {"tenant": tenant, "group": group, "model": model}
        told = {name: value for name, value in asked.items() if value is not None}
        whose = f"tenant:{tenant}" if tenant else f"group:{group}" if group else "all"
        await run_in_threadpool(
            audit.record, actor=by.name, action="cache.invalidate", object=f"cache:{whose}", after=told
        )
        try:
            deleted = [await answers.invalidate(scope, model) for scope in scopes]
        except (RedisError, OSError):
            raise _unavailable() from None
        return Invalidated(deleted=sum(deleted))

    return routes


def _unavailable() -> CacheUnavailable:
    return CacheUnavailable("Redis, where recorded answers lie, can't be reached.", retry_after=RETRY_AFTER)
