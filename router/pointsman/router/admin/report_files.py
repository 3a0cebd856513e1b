"""A report as the answer to a request: as JSON, as lines of JSON, or as CSV.

A report of any size costs this process the same memory: it is written to a file before the first byte of it is
sent, so that no slow reader keeps a connection to the database.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import IO, Any, NamedTuple

import orjson
from starlette.responses import StreamingResponse

from pointsman.contracts.pricing import dollars
from pointsman.router.admin.report_query import Asked, moment, wrong
from pointsman.store.ledger_tables import CLASSES
from pointsman.store.usage import TIMES, CostRow, UsageRow

IN_MEMORY = 4 * 1024 * 1024
"""Bytes of a report up to which it is not written to a file."""

MAX_ROWS = 250_000
"""Rows of a report at most: the answer must begin before whoever asked gives up."""

PIECE = 64 * 1024


class Format(StrEnum):
    """How a report is written."""

    JSON = "json"
    NDJSON = "ndjson"
    """One JSON object a line, the first of which says what the report is of."""
    CSV = "csv"


class Shape(NamedTuple):
    """How one row of a report is told: as JSON, and as the cells of a line below `names`."""

    told: Callable[[Any], dict[str, Any]]
    names: Sequence[str]
    cells: Callable[[Any], list[Any]]


class _Report(NamedTuple):
    asked: Asked
    rows: Iterator[Any]
    shape: Shape

    def head(self) -> dict[str, Any]:
        return {
            "by": list(self.asked.by),
            "since": moment(self.asked.since).isoformat(),
            "until": moment(self.asked.until).isoformat(),
        }

    def row(self, row: Any) -> dict[str, Any]:
        names = (dimension.value for dimension in self.asked.by)
        return {**dict(zip(names, self.values(row), strict=True)), **self.shape.told(row)}

    def values(self, row: Any) -> list[str]:
        return [
            moment(value).isoformat() if dimension in TIMES else value
            for dimension, value in zip(self.asked.by, row.values, strict=True)
        ]


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


COSTS = Shape(_cost_of, _COST_NAMES, _cost_cells)
USAGE = Shape(_usage_of, _USAGE_NAMES, _usage_cells)


def answered(asked: Asked, rows: Iterator[Any], shape: Shape, format: Format) -> StreamingResponse:
    """The answer with all of `rows`; raises what reading them does, `InvalidRequest` where they are too many."""
    report = _Report(asked, _not_too_many(rows), shape)
    file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 # closed by who sends it
    try:
        media = _WRITERS[format](file, report)
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return StreamingResponse(_pieces(file), media_type=media, headers={"content-length": str(size)})


def _not_too_many(rows: Iterator[Any]) -> Iterator[Any]:
    for number, row in enumerate(rows):
        if number == MAX_ROWS:
            raise wrong("by", f"gives more than {MAX_ROWS:,} rows: ask for less time, or split by less")
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
    writer.writerow([*report.asked.by, *report.shape.names])
    for row in report.rows:
        writer.writerow([*report.values(row), *report.shape.cells(row)])
    text.detach()
    return "text/csv; charset=utf-8"


_WRITERS = {Format.JSON: _write_json, Format.NDJSON: _write_ndjson, Format.CSV: _write_csv}


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece
