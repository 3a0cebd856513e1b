"""*Fleet*: both tracks at work. How much goes over each, how fast, and what pools and replicas make of it."""

from __future__ import annotations

from typing import Any

from boards.look import FLEET, Board, Query, by_quantile
from boards.queries import QUANTILES
from pointsman.contracts.names import Metric

OUTPUT = 'token_class=~"reasoning|answer"'


def fleet() -> Any:
    """The dashboard."""
    board = Board(
        FLEET,
        "Pointsman / Fleet",
        "Both tracks at work: requests, tokens and times by mode, and the pools that answer.",
        uid="pointsman-fleet",
        variables={"model": Metric.REPLICAS, "pool": Metric.REPLICAS},
    )
    _now(board)
    _tracks(board)
    _times(board)
    _pools(board)
    _objectives(board)
    _revisions(board)
    return board.json()


PICKED = ('model=~"$model"', 'pool=~"$pool"')


def _now(board: Board) -> None:
    of = board.scope
    waiting = of.of(Metric.WAITING, *PICKED)
    board.number(
        "Requests", "Requests that ended, by the second.", "reqps", Query(of.summed("", Metric.REQUESTS, *PICKED))
    )
    board.number(
        "Output",
        "Tokens of answers and of thinking, by the second.",
        "short",
        Query(of.summed("", Metric.TOKENS, OUTPUT, *PICKED)),
    )
    board.number(
        "In flight",
        "Requests in the routers now, of any model.",
        "short",
        Query(f"sum ({of.of(Metric.IN_FLIGHT)})"),
    )
    board.number("Waiting", "Requests that wait for a place in a pool now.", "short", Query(f"sum ({waiting})"))
    board.number(
        "Replicas",
        "Replicas that can answer now; every router knows them alike.",
        "short",
        Query(f"sum (max by (namespace, pool) ({of.of(Metric.REPLICAS, *PICKED)}))"),
    )
    board.number(
        "Server errors",
        "Share of requests that ended with a status of 500 or more.",
        "percentunit",
        Query(of.share("", Metric.REQUESTS, 'status=~"5.."', *PICKED)),
    )


def _tracks(board: Board) -> None:
    of = board.scope
    board.row("Both tracks")
    board.lines(
        "Requests by mode",
        "Requests that ended, by the mode they were answered in.",
        "reqps",
        Query(of.summed("mode", Metric.REQUESTS, 'mode!=""', *PICKED), "{{mode}}"),
        stacked=True,
    )
    board.lines(
        "Tokens of output by mode",
        "Answers, and the thinking before them, by the second.",
        "short",
        Query(of.summed("mode, token_class", Metric.TOKENS, OUTPUT, *PICKED), "{{mode}} {{token_class}}"),
        stacked=True,
    )
    board.lines(
        "Tokens of prompts by mode",
        "What was read, and what the engines had read before (`cached_input`), by the second.",
        "short",
        Query(
            of.summed("mode, token_class", Metric.TOKENS, 'token_class=~".*input"', *PICKED),
            "{{mode}} {{token_class}}",
        ),
        stacked=True,
    )


def _times(board: Board) -> None:
    of = board.scope
    board.row("Time")
    for title, metric, description in (
        ("To the first token", Metric.TTFT, "From a stream's arrival to its first byte. Dashed: the median."),
        ("Between tokens", Metric.INTER_TOKEN, "The mean of each stream. Dashed: the median of streams."),
        (
            "Whole answers",
            Metric.DURATION,
            "From a request's arrival to the end of its answer. Dashed: the median.",
        ),
    ):
        queries = by_quantile(lambda at, metric=metric: of.quantile(at, "mode", metric, *PICKED), QUANTILES)  # type: ignore[misc]
        board.lines(title, description, "s", *queries)


