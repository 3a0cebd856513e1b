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

from pointsman.contracts.keys import Role
from pointsman.router.admin.access import Access, Actor
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


def usage_routes(access: Access, usage: UsageStore) -> APIRouter:
    """`/admin/v1/costs`, `/admin/v1/usage` and `/admin/v1/timeseries`. Every error has the form of OpenAI's."""
    routes = APIRouter(
        prefix="/admin/v1",
        tags=["usage"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]

    @routes.get("/costs", summary="What was used cost, added up")
    def costs(reader: Reader, wanted: Wanted, format: Format = Format.JSON) -> StreamingResponse:
        rows = usage.costs(wanted.by, since=wanted.since, until=wanted.until, where=wanted.where)
        return answered(wanted, rows, COSTS, format)

    @routes.get("/usage", summary="What was used, by token class, and what it cost, added up")
    def report(reader: Reader, wanted: Wanted, format: Format = Format.JSON) -> StreamingResponse:
        rows = usage.rows(wanted.by, since=wanted.since, until=wanted.until, where=wanted.where)
        return answered(wanted, rows, USAGE, format)

    @routes.get("/timeseries", summary="How something went over time")
    def timeseries(
        reader: Reader,
        wanted: Wanted,
        measure: Measure = Measure.COST,
        step: Annotated[Dimension, Query(description="`hour` or `day`.")] = Dimension.DAY,
        limit: Annotated[int, Query(ge=1, le=MAX_SERIES, description="Courses at most; others are added up.")] = 20,
    ) -> Courses:
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

    return routes
