"""What a day and a month cost and will cost, as gauges: to the nano-dollar what the ledger has."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.ledger import Entry, Kind, Outcome, Part
from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import NANO, Cost, Usage
from pointsman.router.ledger.forecast import ENOUGH, habit_of
from pointsman.router.ledger.spending import Spending
from pointsman.store.database import Database, database_url
from pointsman.store.ledger import LedgerStore

NOW = datetime(2026, 4, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Books:
    """A ledger, and the gauges that are made of it."""

    def __init__(self, database: Database) -> None:
        self.store = LedgerStore(database)
        self.shown: dict[tuple[str, ...], float] = {}
        self.spending = Spending(self.store, lambda tenant: tenant, self._show)
        self._number = 0

    def _show(self, name: str, labels: dict[str, str], value: float) -> None:
        self.shown[name, *labels.values()] = value

    def book(self, at: datetime, nano: int, *, tenant: str = "acme", mode: str = "think") -> list[Entry]:
        self._number += 1
        when = int(at.timestamp() * 1000)
        part = Part("deep", mode, Usage(answer=7), Cost(answer=nano), 0)
        name = f"r{self._number}"
        entry = Entry(
            name, Kind.REQUEST, when, when, tenant, "0", name, "m", mode, 200, Outcome.ANSWERED, False, "", (part,),
            nano, "run", self._number,
        )  # fmt: skip
        return self.store.append([entry])

    def nano(self, period: str, *, tenant: str = "acme", mode: str = "think") -> int:
        return round(self.shown[Metric.LEDGER_PERIOD_COST, tenant, "m", mode, "answer", period] * NANO)

    def foretold(self, tenant: str | None = None) -> list[float]:
        """Dollars: low, middle, high; empty where nothing is foretold."""
        name = (Metric.LEDGER_FORECAST,) if tenant is None else (Metric.LEDGER_TENANT_FORECAST, tenant)
        return [self.shown[*name, each] for each in ("low", "middle", "high") if (*name, each) in self.shown]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    database = Database(database_url(None, tmp_path))
    yield Books(database)
    database.close()


def test_a_day_and_a_month_are_those_of_the_ledger_to_the_nano_dollar(books: Books) -> None:
    large = 4_000_000 * NANO + 1  # four million dollars and a nano-dollar: as much as a double tells apart
    books.book(NOW - 10 * DAY, 5)  # of the month before
    books.book(NOW - 3 * DAY, large)
    books.book(NOW, 7)
    books.book(NOW, 11, mode="no_think")
    books.spending.read(NOW)
    assert (books.nano("daily"), books.nano("monthly")) == (7, large + 7)
    assert books.nano("daily", mode="no_think") == 11
    books.spending.add([*books.book(NOW, 13), *books.book(NOW - DAY, 17), *books.book(NOW - 20 * DAY, 19)], NOW)
    assert (books.nano("daily"), books.nano("monthly")) == (20, large + 37)
    told = dict(books.shown)
    books.spending.read(NOW)
    assert {key: value for key, value in books.shown.items() if key[0] == Metric.LEDGER_PERIOD_COST} == {
        key: value for key, value in told.items() if key[0] == Metric.LEDGER_PERIOD_COST
    }


def test_with_the_day_and_the_month_the_sums_begin_anew(books: Books) -> None:
    books.book(NOW, 7)
    books.spending.read(NOW)
    midnight = datetime(2026, 4, 11, tzinfo=UTC)
    assert not books.spending.over(midnight - timedelta(milliseconds=1))
    assert books.spending.over(midnight)
    books.spending.read(midnight)
    assert (books.nano("daily"), books.nano("monthly")) == (0, 7)
    books.spending.read(datetime(2026, 5, 1, tzinfo=UTC))
    assert books.nano("monthly") == 0


def test_who_spends_the_same_each_day_is_foretold_that(books: Books) -> None:
    for day in range(1, 20):
        books.book(NOW - day * DAY, 2 * NANO)
    books.book(NOW, NANO)  # by noon
    books.spending.read(NOW)
    # Nine whole days of April at two dollars, today's one, and two for each of the 20.5 days that are left.
    assert books.foretold() == books.foretold("acme") == pytest.approx([60, 60, 60])
    books.spending.add(books.book(NOW, 5 * NANO), NOW)
    assert books.foretold() == books.foretold("acme") == pytest.approx([65, 65, 65])


def test_nothing_is_foretold_of_a_tenant_who_has_just_begun(books: Books) -> None:
    books.book(NOW - 2 * DAY, NANO, tenant="new")
    books.spending.read(NOW)
    assert books.foretold("new") == []
    books.spending.read(NOW + DAY)
    assert books.foretold("new") == pytest.approx([1, 1, 1])  # two whole days have gone by, with nothing spent
    books.spending.read(NOW + 60 * DAY)
    assert books.foretold("new") == [0, 0, 0]


nanos = st.integers(0, 10**15)


@given(days=st.lists(nanos, max_size=28), spent=nanos, left=st.floats(0, 31))
def test_a_forecast_is_never_below_what_is_spent_and_its_range_holds_the_mean(
    days: list[int], spent: int, left: float
) -> None:
    habit = habit_of(days)
    if len(days) < ENOUGH:
        assert habit is None
        return
    assert habit is not None
    told = habit.forecast(spent, left)
    assert spent <= told.low <= told.middle * (1 + 1e-12)
    assert told.middle <= told.high
    assert told.middle == pytest.approx(spent + fmean(days) * left)


def test_a_forecasts_range_holds_nine_months_in_ten() -> None:
    """Months made of days that vary, foretold from the 28 days before."""
    chance = random.Random(3)
    held = 0
    for _ in range(2000):
        days = [round(max(0.0, chance.gauss(100, 30)) * NANO) for _ in range(28)]
        habit = habit_of(days)
        assert habit is not None
        told = habit.forecast(0, 20)
        held += told.low <= sum(max(0.0, chance.gauss(100, 30)) * NANO for _ in range(20)) <= told.high
    assert 0.86 < held / 2000 < 0.93
