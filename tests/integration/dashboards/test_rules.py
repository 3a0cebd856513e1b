"""The rules for Prometheus, judged by promtool: each alert fires when it should, and only then."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from pointsman.contracts.names import Metric
from support.prometheus import program

ROOT = Path(__file__).parents[3]
RULES = ROOT / "dashboards" / "prometheus"
FILES = ("recording.yaml", "alerts.yaml")
CHART = ROOT / "charts" / "pointsman" / "files" / "prometheus"
PROMTOOL = program("promtool")

DAYS = 2 * 24 * 3
"""Steps of twenty minutes in two days: alerts that compare with what was want more than one to have passed."""


class Scenario(NamedTuple):
    """
    `series`: values in promtool's notation by series, laid over those of `WELL`; `step`: minutes between two of
    them, and between two evaluations; `at`: minutes after which exactly `firing` fire.
    """

    series: dict[str, str]
    firing: frozenset[str] = frozenset()
    step: int = 2
    at: int = 90


REQUESTS = 'pointsman_requests_total{tenant="a",model="m",mode="think",pool="deep",status="%s"}'
FIRST_BYTE = 'pointsman_time_to_first_token_seconds_%s{model="m",mode="think",pool="deep"%s}'
WELL = {
    REQUESTS % 200: "0+600x2000",
    REQUESTS % 503: "0+0x2000",
    FIRST_BYTE % ("bucket", ',le="2.5"'): "0+600x2000",
    FIRST_BYTE % ("count", ""): "0+600x2000",
    'pointsman_request_duration_seconds_count{model="m",mode="think",pool="deep"}': "0+600x2000",
    'pointsman_request_duration_seconds_count{model="m",mode="no_think",pool="fast"}': "0+600x2000",
    'pointsman_pool_waiting_requests{model="m",pool="deep"}': "0+0x2000",
    'pointsman_pool_waiting_requests{model="m",pool="fast"}': "9+0x2000",
    'pointsman_shed_requests_total{model="m",pool="deep",priority="5"}': "7+0x2000",
    'pointsman_resting_replicas{model="m",pool="deep"}': "0+0x2000",
    "pointsman_requests_in_flight": "3+0x2000",
    'pointsman_think_probability_sum{model="m"}': "0+180x2000",
    'pointsman_think_probability_count{model="m"}': "0+600x2000",
    'pointsman_escalations_total{tenant="a",model="m",reason="empty"}': "0+6x2000",
    'pointsman_policy_stage_returns_total{tenant="a",stage="canary",reason="errors"}': "2+0x2000",
    'pointsman_budget_usd{tenant="a",period="daily",mark="hard"}': "100+0x2000",
    'pointsman_budget_usd{tenant="a",period="daily",mark="soft"}': "50+0x2000",
    'pointsman_budget_spent_usd{tenant="a",period="daily"}': "60+0x2000",
    'pointsman_cost_usd_total{tenant="a",model="m",mode="think",pool="deep",token_class="answer"}': "0+1x2000",
    "pointsman_ledger_lag_seconds": "2+0x2000",
    "pointsman_ledger_spool_bytes": "1000+0x2000",
    "pointsman_ledger_spool_limit_bytes": "100000+0x2000",
    'pointsman_ledger_entries{kind="request",outcome="lost"}': "4+0x2000",
    'pointsman_degraded{part="redis"}': "0+0x2000",
    'pointsman_degraded{part="ledger"}': "0+0x2000",
}
"""Every series that an alert looks at, while nothing is wrong. Some of them are not zero."""

SCENARIOS = {
    "all is well": Scenario({}),
    "all has been well for days": Scenario({}, step=20, at=DAYS * 20 + 600),
    "one in fifty requests fails": Scenario(
        {REQUESTS % 503: "0+12x2000"}, frozenset({"PointsmanErrorsBurnFast", "PointsmanErrorsBurnSlowly"})
    ),
    "one in a hundred requests fails, for hours": Scenario(
        {REQUESTS % 503: "0+6x2000"}, frozenset({"PointsmanErrorsBurnSlowly"}), at=420
    ),
    "requests failed, and do no more": Scenario({REQUESTS % 503: "0+60x15 900+0x2000"}, at=120),
    "three in four streams begin late": Scenario(
        {FIRST_BYTE % ("bucket", ',le="2.5"'): "0+120x2000"},
        frozenset({"PointsmanFirstTokenBurnsFast", "PointsmanFirstTokenBurnsSlowly"}),
    ),
    "two in five streams begin late": Scenario(
        {FIRST_BYTE % ("bucket", ',le="2.5"'): "0+360x2000"}, frozenset({"PointsmanFirstTokenBurnsSlowly"})
    ),
    "requests wait for the think pool": Scenario(
        {'pointsman_pool_waiting_requests{model="m",pool="deep"}': "4+0x2000"},
        frozenset({"PointsmanThinkPoolSaturated"}),
    ),
    "requests are turned away": Scenario(
        {'pointsman_shed_requests_total{model="m",pool="deep",priority="5"}': "0+30x2000"},
        frozenset({"PointsmanRequestsShed"}),
    ),
    "a replica keeps failing": Scenario(
        {'pointsman_resting_replicas{model="m",pool="deep"}': "1+0x2000"}, frozenset({"PointsmanReplicasResting"})
    ),
    "no router is there": Scenario(
        {"pointsman_requests_in_flight": "3+0x30"}, frozenset({"PointsmanRoutersAbsent"})
    ),
    "queries become harder": Scenario(
        {'pointsman_think_probability_sum{model="m"}': f"0+180x{DAYS} {180 * DAYS}+360x100"},
        frozenset({"PointsmanPredictorDrift"}),
        step=20,
        at=DAYS * 20 + 160,
    ),
    "more answers are asked for again": Scenario(
        {'pointsman_escalations_total{tenant="a",model="m",reason="empty"}': f"0+6x{DAYS} {6 * DAYS}+36x100"},
        frozenset({"PointsmanEscalationsRise"}),
        step=20,
        at=DAYS * 20 + 160,
    ),
    "a policy went back": Scenario(
        {'pointsman_policy_stage_returns_total{tenant="a",stage="canary",reason="errors"}': "2+0x40 3+0x2000"},
        frozenset({"PointsmanPolicyReturned"}),
    ),
    "a policy went back for the first time": Scenario(
        {'pointsman_policy_stage_returns_total{tenant="b",stage="canary",reason="errors"}': "_x40 1+0x2000"},
        frozenset({"PointsmanPolicyReturned"}),
    ),
    "a policy went back, a while ago": Scenario(
        {'pointsman_policy_stage_returns_total{tenant="b",stage="canary",reason="errors"}': "_x30 1+0x2000"}
    ),
    "a budget is nearly spent": Scenario(
        {'pointsman_budget_spent_usd{tenant="a",period="daily"}': "95+0x2000"},
        frozenset({"PointsmanBudgetNearlySpent"}),
    ),
    "a tenant spends much more than usual": Scenario(
        {
            'pointsman_cost_usd_total{tenant="a",model="m",mode="think",pool="deep",token_class="answer"}': (
                f"0+1x{DAYS} {DAYS}+20x100"
            )
        },
        frozenset({"PointsmanCostAnomaly"}),
        step=20,
        at=DAYS * 20 + 120,
    ),
    "the ledger waits for the database": Scenario(
        {"pointsman_ledger_lag_seconds": "0+60x2000"}, frozenset({"PointsmanLedgerBehind"})
    ),
    "spools fill up": Scenario(
        {"pointsman_ledger_spool_bytes": "60000+0x2000"}, frozenset({"PointsmanSpoolHalfFull"})
    ),
    "a router died with its requests": Scenario(
        {'pointsman_ledger_entries{kind="request",outcome="lost"}': "4+0x30 9+0x2000"},
        frozenset({"PointsmanEntriesLost"}),
    ),
    "Redis is away": Scenario(
        {'pointsman_degraded{part="redis"}': "1+0x2000"}, frozenset({"PointsmanRedisDegraded"})
    ),
    "the ledger writer is away": Scenario(
        {'pointsman_degraded{part="ledger"}': "1+0x2000"}, frozenset({"PointsmanDegraded"})
    ),
}


def groups() -> list[dict[str, Any]]:
    """All groups, recorded ones before alerts."""
    return [group for file in FILES for group in yaml.safe_load((RULES / file).read_text())["groups"]]


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules that are a `record` or an `alert`."""
    return [rule for group in groups() for rule in group["rules"] if kind in rule]


