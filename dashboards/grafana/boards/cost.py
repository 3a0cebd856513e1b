"""*Cost*: where the money goes, what thinking was not bought, and what the month comes to.

All money that was spent is read from the ledger's gauges, so that it is what bills say. What was spared is an
estimate, and always shown with its range.
"""

from __future__ import annotations

from typing import Any

from boards.look import FLEET, Board, Query
from pointsman.contracts.names import Metric

PICKED = ('tenant=~"$tenant"', 'model=~"$model"')
ESTIMATES = ("low", "middle", "high")
ANSWERED, HARD, SOFT = 'status="200"', 'mark="hard"', 'mark="soft"'
USD = "currencyUSD"


def cost() -> Any:
    """The dashboard."""
    board = Board(
        FLEET,
        "Pointsman / Cost",
        "Money by tenant, model, mode and token class, from the ledger; what was spared; what the month comes to.",
        uid="pointsman-cost",
        variables={"tenant": Metric.LEDGER_COST, "model": Metric.LEDGER_COST},
    )
    _now(board)
    _this_month(board)
    _over_time(board)
    _spared(board)
    _ahead(board)
    _books(board)
    return board.json()


def _now(board: Board) -> None:
    of = board.scope
    board.number(
        "Today",
        "Since midnight in UTC, corrections included: what `pointsman costs` says, to the nano-dollar.",
        USD,
        Query(of.ledger("", Metric.LEDGER_PERIOD_COST, 'period="daily"', *PICKED)),
    )
    board.number(
        "This month",
        "Since the first of the month in UTC, likewise.",
        USD,
        Query(of.ledger("", Metric.LEDGER_PERIOD_COST, 'period="monthly"', *PICKED)),
    )
    board.number(
        "Month's end, all tenants",
        "What the month comes to if its days to come are like the whole days of the last four weeks; in nine "
        "months of ten it lies between low and high. Told from two whole days on; by tenant in the table below.",
        USD,
        *(Query(_foretold(board, name), name) for name in ESTIMATES),
        width=6,
    )
    board.number(
        "Spared in this time",
        "Thinking that was not bought, for answers without thinking whose client had left it open: the median of "
        "answers with thinking against those without, and the quartiles as the range.",
        USD,
        *(
            Query(f"sum (increase({of.of(Metric.AVOIDED_COST, *PICKED, _is(name))}[$__range]))", name, instant=True)
            for name in ESTIMATES
        ),
        width=6,
    )
    cost = of.summed("", Metric.COST, *PICKED, window="1h")
    requests = of.summed("", Metric.REQUESTS, ANSWERED, *PICKED, window="1h")
    board.number(
        "1,000 requests",
        "What a thousand answered requests cost in the last hour, from the routers' counters.",
        USD,
        Query(f"1000 * {cost} / ({requests} > 0)"),
    )


def _foretold(board: Board, estimate: str) -> str:
    return board.scope.ledger("", Metric.LEDGER_FORECAST, _is(estimate))


def _this_month(board: Board) -> None:
    of = board.scope
    board.row("This month, by the ledger")
    for title, label in (("By mode", "mode"), ("By model", "model"), ("By token class", "token_class")):
        board.parts(
            title,
            "Since the first of the month in UTC.",
            USD,
            Query(of.ledger(label, Metric.LEDGER_PERIOD_COST, 'period="monthly"', *PICKED), f"{{{{{label}}}}}"),
        )
    month = of.ledger("tenant", Metric.LEDGER_PERIOD_COST, 'period="monthly"', *PICKED)
    board.bars("By tenant", "The ten that cost the most.", USD, Query(f"topk(10, {month})", "{{tenant}}"))
    thinking = of.ledger("tenant", Metric.LEDGER_PERIOD_COST, 'period="monthly"', 'mode="think"', *PICKED)
    board.table(
        "Tenants",
        "The hundred that cost the most this month. The forecast of a tenant is for all its models.",
        USD,
        ["tenant"],
        {
            "This month": f"topk(100, {month})",
            "Today": of.ledger("tenant", Metric.LEDGER_PERIOD_COST, 'period="daily"', *PICKED),
            "For thinking": f"{thinking} / ({month} > 0)",
            **{
                f"Month's end {name}": of.ledger(
                    "tenant", Metric.LEDGER_TENANT_FORECAST, _is(name), 'tenant=~"$tenant"'
                )
                for name in ESTIMATES
            },
        },
        For_thinking="percentunit",
    )


def _over_time(board: Board) -> None:
    board.row("Over time")
    for title, label in (("By mode", "mode"), ("By tenant", "tenant"), ("By token class", "token_class")):
        hourly = board.scope.ledger_growth(label, Metric.LEDGER_COST, *PICKED)
        board.lines(
            f"An hour, {title[0].lower()}{title[1:]}",
            "US dollars that the ledger grew by in the hour before; below 0 where corrections gave back more.",
            USD,
            Query(f"topk(10, {hourly})" if label == "tenant" else hourly, f"{{{{{label}}}}}"),
            stacked=label != "tenant",
        )


def _spared(board: Board) -> None:
    of = board.scope
    board.row("Thinking that was not bought (estimated)")
    recorded = "tenant:pointsman_avoided_cost_usd_per_hour:rate1h"
    board.lines(
        "Spared an hour",
        "The line is the median, the ground around it reaches from one quartile to the other.",
        USD,
        *(Query(f"sum ({of.of(recorded, *PICKED, _is(name))})", name) for name in ("high", "low", "middle")),
        band=True,
    )
    board.lines(
        "Tokens spared",
        "Output that was not written, by the second and model: the median estimate.",
        "short",
        Query(of.summed("model", Metric.AVOIDED_TOKENS, 'estimate="middle"', *PICKED), "{{model}}"),
    )
    board.lines(
        "Spared by the response cache an hour",
        "What answers from the response cache were not billed. Counted, not estimated.",
        USD,
        Query(f"3600 * {of.summed('tenant', Metric.CACHE_SAVED, *PICKED, window='1h')}", "{{tenant}}"),
    )


def _is(estimate: str) -> str:
    return f'estimate="{estimate}"'


def _ahead(board: Board) -> None:
    of = board.scope
    board.row("Forecast and budgets")
    month = of.ledger("", Metric.LEDGER_PERIOD_COST, 'period="monthly"')
    board.lines(
        "The month and its end, all tenants",
        "Spent so far, and what the month comes to: the ground reaches from low to high.",
        USD,
        *(Query(_foretold(board, name), name) for name in ("high", "low", "middle")),
        Query(month, "spent"),
        width=12,
        band=True,
    )
    board.lines(
        "Budgets",
        "Spent of the hard mark, by tenant and period, as the routers' leases have it. At 1 requests are refused.",
        "percentunit",
        Query(
            f"topk(10, max by (tenant, period) ({of.of('tenant:pointsman_budget_spent:ratio', PICKED[0])}))",
            "{{tenant}} {{period}}",
        ),
        width=12,
        top=1,
    )
    budget = "tenant, period"
    board.table(
        "Budgets now",
        "Of tenants that have a budget and have asked for anything since the routers started.",
        USD,
        ["tenant", "period"],
        {
            "Spent": f"max by ({budget}) ({of.of(Metric.BUDGET_SPENT, PICKED[0])})",
            "Hard mark": f"max by ({budget}) ({of.of(Metric.BUDGET, PICKED[0], HARD)})",
            "Soft mark": f"max by ({budget}) ({of.of(Metric.BUDGET, PICKED[0], SOFT)})",
        },
    )


def _books(board: Board) -> None:
    of = board.scope
    board.row("The books")
    board.number(
        "All there is",
        "What the whole ledger adds up to. Exact to the nano-dollar up to four million dollars a series.",
        USD,
        Query(of.ledger("", Metric.LEDGER_COST, *PICKED)),
        width=6,
    )
    board.number(
        "Not yet booked",
        "Entries in the routers' spools that the database does not have: they are not in the figures above.",
        "short",
        Query(f"sum ({of.of(Metric.LEDGER_UNWRITTEN)})"),
        width=6,
    )
    board.number(
        "Waiting",
        "How long the oldest batch of entries has waited for the database.",
        "s",
        Query(f"max ({of.of(Metric.LEDGER_LAG)})"),
        width=6,
    )
    board.number(
        "Estimated usage",
        "Share of answered requests whose engine never told its count, in the last hour: billed by what was seen.",
        "percentunit",
        Query(
            f"(sum (increase({of.of(Metric.ESTIMATED, *PICKED)}[1h])) or vector(0))"
            f" / (sum (increase({of.of(Metric.REQUESTS, ANSWERED, *PICKED)}[1h])) > 0)"
        ),
        width=6,
    )
    board.lines(
        "Entries",
        "Of the ledger, by kind and by how the request ended; `lost`: its router died with it, nothing is billed.",
        "short",
        Query(of.ledger("kind, outcome", Metric.LEDGER_ENTRIES), "{{kind}} {{outcome}}"),
        width=24,
    )
