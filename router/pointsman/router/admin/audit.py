"""The admin API of the audit log: who changed what, newest first.

HTTP and nothing else: rows are written where changes are made, and kept by `store/audit.py`.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from pointsman.contracts.keys import Role
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.bodies import PLAIN
from pointsman.store.audit import AuditLog, AuditRow

MOST = 1000
"""Rows on one page at most."""

Exactly = Annotated[str | None, Query(max_length=200, pattern=PLAIN)]


class AuditAnswer(BaseModel):
    """One change."""

    id: int
    at: datetime
    actor: str = Field(
        description="Whose admin key it was, by the first digits of its SHA-256, or the part that did it."
    )
    action: str = Field(description="As `tenants.put`.")
    object: str = Field(description="As `tenant:acme`.")
    before: dict[str, Any] | None = Field(None, description="What there was; null: nothing.")
    after: dict[str, Any] | None = Field(None, description="What there is; null: nothing any more.")


class AuditPage(BaseModel):
    """Some changes, newest first."""

    data: list[AuditAnswer]
    after: int | None = Field(description="What to give as `after` for older ones; null: there are none.")


def audit_routes(access: Access, log: AuditLog) -> APIRouter:
    """The path `/admin/v1/audit`. Every error has the form of OpenAI's."""
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    routes = APIRouter(responses={"default": {"description": "An error in OpenAI's form."}})

    @routes.get("/admin/v1/audit", tags=["audit"], summary="Who changed what, newest first")
    def some(
        by: Reader,
        limit: Annotated[int, Query(ge=1, le=MOST, description="How many at most.")] = 100,
        after: Annotated[
            int | None, Query(ge=1, le=2**63 - 1, description="The `after` of the page before.")
        ] = None,
        object: Exactly = None,
        actor: Exactly = None,
        action: Exactly = None,
        since: Annotated[
            datetime | None, Query(description="Not before this time; UTC where it says none.")
        ] = None,
        until: Annotated[datetime | None, Query(description="Before this time.")] = None,
    ) -> AuditPage:
        found = log.page(
            limit=limit + 1,
            before=after,
            object=object,
            actor=actor,
            action=action,
            since=_milliseconds(since),
            until=_milliseconds(until),
        )
        data = [_answer(row) for row in found[:limit]]
        return AuditPage(data=data, after=data[-1].id if len(found) > limit else None)

    return routes


def _answer(row: AuditRow) -> AuditAnswer:
    return AuditAnswer(
        id=row.id,
        at=datetime.fromtimestamp(row.at / 1000, UTC),
        actor=row.actor,
        action=row.action,
        object=row.object,
        before=None if row.before is None else orjson.loads(row.before),
        after=None if row.after is None else orjson.loads(row.after),
    )


def _milliseconds(time: datetime | None) -> int | None:
    if time is None:
        return None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
