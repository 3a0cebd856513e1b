"""Dashboards and rules on a real Prometheus that watched a real run: none is empty, and money is the bill's."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from pointsman.contracts.ledger import Outcome
from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import NANO
from support import forking
from support.boards import BOARDS, TENANT, board, charted, filled, parsed, rules, selectors
from support.chat import environment
from support.eventful import HISTORY, TOLD, WATCHED, EventfulRun

pytestmark = pytest.mark.timeout(300)  # on a busy machine the run takes a while, and the first test has it all

NOT_HERE = {'pointsman_degraded{part="redis"}'}
"""What an alert looks for and this run does not bring about; tests/integration/failures do."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventfulRun]:
    with EventfulRun(tmp_path_factory.mktemp("gw")) as run:
        yield run


def asked(run: EventfulRun, expression: str) -> str:
    """`expression` as Grafana would send it, with everything chosen in every variable."""
    span = f"{int(run.ended - run.begun)}s"
    provisioned = expression.replace("__tenant__", WATCHED).replace("__namespace__", "")
    return filled(provisioned, __rate_interval="30s", __range=span)


def has_data(run: EventfulRun, target: dict[str, Any]) -> bool:
    expression = asked(run, target["expr"])
    if target["instant"]:
        found = [[sample.value] for sample in run.prometheus.now(expression, run.ended)]
    else:
        found = run.prometheus.course(expression, run.begun, run.ended)
    return any(math.isfinite(value) for series in found for value in series)


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_is_empty(run: EventfulRun, name: str) -> None:
    empty = [
        f"{panel['title']}: {asked(run, target['expr'])}"
        for panel in charted(name)
        for target in panel["targets"]
        if not has_data(run, target)
    ]
    assert not empty, "\n".join(empty)
    assert not has_data(run, {"expr": "pointsman_nothing_total", "instant": True})


@pytest.mark.parametrize("name", BOARDS)
def test_each_selector_finds_series_of_its_own(run: EventfulRun, name: str) -> None:
    """So that no `or vector(0)` hides a label that does not exist."""
    for panel in charted(name):
        for target in panel["targets"]:
            assert not strays(run, asked(run, target["expr"])), panel["title"]


def strays(run: EventfulRun, expression: str) -> list[str]:
    """The selectors of `expression` that no series of the run meets."""
    found = [re.sub(r"( offset .*| @ .*)$", "", str(each)) for each in selectors(parsed(expression))]
    return [each for each in found if not run.prometheus.course(each, run.begun, run.ended)]


@pytest.mark.parametrize("name", [name for name in BOARDS if name != TENANT])
def test_every_variable_has_values_to_choose_from(run: EventfulRun, name: str) -> None:
    variables = [each for each in board(name)["templating"]["list"] if each["type"] == "query"]
    for variable in variables:
        query = variable["query"]["query"]
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert found
        values = run.prometheus.values(found[2], asked(run, found[1]))
        # Outside of Kubernetes there is no namespace; "All" is what holds then.
        assert values or found[2] == "namespace", query
    assert {each["name"] for each in variables} > {"namespace"}


def test_the_rules_find_what_they_look_at(run: EventfulRun) -> None:
    evaluated = run.prometheus.rules()
    assert {rule["health"] for rule in evaluated} == {"ok"}, [rule for rule in evaluated if rule["health"] != "ok"]
    kept = rules("record") + rules("alert")
    assert len(evaluated) == len(kept)
    for rule in kept:
        assert set(strays(run, rule["expr"])) <= NOT_HERE, rule
    # What happened is told, and an entry that was lost weeks ago no more.
    firing = {sample.labels["alertname"] for sample in run.prometheus.now('ALERTS{alertstate="firing"}', run.ended)}
    assert firing == {"PointsmanPolicyReturned"}
    for rule in rules("record"):
        assert run.prometheus.course(rule["record"], run.begun, run.ended), rule["record"]


# -- money


def panel_of(name: str, title: str) -> list[str]:
    (panel,) = (each for each in charted(name) if each["title"] == title)
    return [target["expr"] for target in panel["targets"]]


