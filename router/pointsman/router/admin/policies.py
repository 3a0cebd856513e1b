"""The admin API of policies: read what holds, let another one hold, move candidates from stage to stage.

HTTP and nothing else: what a change does is `live_policies.py`. Bodies are checked by the schema of the
configuration file, so that an error is told in the same words here and there. A policy's `ETag` is the number of
its newest version; a change that was made of an older one is refused.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from pointsman.contracts.config_types import Probability
from pointsman.contracts.keys import Role
from pointsman.contracts.policies import PolicyDocument, Stage
from pointsman.contracts.policy_file import parse_policy
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.bodies import MOST_TOLD, PLAIN, Tag, checked, expected_version, json_of, read_body
from pointsman.router.admin.live_policies import LivePolicies, PresentPolicy
from pointsman.router.admin.live_predictors import LivePredictors
from pointsman.router.admin.managers import API, Manager, TakeFrom
from pointsman.router.stages import StageKeeper
from pointsman.store.policy_projection import PolicyVersion

MOST = 1000
"""Policies on one page at most."""

MAX_COMMENT = 500
"""Characters of a comment at most."""

Comment = Annotated[str, Query(max_length=MAX_COMMENT, description="Why; kept with the version.", pattern=PLAIN)]


class Doing(BaseModel):
    """What a candidate did of late: what its stage's limits are compared with."""

    seconds: float = Field(description="Seconds that were looked at.")
    requests: int
    escalations: int
    errors: int
    disagreement: int


class PolicyAnswer(BaseModel):
    """A tenant's policy as it holds now."""

    tenant: str
    version: int = Field(description="0: the configuration's, or what the tenant was made with.")
    source: str = Field(description="`api` where this API has set it, else `config`.")
    managed_by: str | None = Field(None, description="Who alone may change it, where this API has set it.")
    live: bool = Field(description="Whether it is where routers read it; if not, it will be when Redis is back.")
    updated_at: datetime | None = None
    updated_by: str | None = None
    comment: str | None = None
    document: PolicyDocument = Field(description="The policy, as in the configuration file.")
    candidate_did: Doing | None = None


class PolicyList(BaseModel):
    """All tenants' policies."""

    data: list[PolicyAnswer]
    after: str | None = Field(None, description="What to give as `after` for the next page; null: there is none.")


class VersionAnswer(BaseModel):
    """One version that held once, or holds."""

    version: int
    updated_at: datetime
    updated_by: str
    comment: str
    managed_by: str
    document: dict[str, Any] | None = Field(description="null: the configuration's policy held from here on.")


class VersionList(BaseModel):
    """Versions of one tenant's policy, newest first."""

    data: list[VersionAnswer]
    next_before: int | None = Field(description="What to give as `before` for older ones; null: there are none.")


class Move(BaseModel):
    """Where a candidate is to go."""

    model_config = ConfigDict(extra="forbid")

    stage: Stage = Field(description="observe, canary or enforce.")
    share: Probability | None = Field(None, description="Share of conversations in stage canary; none: as it is.")


class Return(BaseModel):
    """Which version is to hold again."""

    model_config = ConfigDict(extra="forbid")

    to: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None, description="Its number, 0 for the configuration's policy; none: the one before the newest."
    )


