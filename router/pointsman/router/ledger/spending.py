"""What the present day and month have cost by the ledger, and what the month will: gauges for dashboards.

A part of `gauges.py`, which reads and counts for both. Prometheus could not take these from the ledger's sums: it
knows what they were only since it has watched, and between two scrapes guesses.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from pointsman.contracts.ledger import Entry
from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import NANO
from pointsman.router.ledger.forecast import WINDOW, Habit, habit_of
from pointsman.store.ledger import LedgerStore
from pointsman.store.ledger_tables import CLASSES

DAY = timedelta(days=1)

PERIODS = ("daily", "monthly")

Key = tuple[str, str, str]
Whose = str | None
"""What a tenant is shown as; None stands for all of them together."""

Show = Callable[[str, dict[str, str], float], None]
"""Sets the gauge of a name and labels."""


class Spending:
    """
    Keeps `pointsman_ledger_period_cost_usd` and the forecasts. Days and months are those of UTC.

    `label` gives what a tenant is shown as.
    """

    def __init__(self, store: LedgerStore, label: Callable[[str], str], show: Show) -> None:
        self._store = store
        self._label = label
        self._show = show
        self._sums: dict[Key, tuple[list[int], list[int]]] = {}
        self._begins = self._ends = (0, 0)
        """Of the day and of the month that the sums are of, in milliseconds since 1970."""
        self._told: set[tuple[Key, str, str]] = set()
        self._habits: dict[Whose, Habit] = {}
        self._months: dict[Whose, int] = {}
        """What the month has cost up to now, of those who have a habit."""

    def over(self, now: datetime) -> bool:
        """Whether the day that is shown has ended."""
        return _milliseconds(now) >= self._ends[0]

    def read(self, now: datetime) -> None:
        """Take everything from the database."""
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        month = day.replace(day=1)
        next_month = month + monthrange(now.year, now.month)[1] * DAY
        self._begins = (_milliseconds(day), _milliseconds(month))
        self._ends = (_milliseconds(day + DAY), _milliseconds(next_month))
        before, self._sums = self._sums, {}
        for since, period in zip(self._begins, (0, 1), strict=True):
            for (tenant, model, mode), costs in self._store.costs_since(since).items():
                self._add_to((self._label(tenant), model, mode), period, costs)
        for key in before.keys() | self._sums.keys():
            self._tell(key)
        self._learn(day, month)
        for whose in self._habits:
            self._foretell(whose, now)

    def add(self, entries: Iterable[Entry], now: datetime) -> None:
        """`entries` have been written."""
        changed: set[Key] = set()
        spenders: set[Whose] = set()
        for entry in entries:
            tenant = self._label(entry.tenant)
            for period in (0, 1):
                if self._begins[period] <= entry.at < self._ends[period]:
                    for part in entry.parts:
                        key = (tenant, entry.model, str(part.mode))
                        self._add_to(key, period, part.cost)
                        changed.add(key)
            if self._begins[1] <= entry.at < self._ends[1]:
                for whose in (None, tenant):
                    if whose in self._habits:
                        self._months[whose] += entry.total
                        spenders.add(whose)
        for key in changed:
            self._tell(key)
        for whose in spenders:
            self._foretell(whose, now)

    def _add_to(self, key: Key, period: int, costs: tuple[int, ...]) -> None:
        sums = self._sums.setdefault(key, ([0] * len(CLASSES), [0] * len(CLASSES)))[period]
        for at, nano in enumerate(costs):
            sums[at] += nano

    def _tell(self, key: Key) -> None:
        tenant, model, mode = key
        both = self._sums.get(key, ([0] * len(CLASSES),) * 2)
        for period, sums in zip(PERIODS, both, strict=True):
            for name, nano in zip(CLASSES, sums, strict=True):
                place = (key, period, name)
                if not nano and place not in self._told:
                    continue  # a gauge can't be taken back: only what was told once must be told to be nothing now
                self._told.add(place)
                labels = {"tenant": tenant, "model": model, "mode": mode, "token_class": name, "period": period}
                self._show(Metric.LEDGER_PERIOD_COST, labels, nano / NANO)

    def _learn(self, day: datetime, month: datetime) -> None:
        """What whole days cost, of whom there are enough."""
        first = day - WINDOW * DAY
        window = [_date(first + number * DAY) for number in range(WINDOW)]
        days: dict[Whose, dict[str, int]] = {whose: {} for whose in self._habits}
        for tenant, date, nano in self._store.spent_by_day(_date(min(first, month))):
            for whose in (None, self._label(tenant)):
                own = days.setdefault(whose, {})
                own[date] = own.get(date, 0) + nano
        for whose, own in days.items():
            habit = habit_of(self._whole_days(whose, own, window))
            if habit is not None:
                self._habits[whose] = habit
                self._months[whose] = sum(nano for date, nano in own.items() if date >= _date(month))

    def _whole_days(self, whose: Whose, days: Mapping[str, int], window: list[str]) -> list[int]:
        """What each whole day of `window` has cost, from the second one with any cost on."""
        begun = next((at for at, date in enumerate(window) if date in days), None)
        if begun is None:
            # Somebody who had whole days before has had nothing but whole days without any cost since.
            return [0] * len(window) if whose in self._habits else []
        # At the window's first day it has most likely not begun: that one counts as whole.
        return [days.get(date, 0) for date in window[begun + 1 if begun else 0 :]]

    def _foretell(self, whose: Whose, now: datetime) -> None:
        left = (self._ends[1] / 1000 - now.timestamp()) / DAY.total_seconds()
        foretold = self._habits[whose].forecast(self._months[whose], max(0.0, left))
        for estimate, amount in foretold._asdict().items():
            if whose is None:
                self._show(Metric.LEDGER_FORECAST, {"estimate": estimate}, amount / NANO)
            else:
                self._show(Metric.LEDGER_TENANT_FORECAST, {"tenant": whose, "estimate": estimate}, amount / NANO)


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
