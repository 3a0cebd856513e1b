"""The ledger in SQL: every entry once, whatever comes twice or too early, and sums that agree with it."""

from __future__ import annotations

import logging
import random
from collections import Counter

import pytest

from pointsman.contracts.ledger import Entry, Kind, Outcome, Part
from pointsman.contracts.pricing import Cost, Usage
from pointsman.store.database import Database
from pointsman.store.ledger import Batch, LedgerStore, day_of
from pointsman.store.ledger_tables import CLASSES, HOUR

RUN, OTHER = "a" * 16, "b" * 16
DAY = 24 * HOUR
NOON = 1_767_268_800_000  # 2026-01-01T12:00Z


def part(pool: str, mode: str, *, tokens: int, nano: int) -> Part:
    return Part(pool, mode, Usage(input=tokens, answer=2 * tokens), Cost(input=nano, answer=3 * nano), 7)


def entry(
    number: int, *parts: Part, run: str = RUN, at: int = NOON, tenant: str = "acme", cache: str = ""
) -> Entry:
    identity = f"{run}-{number}"
    return Entry(
        identity,
        Kind.REQUEST,
        at,
        at + 5,
        tenant,
        "0123abcd",
        f"req-{identity}",
        "model",
        "think",
        200,
        Outcome.ANSWERED,
        True,
        cache,
        parts,
        sum(each.cost.total for each in parts),
        run,
        number,
    )


def batch(first: int, *entries: Entry, run: str = RUN, base: int = 0, closed: bool = False) -> Batch:
    return Batch(run, first, base, first + len(entries), entries, closed)


def test_an_entry_is_read_as_it_was_written(database: Database) -> None:
    store = LedgerStore(database)
    whole = entry(0, part("fast", "no_think", tokens=1, nano=5), part("deep", "think", tokens=2, nano=7))
    bare = entry(1)._replace(outcome=Outcome.LOST, status=502)
    assert store.add([batch(0, whole, bare)]).entries == [whole, bare]
    assert store.entries() == [(1, whole), (2, bare)]
    assert store.entry(whole.id) == whole
    assert store.entry("nobody") is None
    assert store.entries(after=1) == [(2, bare)]
    assert store.entries(since=NOON + 1) == store.entries(until=NOON) == store.entries(tenant="other") == []


def test_the_sums_are_by_part_and_hour_and_day(database: Database) -> None:
    store = LedgerStore(database)
    first, second = part("fast", "no_think", tokens=10, nano=50), part("deep", "think", tokens=20, nano=70)
    hit = part("fast", "no_think", tokens=10, nano=1)
    store.add([batch(0, entry(0, first, second), entry(1, second, at=NOON + HOUR), entry(2, hit, cache="hit"))])
    store.add([batch(3, entry(3, first), entry(4, at=NOON - DAY, tenant="else"))])
    correction = entry(0, part("fast", "no_think", tokens=0, nano=-20), run="")
    fix = correction._replace(kind=Kind.CORRECTION, corrects=f"{RUN}-0", comment="too much", status=0, key="")
    assert store.append([fix]) == [fix]
    assert store.append([fix]) == []
    assert store.corrections_of(f"{RUN}-0") == [fix]
    totals = {(tenant, mode, pool): told for (tenant, _, mode, pool), told in store.totals().items()}
    fast = dict(zip(CLASSES, totals["acme", "no_think", "fast"].amounts, strict=True))
    paid = dict(zip(CLASSES, totals["acme", "no_think", "fast"].costs, strict=True))
    assert (fast["input"], fast["answer"]) == (20, 40)  # the hit has used nothing
    assert (paid["input"], paid["answer"]) == (50 + 50 + 1 - 20, 3 * (50 + 50 + 1 - 20))
    assert sum(totals["acme", "think", "deep"].costs) == 2 * 4 * 70
    assert sum(totals["else", "think", ""].costs) == 0
    assert store.spent_by_run(RUN) == {
        ("acme", "2026-01-01"): 4 * (50 + 70 + 70 + 1 + 50),
        ("else", "2025-12-31"): 0,
    }
    assert store.spent_by_run("") == {("acme", "2026-01-01"): -80}
    assert store.spent_by(RUN, ["acme", "nobody"], "2026-01-01") == {("acme", "2026-01-01"): 4 * 241}
    assert {row[:3] for row in store.spent_since("2026-01-01")} == {
        ("acme", RUN, "2026-01-01"),
        ("acme", "", "2026-01-01"),
    }
    assert set(store.spent_by_day("2026-01-01")) == {("acme", "2026-01-01", 4 * 241 - 80)}
    since_noon = {(tenant, mode): sum(costs) for (tenant, _, mode), costs in store.costs_since(NOON).items()}
    assert since_noon == {("acme", "no_think"): 4 * (50 + 50 + 1 - 20), ("acme", "think"): 4 * 2 * 70}
    later = {mode: costs[CLASSES.index("answer")] for (_, _, mode), costs in store.costs_since(NOON + HOUR).items()}
    assert later == {"think": 3 * 70}
    assert store.counts() == {("request", "answered"): 5, ("correction", "answered"): 1}


@pytest.mark.parametrize("seed", range(2))
def test_batches_may_come_twice_too_early_or_again_in_other_pieces(database: Database, seed: int) -> None:
    """As after a Redis that lost some: what is told as committed is all there, and in the end all is there once."""
    draw = random.Random(seed)
    store = LedgerStore(database)
    wanted = {
        run: [entry(number, part("p", "think", tokens=1, nano=number + 1), run=run) for number in range(40)]
        for run in (RUN, OTHER)
    }
    told = {RUN: 0, OTHER: 0}
    closed: set[str] = set()
    for _ in range(400):
        run = draw.choice([RUN, OTHER])
        first = draw.choice([told[run], draw.randrange(41)])
        some = wanted[run][first : first + draw.randrange(9)]
        ends = first + len(some) == 40
        written = store.add([batch(first, *some, run=run, base=draw.randint(0, told[run]), closed=ends)])
        for changed, committed in written.committed.items():
            assert committed >= told[changed]
            told[changed] = committed
        for ended in written.closed:
            told[ended] = 40
            closed.add(ended)
        there = {each.id for _, each in store.entries()}
        assert {each.id for each in wanted[run][: told[run]]} <= there
        if closed == {RUN, OTHER}:
            break
    found = store.entries()
    assert closed == {RUN, OTHER}
    assert not store.has_open_runs()
    assert [seq for seq, _ in found] == list(range(1, 81))
    assert Counter(each.id for _, each in found) == Counter(each.id for run in wanted for each in wanted[run])
    ((_, totals),) = store.totals().items()
    assert sum(totals.costs) == sum(each.total for _, each in found)
    assert sum(store.spent_by_run(RUN).values()) == sum(each.total for each in wanted[RUN])


def test_a_database_that_is_older_than_the_spools_goes_on_and_says_what_is_missing(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It was restored from a backup: what routers have deleted since can't come again, what they have does."""
    store = LedgerStore(database)
    with caplog.at_level(logging.ERROR):
        written = store.add([batch(7, entry(7), entry(8), base=5)])
    assert written.committed == {RUN: 5}  # 5 and 6 are still to come
    assert "entries 0 to 4 are gone" in caplog.text
    assert store.add([batch(5, entry(5), entry(6), entry(7), base=5)]).committed == {RUN: 8}
    assert store.has_open_runs()


def test_days_are_those_of_utc() -> None:
    assert day_of(NOON) == "2026-01-01"
    assert day_of(NOON + 12 * HOUR - 1) == "2026-01-01"
    assert day_of(NOON + 12 * HOUR) == "2026-01-02"
