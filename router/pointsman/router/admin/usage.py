"""The admin API of what was used and what it cost: reports, and courses over time.

HTTP and nothing else: the sums are `store/usage.py`.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from pointsman.contracts.errors import KeyOutOfScope
from pointsman.contracts.keys import Role
from pointsman.router.admin.access import Access, Actor, Caller
from pointsman.router.admin.live_policies import LivePolicies
from pointsman.router.admin.report_files import COSTS, USAGE, Format, answered
from pointsman.router.admin.report_query import Asked, asked, moment, wrong
from pointsman.store.usage import TIMES, Dimension, UsageStore

MAX_POINTS = 2_200
"""Moments of a course at most: three months of hours."""

MAX_SERIES = 200
"""Courses in one answer at most."""


class Measure(StrEnum):
    """What a course is of."""

    COST = "cost"
    """Nano-dollars."""
    REQUESTS = "requests"
    INPUT = "input"
    CACHED_INPUT = "cached_input"
    REASONING = "reasoning"
    ANSWER = "answer"


class Course(BaseModel):
    """One course: of what, and its values, one for each step."""

    of: dict[str, str]
    values: list[int]


class Courses(BaseModel):
    """Courses over the same moments, those that add up to the most first."""

    measure: Measure = Field(description="`cost` in nano-dollars; else requests or tokens.")
    step: str
    moments: list[datetime] = Field(description="Beginnings of the steps.")
    data: list[Course]
    others: Course | None = Field(description="What is left out above, added up; null: nothing.")


Wanted = Annotated[Asked, Depends(asked)]
Step = Annotated[Dimension, Query(description="`hour` or `day`.")]
Limit = Annotated[int, Query(ge=1, le=MAX_SERIES, description="Courses at most; others are added up.")]


def usage_routes(access: Access, usage: UsageStore, policies: LivePolicies) -> APIRouter:
    """
    `/admin/v1/costs`, `/admin/v1/usage` and `/admin/v1/timeseries`; the same below `/v1` for a tenant, of its own
    use alone. Every error has the form of OpenAI's.
    """
    routes = APIRouter(tags=["usage"], responses={"default": {"description": "An error in OpenAI's form."}})
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    Asker = Annotated[Caller, Depends(access.caller)]

    def own(asker: Asker, wanted: Wanted) -> Asked:
        """What a tenant asks for, of its own use, where its policy shows it what that costs."""
        name = asker.tenant.name
        if wanted.where.get(Dimension.TENANT, name) != name:
            raise KeyOutOfScope("This key opens the use of its own tenant alone.", param="tenant")
        policy = policies.remembered(name)
        if policy is None or not policy.document.policy.show_cost:
            raise KeyOutOfScope("What this tenant's requests cost is not shown to it.")
        return wanted._replace(where={**wanted.where, Dimension.TENANT: name})

    Own = Annotated[Asked, Depends(own)]

    def cost_report(wanted: Asked, format: Format) -> StreamingResponse:
        rows = usage.costs(wanted.by, since=wanted.since, until=wanted.until, where=wanted.where)
        return answered(wanted, rows, COSTS, format)

    def usage_report(wanted: Asked, format: Format) -> StreamingResponse:
        rows = usage.rows(wanted.by, since=wanted.since, until=wanted.until, where=wanted.where)
        return answered(wanted, rows, USAGE, format)

    def courses(wanted: Asked, measure: Measure, step: Dimension, limit: int) -> Courses:
        if step not in TIMES:
            raise wrong("step", "must be hour or day")
        if any(dimension in TIMES for dimension in wanted.by):
            raise wrong("by", "hour and day are steps here")
        length = TIMES[step]
        first = wanted.since - wanted.since % length
        moments = range(first, wanted.until, length)
        if len(moments) > MAX_POINTS:
            raise wrong("since", f"that are more than {MAX_POINTS} steps: ask for days, or for less")
        column = "total" if measure is Measure.COST else measure.value
        found: dict[tuple[str, ...], list[int]] = {}
        for values, at, amount in usage.series(
            column, wanted.by, step=step, since=first, until=wanted.until, where=wanted.where
        ):
            course = found.setdefault(values, [0] * len(moments))
            course[(at - first) // length] += amount
        ordered = sorted(found.items(), key=lambda each: (-sum(each[1]), each[0]))
        names = [dimension.value for dimension in wanted.by]
        rest = [course for _, course in ordered[limit:]]
        return Courses(
            measure=measure,
            step=step.value,
            moments=[moment(at) for at in moments],
            data=[
                Course(of=dict(zip(names, values, strict=True)), values=course)
                for values, course in ordered[:limit]
            ],
            others=Course(of={}, values=[sum(each) for each in zip(*rest, strict=True)]) if rest else None,
        )

    @routes.get("/admin/v1/costs", summary="What was used cost, added up")
    def costs(reader: Reader, wanted: Wanted, format: Format = Format.JSON) -> StreamingResponse:
        return cost_report(wanted, format)

    @routes.get("/v1/costs", summary="What this key's tenant used cost, added up")
    def own_costs(wanted: Own, format: Format = Format.JSON) -> StreamingResponse:
        return cost_report(wanted, format)

    @routes.get("/admin/v1/usage", summary="What was used, by token class, and what it cost, added up")
    def report(reader: Reader, wanted: Wanted, format: Format = Format.JSON) -> StreamingResponse:
        return usage_report(wanted, format)

    @routes.get("/v1/usage", summary="What this key's tenant used, by token class, and what it cost, added up")
    def own_report(wanted: Own, format: Format = Format.JSON) -> StreamingResponse:
        return usage_report(wanted, format)

    @routes.get("/admin/v1/timeseries", summary="How something went over time")
    def timeseries(
        reader: Reader,
        wanted: Wanted,
        measure: Measure = Measure.COST,
        step: Step = Dimension.DAY,
        limit: Limit = 20,
    ) -> Courses:
        return courses(wanted, measure, step, limit)

    @routes.get("/v1/timeseries", summary="How something of this key's tenant went over time")
    def own_timeseries(
        wanted: Own, measure: Measure = Measure.COST, step: Step = Dimension.DAY, limit: Limit = 20
    ) -> Courses:
        return courses(wanted, measure, step, limit)

    return routes
