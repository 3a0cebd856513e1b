"""*Router*: what the data plane itself does: its time, its cache, its retries, its books, and what it lacks."""

from __future__ import annotations

from typing import Any

from boards.look import FLEET, Board, Query
from boards.queries import RATE
from pointsman.contracts.names import Metric

HERE = 'instance=~"$instance"'


def router() -> Any:
    """The dashboard."""
    board = Board(
        FLEET,
        "Pointsman / Router",
        "The data plane itself: times of its steps, response cache, retries and breakers, spools, missing parts.",
        uid="pointsman-router",
        variables={"instance": Metric.IN_FLIGHT},
    )
    _now(board)
    _steps(board)
    _refused(board)
    _engines(board)
    _cache(board)
    _books(board)
    return board.json()


def _now(board: Board) -> None:
    of = board.scope
    requests = of.summed("", Metric.REQUESTS, HERE)
    board.number("Requests", "Requests that ended, by the second.", "reqps", Query(requests))
    board.number(
        "A request's work",
        "Time in the steps of the pipeline for each request: waiting and the relay of streams not included.",
        "s",
        Query(f"{of.summed('', Metric.STEP, HERE)} / ({requests} > 0)"),
    )
    board.number(
        "In flight", "Requests in the pipeline now.", "short", Query(f"sum ({of.of(Metric.IN_FLIGHT, HERE)})")
    )
    board.number(
        "Sent again",
        "Requests that went to another replica because one failed before its first byte, by the second.",
        "reqps",
        Query(of.summed("", Metric.RETRIES, HERE)),
    )
    board.number(
        "Resting replicas",
        "Replicas whose circuit breaker is open or half open.",
        "short",
        Query(f"sum (max by (namespace, pool) ({of.of(Metric.RESTING_REPLICAS, HERE)}))"),
    )
    board.number(
        "Missing parts",
        "Parts that routers do without now: `/readyz` names them.",
        "short",
        Query(f"count (max by (part) ({of.of(Metric.DEGRADED, HERE)}) > 0) or vector(0)"),
    )


def _steps(board: Board) -> None:
    of = board.scope
    board.row("Steps of the pipeline")
    board.lines(
        "Time by step",
        "For each request, on the average.",
        "s",
        Query(
            f"{of.summed('step', Metric.STEP, HERE)} / on () group_left ()"
            f" ({of.summed('', Metric.REQUESTS, HERE)} > 0)",
            "{{step}}",
        ),
        width=12,
        stacked=True,
    )
    board.lines(
        "Share of a core",
        "What the steps take of one core, by router.",
        "percentunit",
        Query(of.summed("instance", Metric.STEP, HERE), "{{instance}}"),
        width=6,
    )
    board.lines(
        "In flight by router",
        "Requests in the pipeline.",
        "short",
        Query(f"sum by (instance) ({of.of(Metric.IN_FLIGHT, HERE)})", "{{instance}}"),
        width=6,
    )


def _refused(board: Board) -> None:
    of = board.scope
    board.row("Outcomes")
    board.lines(
        "Requests by status",
        "499: the client went away.",
        "reqps",
        Query(of.summed("status", Metric.REQUESTS, HERE), "{{status}}"),
        stacked=True,
    )
    board.lines(
        "Refused by a limit",
        "By the limit or budget that was reached; `redis`: it could not be known.",
        "reqps",
        Query(of.summed("limit", Metric.LIMITED, HERE), "{{limit}}"),
        stacked=True,
    )
    board.lines(
        "Server errors by pool",
        "Requests that ended with a status of 500 or more; without a pool where none was reached.",
        "reqps",
        Query(of.summed("pool", Metric.REQUESTS, HERE, 'status=~"5.."'), "errors {{pool}}"),
    )


def _engines(board: Board) -> None:
    of = board.scope
    board.row("Engines")
    board.lines(
        "Sent again by router",
        "Requests that went to another replica.",
        "reqps",
        Query(of.summed("instance", Metric.RETRIES, HERE), "{{instance}}"),
        width=6,
    )
    board.lines(
        "Open breakers",
        "Replicas that rest, by pool.",
        "short",
        Query(f"max by (pool) ({of.of(Metric.RESTING_REPLICAS, HERE)})", "{{pool}}"),
        width=6,
    )
    board.lines(
        "Usage never told",
        "Requests whose engine's own count never arrived, by pool: billed by what was seen.",
        "reqps",
        Query(of.summed("pool", Metric.ESTIMATED, HERE), "{{pool}}"),
        width=6,
    )
    board.lines(
        "Warned of tools",
        "Requests with tools to pools whose operator warns of their calls.",
        "reqps",
        Query(of.summed("pool", Metric.TOOL_WARNINGS, HERE), "{{pool}}"),
        width=6,
    )


def _cache(board: Board) -> None:
    of = board.scope
    board.row("Response cache")
    board.lines(
        "Requests by what came of the cache",
        "Only requests that the response cache had a part in.",
        "reqps",
        Query(of.summed("status", Metric.CACHE, HERE), "{{status}}"),
        width=6,
        stacked=True,
    )
    board.lines(
        "Hits by tenant",
        "Share of the requests that were looked up, over five minutes; the ten highest.",
        "percentunit",
        Query(f"topk(10, {of.of('tenant:pointsman_response_cache_hit:ratio_rate5m')})", "{{tenant}}"),
        width=6,
        top=1,
    )
    board.lines(
        "Memory for answers",
        "Recorded answers in the routers' own memory.",
        "bytes",
        Query(f"sum by (instance) ({of.of(Metric.CACHE_BYTES, HERE)})", "{{instance}}"),
        width=6,
    )
    board.lines(
        "Answered twice, and refused entries",
        "Answers given again for an idempotency key; entries in Redis that were not what they should be.",
        "reqps",
        Query(of.summed("", Metric.REPLAYS, HERE), "idempotent replays"),
        Query(of.summed("reason", Metric.CACHE_REFUSED, HERE), "{{reason}}"),
        width=6,
    )


def _books(board: Board) -> None:
    of = board.scope
    board.row("Ledger, decisions, parts")
    board.lines(
        "Spools",
        "What entries of the ledger take of the disk until the database has them, and what they may take.",
        "bytes",
        Query(f"sum by (instance) ({of.of(Metric.LEDGER_SPOOL, HERE)})", "{{instance}}"),
        Query(f"sum by (instance) ({of.of(Metric.LEDGER_SPOOL_LIMIT, HERE)})", "{{instance}} at most"),
        width=6,
    )
    board.lines(
        "Entries on their way",
        "In spools, and of these batches in the stream in Redis.",
        "short",
        Query(f"sum ({of.of(Metric.LEDGER_UNWRITTEN)})", "entries not in the database"),
        Query(f"max ({of.of(Metric.LEDGER_STREAM)})", "batches in the stream"),
        width=6,
    )
    board.lines(
        "Lost for the books",
        "Requests refused because a spool was full, those that cost more than was set aside, decisions without a "
        "record.",
        "reqps",
        Query(of.summed("", Metric.LEDGER_REFUSED, HERE), "refused"),
        Query(
            f"sum (rate({of.of(Metric.BEYOND_RESERVED, HERE)}[{RATE}])) or vector(0)", "beyond what was set aside"
        ),
        Query(of.summed("", Metric.UNKEPT_DECISIONS, HERE), "decisions not kept"),
        width=6,
    )
    board.lines(
        "Missing parts over time",
        "1 for each part that routers do without.",
        "short",
        Query(f"max by (part) ({of.of(Metric.DEGRADED, HERE)})", "{{part}}"),
        width=6,
    )