@pytest.mark.parametrize("name", SCENARIOS)
def test_exactly_these_alerts_fire(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    test = {
        "interval": f"{scenario.step}m",
        "input_series": [
            {"series": series, "values": values} for series, values in {**WELL, **scenario.series}.items()
        ],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": f"{scenario.at}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(scenario.firing)
                ],
            }
        ],
    }
    document = {
        "rule_files": [str(RULES / file) for file in FILES],
        "evaluation_interval": f"{scenario.step}m",
        "group_eval_order": [group["name"] for group in groups()],
        "tests": [test],
    }
    written = tmp_path / "test.yaml"
    written.write_text(yaml.safe_dump(document, width=10_000))
    judged = subprocess.run([PROMTOOL, "test", "rules", str(written)], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_each_alert_fires_in_some_scenario_and_has_a_page() -> None:
    alerts = {rule["alert"] for rule in rules("alert")}
    assert alerts == set().union(*(scenario.firing for scenario in SCENARIOS.values()))
    for rule in rules("alert"):
        page = ROOT / rule["annotations"]["runbook"]
        assert rule["alert"] in page.read_text(), f"{page} does not name {rule['alert']}"


def test_the_rules_are_valid_and_look_at_metrics_that_exist() -> None:
    subprocess.run([PROMTOOL, "check", "rules", *(str(RULES / file) for file in FILES)], check=True)
    known = {value for name, value in vars(Metric).items() if name.isupper()}
    recorded = {rule["record"] for rule in rules("record")}
    for rule in rules("record") + rules("alert"):
        for name in re.findall(r"[a-z]+:pointsman_[a-z0-9_:]+", rule["expr"]):
            assert name in recorded, name
        for name in re.findall(r"(?<![:\w])pointsman_[a-z0-9_]+", rule["expr"]):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in known, name


def test_the_charts_copies_are_the_same() -> None:
    for file in FILES:
        assert (CHART / file).read_text() == (RULES / file).read_text()