def policy_routes(
    access: Access, policies: LivePolicies, keeper: StageKeeper, predictors: LivePredictors
) -> APIRouter:
    """The paths under `/admin/v1/policies`. Every error has the form of OpenAI's."""
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    By = Annotated[Actor, Depends(access.needs(Role.OPERATOR))]
    routes = APIRouter(
        prefix="/admin/v1/policies",
        tags=["policies"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )

    def answer(response: Response, present: PresentPolicy, *, defaults: bool = False) -> PolicyAnswer:
        response.headers["etag"] = f'"{present.latest}"'
        return _answer(present, keeper, defaults=defaults)

    @routes.get("", response_model_exclude_unset=True, summary="The policies of all tenants")
    def every(
        by: Reader,
        limit: Annotated[
            int | None,
            Query(ge=1, le=MOST, description="A page of those that this API has set: how many at most."),
        ] = None,
        after: Annotated[
            str | None, Query(max_length=63, pattern=PLAIN, description="The `after` of the page before.")
        ] = None,
        managed_by: Annotated[
            str | None, Query(max_length=63, pattern=PLAIN, description="Of this manager, page by page.")
        ] = None,
    ) -> PolicyList:
        if limit is None and after is None and managed_by is None:
            return PolicyList(data=[_answer(present, keeper, defaults=False) for present in policies.all_present()])
        most = limit or 100
        found = policies.page(limit=most + 1, after=after, managed_by=managed_by)
        data = [_answer(present, keeper, defaults=False) for present in found[:most]]
        return PolicyList(data=data, after=data[-1].tenant if len(found) > most else None)

    @routes.get("/{tenant}", response_model_exclude_unset=True, summary="The policy that holds for a tenant")
    def one(
        tenant: str,
        by: Reader,
        response: Response,
        defaults: Annotated[bool, Query(description="Write fields at their default too.")] = False,
    ) -> PolicyAnswer:
        return answer(response, policies.present(tenant), defaults=defaults)

    @routes.put(
        "/{tenant}",
        response_model_exclude_unset=True,
        summary="Let another policy hold for a tenant",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PolicyDocument"}}},
            }
        },
    )
    async def put(
        tenant: str,
        by: By,
        request: Request,
        response: Response,
        if_match: Tag = None,
        comment: Comment = "",
        manager: Manager = API,
        take_from: TakeFrom = None,
    ) -> PolicyAnswer:
        # In a thread: what is wrong with a large body takes its time to find, and others wait for answers.
        document = await run_in_threadpool(_document, await read_body(request))
        await run_in_threadpool(predictors.check, document.policy, document.candidate)
        present = await run_in_threadpool(
            policies.put,
            tenant,
            document,
            expected=expected_version(if_match),
            by=by.name,
            comment=comment,
            manager=manager,
            take_from=take_from,
        )
        return answer(response, present)

    @routes.delete(
        "/{tenant}",
        response_model_exclude_unset=True,
        summary="Let the configuration's policy hold for a tenant again",
    )
    def delete(
        tenant: str,
        by: By,
        response: Response,
        if_match: Tag = None,
        comment: Comment = "",
        manager: Manager = API,
    ) -> PolicyAnswer:
        expected = expected_version(if_match)
        present = policies.delete(tenant, expected=expected, by=by.name, comment=comment, manager=manager)
        return answer(response, present)

    @routes.get("/{tenant}/history", summary="All versions of a tenant's policy, newest first")
    def history(
        tenant: str,
        by: Reader,
        limit: Annotated[int, Query(ge=1, le=200, description="Versions at most.")] = 50,
        before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only lower version numbers.")] = None,
    ) -> VersionList:
        versions = policies.history(tenant, limit=limit, before=before)
        more = len(versions) == limit and versions[-1].version > 1
        return VersionList(
            data=[_version(written) for written in versions],
            next_before=versions[-1].version if more else None,
        )

    @routes.post(
        "/{tenant}/stage", response_model_exclude_unset=True, summary="Move a tenant's candidate to another stage"
    )
    def stage(
        tenant: str,
        to: Move,
        by: By,
        response: Response,
        if_match: Tag = None,
        comment: Comment = "",
        manager: Manager = API,
    ) -> PolicyAnswer:
        present = policies.move(
            tenant,
            to.stage,
            share=to.share,
            expected=expected_version(if_match),
            by=by.name,
            comment=comment,
            manager=manager,
        )
        return answer(response, present)

    @routes.post(
        "/{tenant}/promote", response_model_exclude_unset=True, summary="Let a tenant's candidate be its policy"
    )
    def promote(
        tenant: str,
        by: By,
        response: Response,
        if_match: Tag = None,
        comment: Comment = "",
        manager: Manager = API,
    ) -> PolicyAnswer:
        expected = expected_version(if_match)
        present = policies.promote(tenant, expected=expected, by=by.name, comment=comment, manager=manager)
        return answer(response, present)

    @routes.post(
        "/{tenant}/rollback",
        response_model_exclude_unset=True,
        summary="Let an earlier version of a tenant's policy hold again, as a new one",
    )
    def rollback(
        tenant: str,
        back: Return,
        by: By,
        response: Response,
        if_match: Tag = None,
        comment: Comment = "",
        manager: Manager = API,
    ) -> PolicyAnswer:
        newest, former = policies.former(tenant, back.to)
        seen = expected_version(if_match)
        expected = newest if seen is None else seen
        if former is None or former.document is None:
            said = comment or "back to the configuration's policy"
            present = policies.delete(tenant, expected=expected, by=by.name, comment=said, manager=manager)
        else:
            document = _document(former.document.encode())  # a later release may have written it
            predictors.check(document.policy, document.candidate)
            said = comment or f"back to version {former.version}"
            present = policies.put(tenant, document, expected=expected, by=by.name, comment=said, manager=manager)
        return answer(response, present)

    return routes


def _document(body: bytes) -> PolicyDocument:
    """The policy in `body`; raises `InvalidRequest` that names the fields at fault."""
    value = json_of(body)
    return checked(lambda: parse_policy(value, most=MOST_TOLD + 1))


def _answer(present: PresentPolicy, keeper: StageKeeper, *, defaults: bool) -> PolicyAnswer:
    written, looked = present.written, keeper.figures(present)
    return PolicyAnswer(
        tenant=present.tenant,
        version=present.version,
        source="api" if present.version else "config",
        managed_by=None if written is None or not present.version else written.managed_by,
        live=present.live,
        updated_at=None if written is None else _moment(written.updated_at),
        updated_by=None if written is None else written.updated_by,
        comment=None if written is None else written.comment,
        document=present.document if not defaults else parse_policy(present.document.model_dump()),
        candidate_did=None if looked is None else Doing(seconds=looked.seconds, **looked.figures._asdict()),
    )


def _version(written: PolicyVersion) -> VersionAnswer:
    return VersionAnswer(
        version=written.version,
        updated_at=_moment(written.updated_at),
        updated_by=written.updated_by,
        comment=written.comment,
        managed_by=written.managed_by,
        document=None if written.document is None else orjson.loads(written.document),
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
