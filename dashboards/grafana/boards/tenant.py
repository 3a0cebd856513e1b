"""*Tenant*: one tenant's view, safe to hand to that tenant.

Its queries hold the tenant's name themselves, put in by whoever provisions it: there is no variable that a reader
could change, and every selector is of that tenant alone. So Grafana may share it with people that have no account
(such dashboards run the stored queries and no others). Pools, routers and other tenants do not appear.
"""

from __future__ import annotations

from typing import Any

from boards.look import Board, Query
from boards.queries import Scope
from pointsman.contracts.names import Metric

ONE = Scope('namespace="__namespace__", tenant="__tenant__"', "__datasource__")
"""What the placeholders stand for is put in by the chart, or by hand: see docs/dashboards.md."""

USD = "currencyUSD"
ESTIMATES = ("low", "middle", "high")


def tenant() -> Any:
    """The dashboard."""
    board = Board(
        ONE,
        "Pointsman / __tenant__",
        "What __tenant__ asks, gets and pays.",
        uid="__uid__",
        variables={},
        tags=(),
    )
    _now(board)
    _money(board)
    _queries(board)
    _limits(board)
    return board.json()


def _now(board: Board) -> None:
    of = board.scope
    board.number(
        "Today",
        "Spent since midnight in UTC, corrections included.",
        USD,
        Query(of.ledger("", Metric.LEDGER_PERIOD_COST, 'period="daily"')),
    )
    board.number(
        "This month",
        "Spent since the first of the month in UTC, corrections included.",
        USD,
        Query(of.ledger("", Metric.LEDGER_PERIOD_COST, 'period="monthly"')),
    )
    board.number(
        "Month's end",
        "What the month comes to if its days to come are like the whole days of the last four weeks; in nine "
        "months of ten it lies between low and high. Told from two whole days on.",
        USD,
        *(Query(of.ledger("", Metric.LEDGER_TENANT_FORECAST, _is(name)), name) for name in ESTIMATES),
        width=6,
    )
    board.number(
        "Spared in this time",
        "Thinking that was not bought: the median of answers with thinking against those without, and the "
        "quartiles as the range.",
        USD,
        *(
            Query(f"sum (increase({of.of(Metric.AVOIDED_COST, _is(name))}[$__range]))", name, instant=True)
            for name in ESTIMATES
        ),
        width=6,
    )
    board.number(
        "Think",
        "Share of queries that thinking was decided for.",
        "percentunit",
        Query(of.share("", Metric.DECISIONS, 'mode="think"')),
    )


def _is(estimate: str) -> str:
    return f'estimate="{estimate}"'


def _money(board: Board) -> None:
    of = board.scope
    board.row("Money")
    for title, label in (("By mode", "mode"), ("By model", "model"), ("By token class", "token_class")):
        board.parts(
            title,
            "This month.",
            USD,
            Query(of.ledger(label, Metric.LEDGER_PERIOD_COST, 'period="monthly"'), f"{{{{{label}}}}}"),
        )
    grown = of.ledger_growth("mode", Metric.LEDGER_COST)
    board.lines(
        "An hour, by mode",
        "What was spent in the hour before.",
        USD,
        Query(grown, "{{mode}}"),
        width=6,
        stacked=True,
    )


def _queries(board: Board) -> None:
    of = board.scope
    board.row("Queries")
    board.lines(
        "Queries by mode",
        "Requests that ended, by the mode they were answered in.",
        "reqps",
        Query(of.summed("mode", Metric.REQUESTS, 'mode!=""'), "{{mode}}"),
        width=6,
        stacked=True,
    )
    board.lines(
        "Queries by who decided",
        "Policy over budget over client over predictor over default.",
        "reqps",
        Query(of.summed("source", Metric.DECISIONS), "{{source}}"),
        width=6,
        stacked=True,
    )
    board.lines(
        "Tokens",
        "By what they are billed as, by the second.",
        "short",
        Query(of.summed("token_class", Metric.TOKENS), "{{token_class}}"),
        width=6,
        stacked=True,
    )
    board.lines(
        "Threshold",
        "What the last probability of needing to think was held against.",
        "percentunit",
        Query(f"max ({of.of(Metric.THRESHOLD)})", "threshold"),
        width=6,
        top=1,
    )


def _limits(board: Board) -> None:
    of = board.scope
    board.row("Outcomes and limits")
    board.lines(
        "Queries by status",
        "HTTP status; 499: the client went away.",
        "reqps",
        Query(of.summed("status", Metric.REQUESTS), "{{status}}"),
        width=6,
        stacked=True,
    )
    board.lines(
        "Refused by a limit",
        "By the limit or budget that was reached.",
        "reqps",
        Query(of.summed("limit", Metric.LIMITED), "{{limit}}"),
        width=6,
    )
    board.lines(
        "Budgets",
        "Spent of the hard mark. At 1 requests are refused.",
        "percentunit",
        Query(f"max by (period) ({of.of('tenant:pointsman_budget_spent:ratio')})", "{{period}}"),
        width=6,
        top=1,
    )
    board.lines(
        "Response cache",
        "Requests that the response cache had a part in.",
        "reqps",
        Query(of.summed("status", Metric.CACHE), "{{status}}"),
        width=6,
        stacked=True,
    )
