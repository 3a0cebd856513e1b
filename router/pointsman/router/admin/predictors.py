"""The admin API of tenants' predictors: see them, bring one in, delete one.

HTTP and nothing else: what a change does is `live_predictors.py`. Which predictor judges for whom is said by
policies. A weights file is the body as it is, so that what was checked is what is kept.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from pointsman.contracts.keys import Role
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.bodies import PLAIN, read_body
from pointsman.router.admin.live_predictors import LARGEST, LivePredictors, PresentPredictor
from pointsman.router.admin.policies import Comment

MOST_NAMED = 20
"""Tenants that are named of those that use a predictor."""

Version = Annotated[str, Path(alias="version", max_length=63, pattern=PLAIN)]


class PredictorAnswer(BaseModel):
    """A tenant's predictor."""

    version: str
    name: str = Field(description="Whose it is, as its training was told.")
    base: str = Field(description="The version that it was adapted from.")
    passed: bool = Field(description="Whether it has passed the gate; if not, it was forced in.")
    refusal: str | None = Field(None, description="Why it would not have been taken.")
    bytes: int
    created_at: datetime
    created_by: str
    comment: str
    used_by: list[str] = Field(description=f"Tenants whose policies name it, the first {MOST_NAMED}.")
    users: int = Field(description="How many there are.")
    live: bool = Field(description="Whether it is where routers read it; if not, it will be when Redis is back.")


class PredictorWhole(PredictorAnswer):
    """A tenant's predictor, with what was measured."""

    report: dict[str, Any] = Field(description="What its training measured; `gate` says how it was judged.")


class PredictorList(BaseModel):
    """All tenants' predictors, newest first."""

    base: str = Field(description="The version that judges where no policy names another one.")
    data: list[PredictorAnswer]


def predictor_routes(access: Access, predictors: LivePredictors) -> APIRouter:
    """The paths under `/admin/v1/predictors`. Every error has the form of OpenAI's."""
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    By = Annotated[Actor, Depends(access.needs(Role.OPERATOR))]
    routes = APIRouter(
        prefix="/admin/v1/predictors",
        tags=["predictors"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )

    @routes.get("", summary="All tenants' predictors, newest first")
    def every(by: Reader) -> PredictorList:
        return PredictorList(
            base=predictors.base.version, data=[PredictorAnswer(**_said(each)) for each in predictors.all()]
        )

    @routes.get("/{version}", summary="One predictor, with what its training measured")
    def one(version: Version, by: Reader) -> PredictorWhole:
        return _whole(predictors.present(version))

    @routes.post(
        "",
        summary="Bring a predictor in",
        status_code=201,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def put(
        by: By,
        request: Request,
        force: Annotated[bool, Query(description="Take it although it has not passed the gate.")] = False,
        comment: Comment = "",
    ) -> PredictorWhole:
        content = await read_body(request, most=LARGEST)
        return _whole(await run_in_threadpool(predictors.put, content, force=force, by=by.name, comment=comment))

    @routes.delete("/{version}", summary="Delete a predictor that no policy names", status_code=204)
    def delete(version: Version, by: By, comment: Comment = "") -> Response:
        predictors.delete(version, by=by.name, comment=comment)
        return Response(status_code=204)

    return routes


def _whole(present: PresentPredictor) -> PredictorWhole:
    return PredictorWhole(**_said(present), report=present.report)


def _said(present: PresentPredictor) -> dict[str, Any]:
    row = present.row
    return {
        "version": row.version,
        "name": row.name,
        "base": row.base,
        "passed": row.refusal is None,
        "refusal": row.refusal,
        "bytes": row.size,
        "created_at": datetime.fromtimestamp(row.created_at / 1000, UTC),
        "created_by": row.created_by,
        "comment": row.comment,
        "used_by": list(present.used_by[:MOST_NAMED]),
        "users": len(present.used_by),
        "live": present.live,
    }