def _pools(board: Board) -> None:
    of = board.scope
    board.row("Pools")
    where = "namespace, model, pool"
    board.table(
        "Pools now",
        "Replicas as any router knows them; requests and predicted tokens of all routers together.",
        "short",
        ["namespace", "model", "pool"],
        {
            "Replicas": f"max by ({where}) ({of.of(Metric.REPLICAS, *PICKED)})",
            "Resting": f"max by ({where}) ({of.of(Metric.RESTING_REPLICAS, *PICKED)})",
            "Running": f"sum by ({where}) ({of.of(Metric.RUNNING, *PICKED)})",
            "Waiting": f"sum by ({where}) ({of.of(Metric.WAITING, *PICKED)})",
            "Predicted tokens": f"sum by ({where}) ({of.of(Metric.PREDICTED, *PICKED)})",
            "Requests": of.summed(where, Metric.REQUESTS, *PICKED),
        },
        Requests="reqps",
    )
    board.lines(
        "Running by pool",
        "Requests that replicas work on.",
        "short",
        Query(f"sum by (pool) ({of.of(Metric.RUNNING, *PICKED)})", "{{pool}}"),
    )
    board.lines(
        "Waiting by pool",
        "Requests that wait for a place.",
        "short",
        Query(f"sum by (pool) ({of.of(Metric.WAITING, *PICKED)})", "{{pool}}"),
    )
    board.lines(
        "Predicted tokens",
        "Output that pools have yet to write for what runs and what waits: what replicas are scaled by.",
        "short",
        Query(f"sum by (pool, state) ({of.of(Metric.PREDICTED, *PICKED)})", "{{pool}} {{state}}"),
        stacked=True,
    )
    board.lines(
        "Replicas by pool",
        "Those that can answer, and those that rest because their circuit breaker is open or half open.",
        "short",
        Query(f"max by (pool) ({of.of(Metric.REPLICAS, *PICKED)})", "{{pool}}"),
        Query(f"max by (pool) ({of.of(Metric.RESTING_REPLICAS, *PICKED)})", "{{pool}} resting"),
    )
    board.lines(
        "Turned away",
        "Requests refused because too many waited already, by the tenant's priority.",
        "reqps",
        Query(of.summed("pool, priority", Metric.SHED, *PICKED), "{{pool}}, priority {{priority}}"),
    )
    board.lines(
        "Calls of tools",
        "Answers that called tools, or had to: complete, or why their calls were not delivered as such.",
        "reqps",
        Query(of.summed("outcome", Metric.TOOL_ANSWERS, *PICKED), "{{outcome}}"),
    )


def _objectives(board: Board) -> None:
    of = board.scope
    board.row("Objectives (1: the allowance of errors lasts exactly as long as it should)")
    board.lines(
        "Burn of errors",
        "99.9 % of requests end without a server error. Recorded by dashboards/prometheus/recording.yaml.",
        "short",
        *(
            Query(f"max ({of.of(f'namespace:pointsman_error_burn:rate{window}')})", window)
            for window in ("5m", "1h", "6h")
        ),
        width=12,
    )
    board.lines(
        "Burn of first tokens",
        "95 % of streams begin within 2.5 seconds.",
        "short",
        *(
            Query(
                f"max by (mode) ({of.of(f'mode:pointsman_first_token_burn:rate{window}')})",
                f"{{{{mode}}}} {window}",
            )
            for window in ("5m", "1h")
        ),
        width=12,
    )


def _revisions(board: Board) -> None:
    of = board.scope
    board.row("Revisions of pools")
    by = "pool, revision"
    legend = "{{pool}} {{revision}}"
    board.lines(
        "Replicas by revision",
        "Those that requests may be placed on.",
        "short",
        Query(f"max by ({by}) ({of.of(Metric.REVISION_REPLICAS, *PICKED)})", legend),
    )
    failed, sent = of.summed(by, Metric.REVISION_ERRORS, *PICKED), of.summed(by, Metric.REVISION_REQUESTS, *PICKED)
    board.lines(
        "Failed by revision",
        "Share of the requests sent to a revision that its replicas failed.",
        "percentunit",
        Query(f"{failed} / ({sent} > 0)", legend),
    )
    begun, streams = of.summed(by, Metric.REVISION_TTFT, *PICKED), of.summed(by, Metric.REVISION_STREAMS, *PICKED)
    board.lines(
        "First byte by revision",
        "Mean seconds from the sending of a stream's request to its first byte.",
        "s",
        Query(f"{begun} / ({streams} > 0)", legend),
    )
