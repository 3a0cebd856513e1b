"""What was used and what it cost, added up: by tenant, key, model, mode, pool, cache, hour or day.

Reads the sums that the ledger keeps by the hour, never single entries: a month of a million requests is a walk over
its hours. Stands beside `ledger.py`, which writes them. Whole hours only: `since` and `until` are the beginnings of
hours. Amounts of money are nano-dollars, moments milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from pointsman.store.database import Database
from pointsman.store.ledger_tables import CLASSES, HOUR, usage_hours

DAY = 24 * HOUR

_AT_ONCE = 1000
"""Rows that are fetched at a time."""


class Dimension(StrEnum):
    """What sums can be split by."""

    TENANT = "tenant"
    KEY = "key"
    """The first eight hexadecimal digits of a key's digest."""
    MODEL = "model"
    MODE = "mode"
    POOL = "pool"
    CACHE = "cache"
    """`hit` for answers that the response cache gave; empty for all others."""
    HOUR = "hour"
    DAY = "day"
    """A day in UTC."""


TIMES = {Dimension.HOUR: HOUR, Dimension.DAY: DAY}
"""Dimensions that are moments, and how long one of them lasts in milliseconds."""


class UsageRow(NamedTuple):
    """
    One sum. `values`: of each dimension, in order; an hour or a day by its beginning. `amounts` and `costs`: by
    `CLASSES`. `estimated`: parts of work whose usage the engine never told. `total`: nano-dollars.
    """

    values: tuple[Any, ...]
    requests: int
    estimated: int
    total: int
    amounts: tuple[int, ...]
    costs: tuple[int, ...]


class CostRow(NamedTuple):
    """
    One sum, without the classes. `values`: as in `UsageRow`; `prompt`: tokens of prompts, cached ones too;
    `output`: tokens of output, thinking too; `total`: nano-dollars.
    """

    values: tuple[Any, ...]
    requests: int
    prompt: int
    output: int
    total: int


class UsageStore:
    """Adds up. Every method raises `DatabaseUnavailable` where the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(
        self,
        by: Sequence[Dimension],
        *,
        since: int,
        until: int,
        where: Mapping[Dimension, str] | None = None,
    ) -> Iterator[UsageRow]:
        """
        The sums from `since` up to `until`, by each of `by`, in their order; none where nothing was used.

        `where`: only what has these values. A connection is held until all is read.
        """
        names = ["requests", "estimated", "total", *CLASSES, *(f"{name}_cost" for name in CLASSES)]
        count = len(CLASSES)
        for values, sums in self._sums(by, [usage_hours.c[name] for name in names], since, until, where):
            requests, estimated, total, *classes = sums
            yield UsageRow(values, requests, estimated, total, tuple(classes[:count]), tuple(classes[count:]))

    def costs(
        self,
        by: Sequence[Dimension],
        *,
        since: int,
        until: int,
        where: Mapping[Dimension, str] | None = None,
    ) -> Iterator[CostRow]:
        """As `rows`, without the classes: about half the work."""
        hours = usage_hours.c
        columns = [hours.requests, hours.input + hours.cached_input, hours.reasoning + hours.answer, hours.total]
        for values, sums in self._sums(by, columns, since, until, where):
            yield CostRow(values, *sums)

    def _sums(
        self,
        by: Sequence[Dimension],
        columns: Sequence[sa.ColumnElement[int]],
        since: int,
        until: int,
        where: Mapping[Dimension, str] | None,
    ) -> Iterator[tuple[tuple[Any, ...], list[int]]]:
        keys = [_column(dimension) for dimension in by]
        query = sa.select(*keys, *map(sa.func.sum, columns)).where(*_wanted(since, until, where or {}))
        if keys:
            query = query.group_by(*keys).order_by(*keys)
        first = len(keys)
        with self._database.reading() as connection:
            for row in connection.execution_options(yield_per=_AT_ONCE).execute(query):
                if row[first] is None:
                    return  # a sum over nothing, which has no requests
                yield tuple(row[:first]), [int(each) for each in row[first:]]

    def series(
        self,
        measure: str,
        by: Sequence[Dimension],
        *,
        step: Dimension,
        since: int,
        until: int,
        where: Mapping[Dimension, str] | None = None,
    ) -> Iterator[tuple[tuple[str, ...], int, int]]:
        """
        Values of `by`, the beginning of an hour or a day (`step`), and what `measure` adds up to in it.

        `measure`: `requests`, `total`, or one of `CLASSES` with or without `_cost`.
        """
        keys = [_column(dimension) for dimension in by]
        moment = _column(step)
        query = (
            sa.select(*keys, moment, sa.func.sum(usage_hours.c[measure]))
            .where(*_wanted(since, until, where or {}))
            .group_by(*keys, moment)
        )
        with self._database.reading() as connection:
            for row in connection.execution_options(yield_per=_AT_ONCE).execute(query):
                yield tuple(row[:-2]), int(row[-2]), int(row[-1])


def _column(dimension: Dimension) -> sa.ColumnElement[Any]:
    if dimension is Dimension.DAY:
        return (usage_hours.c.hour - usage_hours.c.hour % DAY).label("day")
    return usage_hours.c[dimension.value]


def _wanted(since: int, until: int, where: Mapping[Dimension, str]) -> list[sa.ColumnElement[bool]]:
    hour = usage_hours.c.hour
    return [hour >= since, hour < until, *(_column(dimension) == value for dimension, value in where.items())]