def shown(run: EventfulRun, name: str, title: str, label: str = "") -> dict[str, int]:
    """Nano-dollars that the first query of a panel shows, by `label`."""
    samples = run.prometheus.now(asked(run, panel_of(name, title)[0]), run.ended)
    return {sample.labels.get(label, ""): round(sample.value * NANO) for sample in samples}


def report(run: EventfulRun, by: str, since: datetime, **only: str) -> dict[str, int]:
    """The same by the admin API, which `pointsman costs` asks."""
    params = {"by": by, "since": since.isoformat(), **only}
    rows = run.admin("GET", "costs", params=params).json()["data"]
    return {row[by]: int(Decimal(row["cost_usd"]) * NANO) for row in rows}


def command(run: EventfulRun, since: datetime) -> int:
    """What `pointsman costs` says of everybody together."""
    said = forking.run(
        ["costs", "--by", "tenant", "--since", since.isoformat(), "--format", "json", "--url", run.gateway.url],
        env=environment(POINTSMAN_ADMIN_KEY=run.gateway.admin_key),
        timeout=60,
    )
    assert said.returncode == 0, said.stderr
    return sum(int(Decimal(row["cost_usd"]) * NANO) for row in json.loads(said.stdout)["data"])


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def test_money_is_what_the_ledger_the_command_and_the_clients_say(run: EventfulRun) -> None:
    booked = [entry for _, entry in run.ledger.entries(limit=100_000)]
    played = [entry for entry in booked if entry.tenant in TOLD and not entry.id.startswith("past-")]
    assert len(played) > 100
    assert {entry.outcome for entry in played} == {Outcome.ANSWERED}
    assert min(entry.total for entry in played) >= NANO // 100, "each request costs a cent at least"
    assert sum(entry.total for entry in played) == int(sum(run.told) * NANO)

    today, month = midnight(), midnight().replace(day=1)
    since_today, since_month = (int(moment.timestamp() * 1000) for moment in (today, month))
    in_month = sum(entry.total for entry in booked if entry.at >= since_month)
    assert shown(run, "cost", "All there is") == {"": sum(entry.total for entry in booked)}
    assert shown(run, "cost", "This month") == {"": in_month}
    assert command(run, month) == in_month
    assert shown(run, "cost", "Today") == {"": sum(entry.total for entry in booked if entry.at >= since_today)}
    for title, label in (("By mode", "mode"), ("By model", "model"), ("By tenant", "tenant")):
        assert shown(run, "cost", title, label) == report(run, label, month)
    assert sum(shown(run, "cost", "By token class", "token_class").values()) == in_month
    assert shown(run, TENANT, "This month") == {"": report(run, "tenant", month)[WATCHED]}
    assert shown(run, TENANT, "By mode", "mode") == report(run, "mode", month, tenant=WATCHED)

    counted = sum(sample.value for sample in run.prometheus.now(Metric.COST, run.ended))
    now_booked = sum(entry.total for entry in booked if not entry.id.startswith("past-"))
    assert counted == pytest.approx(now_booked / NANO, rel=0.001)


def test_the_months_end_is_told_from_the_days_before(run: EventfulRun) -> None:
    low, middle, high = (
        run.prometheus.now(asked(run, query), run.ended)[0].value
        for query in panel_of("cost", "Month's end, all tenants")
    )
    spent = shown(run, "cost", "This month")[""] / NANO
    assert spent <= low < middle < high
    now = datetime.now(UTC)
    left = (midnight().replace(day=28).toordinal() - now.toordinal()) + 4
    # A day of the two tenants together costs thirteen dollars on the average; a month has 28 to 31 of them.
    assert HISTORY >= 28
    assert spent < middle < spent + 15 * (left + 1)


def test_what_thinking_was_spared_is_told_with_its_range(run: EventfulRun) -> None:
    low, middle, high = (
        sum(sample.value for sample in run.prometheus.now(asked(run, query), run.ended))
        for query in panel_of("cost", "Spared in this time")
    )
    assert 0 <= low <= middle <= high
    assert high > 0
