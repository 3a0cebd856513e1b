"""Prices in SQL: numbered by pool, set for all twins or for none, ended but not rewritten, one writer at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from pointsman.contracts.config_pools import Prices
from pointsman.contracts.price_book import Overlap
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database
from pointsman.store.price_projection import PAST, periods_of, projected
from pointsman.store.prices import PricesChanged, PriceStore, tag_of

DEAR = Prices.model_validate({"input": "0.20", "cached_input": 0, "output": 3, "cache_call": "0.0015"})
CHEAP = Prices.model_validate({"input": "0.000000001", "output": 1})


@pytest.fixture
def store(database: Database) -> PriceStore:
    return PriceStore(database)


def test_versions_come_back_as_they_were_written_and_only_their_end_can_change(
    store: PriceStore, database: Database
) -> None:
    store.add(["a", "b"], DEAR, since=1_000, until=None, by="me", comment="new year")
    store.add(["a", "b"], CHEAP, since=2_000, until=None, by="you", comment="")
    kept = store.all()
    said = [(one.period.pool, one.period.version, one.period.since, one.period.until) for one in kept]
    assert said == [("a", 1, 1_000, None), ("a", 2, 2_000, None), ("b", 1, 1_000, None), ("b", 2, 2_000, None)]
    assert [one.period.prices for one in kept] == [DEAR, CHEAP, DEAR, CHEAP]
    assert (kept[0].created_by, kept[0].comment, kept[1].created_by) == ("me", "new year", "you")

    before = tag_of(kept)
    store.end(["a", "b"], 2_000, until=9_000, by="you", expected=before)
    assert tag_of(store.all()) != before
    with pytest.raises(PricesChanged):
        store.end(["a", "b"], 2_000, until=9_500, by="me")  # an end never moves back
    with pytest.raises(PricesChanged):
        store.end(["a"], 3_000, until=9_500, by="me")  # no such period
    with pytest.raises(PricesChanged):
        store.add(["a", "b"], DEAR, since=20_000, until=None, by="me", comment="", expected=before)
    assert [one.period.until for one in store.of(["a"])] == [None, 9_000]
    rows = AuditLog(database).page(limit=10)
    assert [(row.action, row.object) for row in rows[:2]] == [("prices.end", "pool:b"), ("prices.end", "pool:a")]
    assert '"until":9000' in (rows[0].after or "")


def test_one_twin_in_the_way_and_nothing_is_written_for_any(store: PriceStore, database: Database) -> None:
    store.add(["b"], DEAR, since=1_000, until=2_000, by="me", comment="")
    with pytest.raises(Overlap) as refused:
        store.add(["a", "b"], CHEAP, since=500, until=1_500, by="me", comment="")
    assert refused.value.field == "effective_until"
    assert [one.period.pool for one in store.all()] == ["b"]
    assert len(AuditLog(database).page(limit=10)) == 1


def test_of_many_writers_at_the_same_moment_one_wins(store: PriceStore) -> None:
    together = Barrier(5)

    def write(number: int) -> bool:
        together.wait()
        try:
            store.add(["a"], CHEAP, since=1_000 + number, until=2_000, by=str(number), comment="")
        except (Overlap, PricesChanged):
            return False
        return True

    with ThreadPoolExecutor(5) as pool:
        assert sum(pool.map(write, range(5))) == 1
    assert len(store.all()) == 1


def test_routers_read_what_may_still_be_asked_for(store: PriceStore) -> None:
    store.add(["a"], DEAR, since=1_000, until=2_000, by="me", comment="")
    store.add(["a"], CHEAP, since=2_000, until=None, by="me", comment="")
    store.add(["a"], DEAR, since=9_000, until=None, by="me", comment="")
    store.end(["a"], 9_000, until=9_000, by="me")  # taken back
    text = projected(store.all(), now=3_000)
    assert [(each.version, each.prices) for each in periods_of(text)] == [(1, DEAR), (2, CHEAP)]
    assert projected(store.all(), now=3_000) == text
    later = projected(store.all(), now=2_000 + PAST)
    assert [each.version for each in periods_of(later)] == [2]


@pytest.mark.parametrize(
    "text",
    [b"", b"{}x", b"[1]", b'[{"pool": "a"}]', b'[{"pool":"a","version":1,"since":1,"until":null,"prices":{}}]'],
)
def test_what_nobody_wrote_is_no_price(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        periods_of(text)
