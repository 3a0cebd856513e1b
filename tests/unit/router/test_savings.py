"""What answers without thinking spare, as the metrics tell it: quartiles beside the median, and nothing while
little is known; and what tenants have of their budgets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pointsman.contracts.limits import Budget
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Metric
from pointsman.router import metrics as metrics_module
from pointsman.router import savings as savings_module
from pointsman.router.admission.lease_book import LeaseBook
from pointsman.router.admission.purse import Purse
from pointsman.router.budget_gauges import SOME, BudgetGauges
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.metrics import OTHERS, Metrics
from pointsman.router.pipeline.place import Place
from pointsman.router.savings import ENOUGH, Savings
from pointsman.router.snapshot import compile_snapshot
from support.exchanges import exchange_with
from support.fleets import config_with, fleet_of

POOLS = (
    {"name": "fast", "modes": ["no_think"], "prices": {"input": 1, "output": 2}},
    {"name": "deep", "modes": ["think"], "prices": {"input": 1, "output": 10, "reasoning": 20}},
)


class Saving:
    def __init__(self, folder: Path) -> None:
        config = config_with(*POOLS, tenants=[{"name": "t", "key_digests": ["0" * 64]}])
        snapshot = compile_snapshot(config)
        self.tenant = snapshot.tenants.views["t"]
        self.place = Place(fleet_of(config, folder))
        self.metrics = Metrics(folder / "numbers")
        self.savings = Savings(self.place, snapshot.prices, self.metrics)

    def answered(self, mode: Mode, *lengths: int) -> None:
        route = self.place.route(self.tenant, self.tenant.models["m"])
        track = route.think if mode is Mode.THINK else route.no_think
        assert track is not None
        for length in lengths:
            track.output_length.learn(length)

    def exchange(self) -> Exchange:
        exchange = exchange_with({"model": "m", "messages": []}, endpoint=Endpoint.CHAT)
        exchange.tenant, exchange.model = self.tenant, self.tenant.models["m"]
        return exchange

    def told(self, name: str, estimate: str) -> float:
        labels = {"tenant": "t", "model": "m", "method": "estimated", "estimate": estimate}
        return self.metrics.counter(name, labels).value


@pytest.fixture
def saving(tmp_path: Path) -> Saving:
    return Saving(tmp_path)


def test_of_many_tenants_a_part_is_told_at_each_sweep_and_all_at_the_end(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(savings_module, "SOME", 2)
    monkeypatch.setattr(savings_module, "SWEEPS", 4)

    def everybody_asks() -> None:
        for number in range(20):
            saving.tenant.name = f"t{number}"
            saving.answered(Mode.NO_THINK, *[100] * ENOUGH)
            saving.answered(Mode.THINK, *[1000] * ENOUGH)
            saving.savings.note(saving.exchange())

    def told() -> Any:
        return saving.savings.told()["requests"]

    everybody_asks()
    assert [(saving.savings.tell(0.0), told())[1] for _ in range(3)] == [5, 10, 15]
    everybody_asks()
    assert [(saving.savings.tell(0.0), told())[1] for _ in range(3)] == [20, 25, 30]
    everybody_asks()
    saving.savings.finish()
    assert told() == 60
    saving.savings.tell(0.0)
    assert told() == 60


def test_of_too_many_tenants_the_later_ones_are_told_together(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_module, "MAX_TENANTS", 3)
    names = [f"t{number}" for number in range(50)]
    for name in names:
        saving.tenant.name = name
        saving.answered(Mode.NO_THINK, *[100] * ENOUGH)
        saving.answered(Mode.THINK, *[1000] * ENOUGH)
        saving.savings.note(saving.exchange())
        saving.savings.tell(0.0)
    assert len(saving.savings._cells) == 3 + 1
    labels = {"model": "m", "method": "estimated", "estimate": "middle"}
    together = saving.metrics.counter(Metric.AVOIDED_TOKENS, {**labels, "tenant": OTHERS}).value
    alone = saving.metrics.counter(Metric.AVOIDED_TOKENS, {**labels, "tenant": names[0]}).value
    assert together == pytest.approx(47 * alone, rel=0.2)


def test_what_is_spared_is_the_difference_of_the_medians_between_quartiles(saving: Saving) -> None:
    saving.answered(Mode.NO_THINK, *[100] * 200)
    saving.answered(Mode.THINK, *[500, 1000, 1000, 2000] * 500)
    for _ in range(3):
        saving.savings.note(saving.exchange())
    saving.savings.tell(0.0)
    low, middle, high = (saving.told(Metric.AVOIDED_TOKENS, name) / 3 for name in ("low", "middle", "high"))
    assert middle == pytest.approx(900, rel=0.12)
    assert 350 < low < middle < high < 2000
    # 100 tokens of answer at $10 instead of $2, and what is thought beside at $20, for a million each
    assert saving.told(Metric.AVOIDED_COST, "middle") / 3 == pytest.approx((100 * 8 + middle * 20) / 1e6, rel=1e-2)
    saving.savings.tell(1.0)
    assert saving.told(Metric.AVOIDED_TOKENS, "middle") == pytest.approx(3 * middle)  # once each
    told = saving.savings.told()
    assert told["requests"] == 3
    assert told["middle"]["tokens"] == round(3 * middle)
    assert told["middle"]["nano"] / 1e9 == pytest.approx(saving.told(Metric.AVOIDED_COST, "middle"))


def test_nothing_is_claimed_before_enough_was_seen(saving: Saving) -> None:
    saving.answered(Mode.NO_THINK, *[100] * 200)
    saving.answered(Mode.THINK, *[1000] * (ENOUGH - 1))
    saving.savings.note(saving.exchange())
    saving.savings.tell(0.0)
    assert saving.told(Metric.AVOIDED_TOKENS, "high") == 0


def test_a_model_that_thinks_no_longer_than_it_answers_spares_nothing(saving: Saving) -> None:
    saving.answered(Mode.NO_THINK, *[400] * 200)
    saving.answered(Mode.THINK, *[20] * 200)
    saving.savings.note(saving.exchange())
    saving.savings.tell(0.0)
    assert saving.told(Metric.AVOIDED_TOKENS, "high") == 0
    assert saving.told(Metric.AVOIDED_COST, "high") == 0


class Book:
    """Tenants with a daily budget each, of which they have spent a half."""

    def __init__(self, number: int, ends: datetime) -> None:
        self.allowances: list[Any] = []
        for index in range(number):
            day = Purse("2026-01-01", ends)
            day.hold_to(Budget(hard_usd=Decimal(10), soft_usd=Decimal(8)))
            day.spent = 5 * 10**9
            self.allowances.append(SimpleNamespace(name=f"t{index}", day=day, month=Purse("2026-01", ends)))

    def priced(self) -> list[Any]:
        return self.allowances


@pytest.mark.parametrize(("ends_in", "spent"), [(1, 5.0), (-1, 0.0)], ids=["today", "yesterday"])
def test_budgets_are_shown_a_few_tenants_at_a_time(tmp_path: Path, ends_in: int, spent: float) -> None:
    book = Book(SOME + 1, datetime.now(UTC) + timedelta(hours=ends_in))
    metrics = Metrics(tmp_path)
    gauges = BudgetGauges(cast(LeaseBook, book), metrics)
    last = {"tenant": f"t{SOME}", "period": "daily"}
    gauges.tell(1.0)  # finds out whom to look at
    gauges.tell(1.5)
    assert metrics.gauge(Metric.BUDGET, {**last, "mark": "hard"}).value == 0
    gauges.tell(2.0)
    assert metrics.gauge(Metric.BUDGET, {**last, "mark": "hard"}).value == 10
    assert metrics.gauge(Metric.BUDGET, {**last, "mark": "soft"}).value == 8
    assert metrics.gauge(Metric.BUDGET_SPENT, last).value == spent
