"""The admin API of what was used: reports, courses over time, single entries, and what is put right or charged.

HTTP and nothing else: sums are `store/usage.py`, entries `store/ledger.py`, what is booked by hand `bookings.py`.
A report of any size costs this process the same memory: it is written to a file before the first byte of it is
sent, so that no slow reader keeps a connection to the database.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

import csv
import io
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import IO, Annotated, Any, NamedTuple

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from pointsman.contracts.errors import EntryNotFound, InvalidRequest
from pointsman.contracts.keys import Role
from pointsman.contracts.ledger import Entry
from pointsman.contracts.pricing import dollars
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.bodies import read_body
from pointsman.router.admin.bookings import Bookings, Charge, Correction
from pointsman.store.ledger import LedgerStore
from pointsman.store.ledger_tables import CLASSES, HOUR
from pointsman.store.usage import DAY, TIMES, CostRow, Dimension, UsageRow, UsageStore

IN_MEMORY = 4 * 1024 * 1024
"""Bytes of a report up to which it is not written to a file."""

MAX_POINTS = 2_200
"""Moments of a course at most: three months of hours."""

MAX_SERIES = 200
"""Courses in one answer at most."""

MAX_ROWS = 250_000
"""Rows of a report at most: the answer must begin before whoever asked gives up."""

MAX_ENTRIES = 1_000
"""Entries in one answer at most."""

PIECE = 64 * 1024

_SPANS = {"h": HOUR, "d": DAY, "w": 7 * DAY}
_SPAN = re.compile(r"(\d{1,5})([hdw])")


class Format(StrEnum):
    """How a report is written."""

    JSON = "json"
    NDJSON = "ndjson"
    """One JSON object a line, the first of which says what the report is of."""
    CSV = "csv"


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


class EntryList(BaseModel):
    """Entries of the ledger, oldest first."""

    data: list[dict[str, Any]]
    next_after: int | None = Field(description="What to give as `after` for the next ones; null: there are none.")


_MOMENT = (
    "A moment (`2026-01-01T00:00:00Z`, `2026-01-01`) or a span back from now (`12h`, `7d`, `4w`); whole hours."
)
Since = Annotated[str, Query(max_length=40, description=f"From when on. {_MOMENT}")]
Until = Annotated[
    str | None, Query(max_length=40, description="Up to when, that moment not included. Default: now.")
]
By = Annotated[
    str, Query(max_length=100, description="What to split by, with commas between: " + ", ".join(Dimension) + ".")
]
Only = Annotated[str | None, Query(max_length=128)]


def usage_routes(access: Access, usage: UsageStore, entries: LedgerStore, bookings: Bookings) -> APIRouter:
    """The paths under `/admin/v1/usage` and `/admin/v1/timeseries`. Every error has the form of OpenAI's."""
    routes = APIRouter(
        prefix="/admin/v1",
        tags=["usage"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    Owner = Annotated[Actor, Depends(access.needs(Role.OWNER))]

    @routes.get("/costs", summary="What was used cost, added up")
    def costs(
        reader: Reader,
        by: By = "tenant",
        since: Since = "30d",
        until: Until = None,
        tenant: Only = None,
        key: Only = None,
        model: Only = None,
        mode: Only = None,
        pool: Only = None,
        format: Format = Format.JSON,
    ) -> StreamingResponse:
        dimensions, (first, last) = _dimensions(by), _period(since, until)
        where = _where(tenant=tenant, key=key, model=model, mode=mode, pool=pool)
        rows = usage.costs(dimensions, since=first, until=last, where=where)
        return _sent(_Report(dimensions, first, last, rows, _cost_of, _COST_NAMES, _cost_cells), format)

    @routes.get("/usage", summary="What was used, by token class, and what it cost, added up")
    def report(
        reader: Reader,
        by: By = "tenant",
        since: Since = "30d",
        until: Until = None,
        tenant: Only = None,
        key: Only = None,
        model: Only = None,
        mode: Only = None,
        pool: Only = None,
        format: Format = Format.JSON,
    ) -> StreamingResponse:
        dimensions, (first, last) = _dimensions(by), _period(since, until)
        where = _where(tenant=tenant, key=key, model=model, mode=mode, pool=pool)
        rows = usage.rows(dimensions, since=first, until=last, where=where)
        return _sent(_Report(dimensions, first, last, rows, _usage_of, _USAGE_NAMES, _usage_cells), format)

    @routes.get("/timeseries", summary="How something went over time")
    def timeseries(
        reader: Reader,
        measure: Measure = Measure.COST,
        by: By = "tenant",
        step: Annotated[Dimension, Query(description="`hour` or `day`.")] = Dimension.DAY,
        since: Since = "30d",
        until: Until = None,
        tenant: Only = None,
        key: Only = None,
        model: Only = None,
        mode: Only = None,
        pool: Only = None,
        limit: Annotated[int, Query(ge=1, le=MAX_SERIES, description="Courses at most; others are added up.")] = 20,
    ) -> Courses:
        if step not in TIMES:
            raise _wrong("step", "must be hour or day")
        dimensions = _dimensions(by)
        if any(dimension in TIMES for dimension in dimensions):
            raise _wrong("by", "hour and day are steps here")
        first, last = _period(since, until)
        first -= first % TIMES[step]
        moments = range(first, last, TIMES[step])
        if len(moments) > MAX_POINTS:
            raise _wrong("since", f"that are more than {MAX_POINTS} steps: ask for days, or for less")
        where = _where(tenant=tenant, key=key, model=model, mode=mode, pool=pool)
        column = "total" if measure is Measure.COST else measure.value
        found: dict[tuple[str, ...], list[int]] = {}
        for values, moment, amount in usage.series(
            column, dimensions, step=step, since=first, until=last, where=where
        ):
            course = found.setdefault(values, [0] * len(moments))
            course[(moment - first) // TIMES[step]] += amount
        ordered = sorted(found.items(), key=lambda each: (-sum(each[1]), each[0]))
        names = [dimension.value for dimension in dimensions]
        rest = [values for _, values in ordered[limit:]]
        return Courses(
            measure=measure,
            step=step.value,
            moments=[_moment(moment) for moment in moments],
            data=[
                Course(of=dict(zip(names, values, strict=True)), values=course)
                for values, course in ordered[:limit]
            ],
            others=Course(of={}, values=[sum(column) for column in zip(*rest, strict=True)]) if rest else None,
        )

    @routes.get("/usage/entries", summary="Single entries of the ledger, oldest first")
    def ledger_entries(
        reader: Reader,
        since: Since = "30d",
        until: Until = None,
        tenant: Only = None,
        after: Annotated[int, Query(ge=0, le=2**62, description="Only those behind this one.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = 200,
    ) -> EntryList:
        first, last = _period(since, until)
        found = entries.entries(since=first, until=last, tenant=tenant, after=after, limit=limit)
        return EntryList(
            data=[shown_entry(number, entry) for number, entry in found],
            next_after=found[-1][0] if len(found) == limit else None,
        )

    @routes.get("/usage/entries/{entry}", summary="One entry of the ledger, with what was put right of it")
    def ledger_entry(entry: str, reader: Reader) -> dict[str, Any]:
        found = entries.entry(entry)
        if found is None:
            raise EntryNotFound("The ledger has no entry of this id.")
        corrections = [shown_entry(None, correction) for correction in entries.corrections_of(entry)]
        return {**shown_entry(None, found), "corrections": corrections}

    @routes.post(
        "/usage/corrections",
        status_code=201,
        summary="Put an entry right by another one",
        openapi_extra=_body_of(Correction),
    )
    async def correct(by: Owner, request: Request) -> dict[str, Any]:
        return shown_entry(None, await run_in_threadpool(bookings.correct, await read_body(request), by.name))

    @routes.post(
        "/usage/charges",
        status_code=201,
        summary="Charge the use of a hosted context cache",
        openapi_extra=_body_of(Charge),
    )
    async def charge(by: Owner, request: Request) -> dict[str, Any]:
        return shown_entry(None, await run_in_threadpool(bookings.charge, await read_body(request), by.name))

    return routes


def _body_of(model: type[BaseModel]) -> dict[str, Any]:
    """How OpenAPI tells a body that is read by hand; without references, which nothing there would resolve."""
    schema = model.model_json_schema()
    for name, definition in schema.pop("$defs", {}).items():
        for field, described in schema["properties"].items():
            if {"$ref": f"#/$defs/{name}"} in described.get("anyOf", []):
                schema["properties"][field] = {**described, "anyOf": [definition, {"type": "null"}]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def shown_entry(number: int | None, entry: Entry) -> dict[str, Any]:
    """An entry as the API tells it; `number` is its place in the ledger."""
    shown: dict[str, Any] = {
        "id": entry.id,
        "kind": entry.kind,
        "at": _moment(entry.at).isoformat(),
        "ended_at": _moment(entry.ended_at).isoformat(),
        "tenant": entry.tenant,
        "key": entry.key,
        "request_id": entry.request_id,
        "model": entry.model,
        "mode": entry.mode,
        "status": entry.status,
        "outcome": entry.outcome,
        "stream": entry.stream,
        "cache": entry.cache,
        "cost": entry.total,
        "cost_usd": dollars(entry.total),
        "corrects": entry.corrects,
        "comment": entry.comment,
        "parts": [
            {
                "pool": part.pool,
                "mode": part.mode,
                "price_version": part.price_version,
                "estimated": part.usage.estimated,
                "usage": {name: getattr(part.usage, name) for name in CLASSES},
                "cost": {name: getattr(part.cost, name) for name in CLASSES},
            }
            for part in entry.parts
        ],
    }
    return shown if number is None else {"number": number, **shown}


class _Report(NamedTuple):
    """What a report is of, and its rows, of which each is told as JSON or as the cells of a line."""

    by: tuple[Dimension, ...]
    since: int
    until: int
    rows: Iterator[Any]
    told: Callable[[Any], dict[str, Any]]
    names: Sequence[str]
    cells: Callable[[Any], list[Any]]

    def head(self) -> dict[str, Any]:
        return {
            "by": list(self.by),
            "since": _moment(self.since).isoformat(),
            "until": _moment(self.until).isoformat(),
        }

    def row(self, row: Any) -> dict[str, Any]:
        names = (dimension.value for dimension in self.by)
        return {**dict(zip(names, _values(self.by, row.values), strict=True)), **self.told(row)}


def _cost_of(row: CostRow) -> dict[str, Any]:
    return {
        "requests": row.requests,
        "input_tokens": row.prompt,
        "output_tokens": row.output,
        "cost": row.total,
        "cost_usd": dollars(row.total),
    }


_COST_NAMES = ("requests", "input_tokens", "output_tokens", "cost_usd")


def _cost_cells(row: CostRow) -> list[Any]:
    return [row.requests, row.prompt, row.output, dollars(row.total)]


def _usage_of(row: UsageRow) -> dict[str, Any]:
    return {
        "requests": row.requests,
        "estimated": row.estimated,
        "usage": dict(zip(CLASSES, row.amounts, strict=True)),
        "costs": dict(zip(CLASSES, row.costs, strict=True)),
        "cost": row.total,
        "cost_usd": dollars(row.total),
    }


_USAGE_NAMES = (
    *("requests", "estimated"),
    *(f"{name}{suffix}" for name in CLASSES for suffix in ("", "_cost_usd")),
    "cost_usd",
)


def _usage_cells(row: UsageRow) -> list[Any]:
    amounts = [each for pair in zip(row.amounts, map(dollars, row.costs), strict=True) for each in pair]
    return [row.requests, row.estimated, *amounts, dollars(row.total)]


def _sent(report: _Report, format: Format) -> StreamingResponse:
    """The answer with all of `report`; raises what reading its rows raises."""
    file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 # closed by who sends it
    try:
        media = _WRITERS[format](file, report._replace(rows=_not_too_many(report.rows)))
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return StreamingResponse(_pieces(file), media_type=media, headers={"content-length": str(size)})


def _not_too_many(rows: Iterator[Any]) -> Iterator[Any]:
    for number, row in enumerate(rows):
        if number == MAX_ROWS:
            raise _wrong("by", f"gives more than {MAX_ROWS:,} rows: ask for less time, or split by less")
        yield row


def _write_json(file: IO[bytes], report: _Report) -> str:
    file.write(orjson.dumps(report.head())[:-1] + b',"data":[')
    for number, row in enumerate(report.rows):
        file.write(b",\n" * bool(number) + orjson.dumps(report.row(row)))
    file.write(b"]}")
    return "application/json"


def _write_ndjson(file: IO[bytes], report: _Report) -> str:
    file.write(orjson.dumps(report.head()) + b"\n")
    for row in report.rows:
        file.write(orjson.dumps(report.row(row)) + b"\n")
    return "application/x-ndjson"


def _write_csv(file: IO[bytes], report: _Report) -> str:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow([*report.by, *report.names])
    for row in report.rows:
        writer.writerow([*_values(report.by, row.values), *report.cells(row)])
    text.detach()
    return "text/csv; charset=utf-8"


_WRITERS = {Format.JSON: _write_json, Format.NDJSON: _write_ndjson, Format.CSV: _write_csv}


def _values(by: Sequence[Dimension], values: Sequence[Any]) -> list[str]:
    return [
        _moment(value).isoformat() if dimension in TIMES else value
        for dimension, value in zip(by, values, strict=True)
    ]


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece


def _dimensions(by: str) -> tuple[Dimension, ...]:
    names = [name.strip() for name in by.split(",") if name.strip()]
    known = {dimension.value for dimension in Dimension}
    if not set(names) <= known:
        raise _wrong("by", f"takes {', '.join(Dimension)}")
    return tuple(Dimension(name) for name in dict.fromkeys(names))


def _where(**wanted: str | None) -> Mapping[Dimension, str]:
    return {Dimension(name): value for name, value in wanted.items() if value is not None}


def _period(since: str, until: str | None) -> tuple[int, int]:
    """The whole hours that `since` and `until` name; the running one is part of what ends now."""
    now = time.time_ns() // 1_000_000
    first = _said("since", since, now)
    last = now if until is None else _said("until", until, now)
    first -= first % HOUR
    last += -last % HOUR
    if first >= last:
        raise _wrong("until", "must be after `since`")
    return first, last


def _said(field: str, text: str, now: int) -> int:
    if match := _SPAN.fullmatch(text):
        return now - int(match[1]) * _SPANS[match[2]]
    try:
        moment = datetime.fromisoformat(text)
        milliseconds = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise _wrong(field, "takes a moment such as 2026-01-01T00:00:00Z or a span such as 7d") from None
    if not 0 <= milliseconds < 2**47:
        raise _wrong(field, "is too far away")
    return milliseconds


def _wrong(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"'{field}': {message}.", param=field, code="invalid_value")


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
