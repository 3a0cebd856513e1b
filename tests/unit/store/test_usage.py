"""Reports from the sums by the hour say what adding up the entries themselves says, however they are split."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from pointsman.contracts.ledger import Entry, Kind, Outcome, Part
from pointsman.contracts.pricing import Cost, Usage
from pointsman.store.database import Database
from pointsman.store.ledger import LedgerStore
from pointsman.store.ledger_tables import CLASSES, HOUR
from pointsman.store.usage import DAY, Dimension, UsageStore

START = 20_000 * DAY
BIG = 10**15
"""Nano-dollars: a thousand of these are more than 32 bits, and than a float can count."""


def made(number: int, chance: random.Random) -> Entry:
    parts = tuple(
        Part(
            chance.choice(("fast", "deep")),
            chance.choice(("think", "no_think")),
            Usage(*(chance.randrange(1000) for _ in range(4)), chance.random() < 0.2, 0, 0, chance.randrange(2)),
            Cost(*(chance.randrange(BIG) for _ in CLASSES)),
            0,
        )
        for _ in range(chance.randrange(4))
    )
    at = START + chance.randrange(3 * DAY)
    return Entry(
        id=f"r{number}",
        kind=Kind.REQUEST if number % 7 else Kind.CORRECTION,
        at=at,
        ended_at=at + 10,
        tenant=chance.choice(("a", "b", "c")),
        key=chance.choice(("00000000", "ffffffff")),
        request_id="",
        model=chance.choice(("m", "n")),
        mode=parts[-1].mode if parts else "",
        status=200,
        outcome=Outcome.ANSWERED,
        stream=False,
        cache=chance.choice(("hit", "miss", "")),
        parts=parts,
        total=sum(part.cost.total for part in parts),
        router="run",
        number=number,
    )


def value(dimension: Dimension, entry: Entry, part: Part | None) -> Any:
    match dimension:
        case Dimension.HOUR:
            return entry.at - entry.at % HOUR
        case Dimension.DAY:
            return entry.at - entry.at % DAY
        case Dimension.CACHE:
            return "hit" if entry.cache == "hit" else ""
        case Dimension.POOL:
            return part.pool if part else ""
        case Dimension.MODE:
            return part.mode if part else ""
    return getattr(entry, dimension.value)


@pytest.mark.parametrize(
    "by",
    ["", "tenant", "tenant,mode", "day", "pool,hour", "cache,key,model", "tenant,key,model,mode,pool,cache,hour"],
)
def test_however_it_is_split_the_sums_are_those_of_the_entries(database: Database, by: str) -> None:
    chance = random.Random(by)
    entries = [made(number, chance) for number in range(150)]
    LedgerStore(database).append(entries)
    dimensions = [Dimension(name) for name in by.split(",") if name]
    since, until = START + 5 * HOUR, START + 2 * DAY + 3 * HOUR
    wanted: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * (2 + 2 * len(CLASSES)))
    for entry in entries:
        if not since <= entry.at < until or entry.tenant == "c":
            continue
        for number, part in enumerate(entry.parts or (None,)):
            sums = wanted[tuple(value(dimension, entry, part) for dimension in dimensions)]
            sums[0] += entry.kind is Kind.REQUEST and number == max(len(entry.parts) - 1, 0)
            if part is not None:
                sums[1] += part.usage.estimated
                for place, name in enumerate(CLASSES):
                    sums[2 + place] += getattr(part.usage, name)
                    sums[2 + len(CLASSES) + place] += part.cost[place]
    store = UsageStore(database)
    period = {"since": since, "until": until}
    found: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * (2 + 2 * len(CLASSES)))
    for tenant in ("a", "b"):
        for row in store.rows(dimensions, **period, where={Dimension.TENANT: tenant}):
            assert row.total == sum(row.costs)
            numbers = [row.requests, row.estimated, *row.amounts, *row.costs]
            found[row.values] = [one + other for one, other in zip(found[row.values], numbers, strict=True)]
    assert found == wanted
    rows = list(store.rows(dimensions, **period))
    assert [row.values for row in rows] == sorted(row.values for row in rows)
    costs = list(store.costs(dimensions, **period))
    assert [(row.values, row.requests, row.total) for row in costs] == [
        (row.values, row.requests, row.total) for row in rows
    ]
    assert sum(row.prompt + row.output for row in costs) == sum(sum(row.amounts[:4]) for row in rows)
    if not any(dimension in (Dimension.HOUR, Dimension.DAY) for dimension in dimensions):
        course = list(store.series("total", dimensions, step=Dimension.DAY, **period))
        assert sum(amount for _, _, amount in course) == sum(row.total for row in rows)
        assert {moment % DAY for _, moment, _ in course} == {0}


def test_of_nothing_there_are_no_rows(database: Database) -> None:
    assert list(UsageStore(database).rows([], since=0, until=10**12)) == []
    assert list(UsageStore(database).costs([Dimension.TENANT], since=0, until=10**12)) == []
