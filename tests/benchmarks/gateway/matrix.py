"""The measurements of one run: which cells, how often, in what order.

The order is what makes figures comparable: within one repeat every subject is measured at a cell before the next
cell begins, and a repeat covers all cells before the next repeat begins, so that a busy minute of the machine
falls on all subjects alike and on few repeats of any cell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway import subjects
from benchmarks.gateway.figures import Figure, Row, error_count, ratio, row
from benchmarks.gateway.subjects import Subject
from benchmarks.gateway.tools import Cell, Tools

SMALL, MEDIUM, LARGE = 512, 8 * 1024, 64 * 1024
CONNECTIONS = (1, 32, 256)
SAME = "the same in another process"
"""What two processes that do the same differ by: no less can be told of two that do not."""


@dataclass(frozen=True)
class Visit:
    """A cell, and how long and how often each subject is measured there."""

    cell: Cell
    repeats: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """How much one run measures."""

    visits: tuple[Visit, ...]
    scaling_repeats: int
    scaling_seconds: float
    streams: int
    stream_seconds: float


def plan(*, quick: bool, repeats: int | None, seconds: float | None, streams: int) -> Plan:
    """The whole matrix, within 20 minutes; or a quick look at it, within 5."""
    main = (repeats or (3 if quick else 5), seconds or (1.2 if quick else 3.0))
    side = (1, main[1]) if quick else (min(main[0], 3), min(main[1], 1.5))
    small = [Visit(Cell(kind, count, SMALL), *main) for kind in ("unary", "stream") for count in (1, 32)]
    small += [Visit(Cell("unary", 256, SMALL), *(side if quick else main))]
    if quick:
        large = [Visit(Cell("unary", 32, size), *side) for size in (MEDIUM, LARGE)]
        return Plan((*small, *large), 3, 1.0, streams, 6.0)
    small += [Visit(Cell("stream", 256, SMALL), *main)]
    large = [Visit(Cell("unary", count, size), *side) for size in (MEDIUM, LARGE) for count in CONNECTIONS]
    return Plan((*small, *large), 7, 2.0, streams, 20.0)


def run(tools: Tools, visits: Sequence[Visit], tested: Sequence[Subject]) -> list[dict[str, Any]]:
    """All samples, in the order in which they were taken."""
    samples = []
    for repeat in range(max(visit.repeats for visit in visits)):
        for visit in visits:
            if repeat >= visit.repeats:
                continue
            for subject in tested:
                if visit.cell.connections > (subject.most_connections or visit.cell.connections):
                    continue
                samples.append(sample(tools, subject, visit.cell, repeat, visit.seconds))
    return samples


def sample(tools: Tools, subject: Subject, cell: Cell, repeat: int, seconds: float) -> dict[str, Any]:
    """One measurement, told on the standard error."""
    taken = tools.measure(subject.target, cell, seconds=seconds)
    taken |= {"subject": subject.name, "repeat": repeat, **vars(cell)}
    unit, count = ("tokens", taken["tokens"]) if cell.kind == "stream" else ("answers", taken["answers"])
    told = f"[{repeat + 1}] {cell}: {subject.name:<14}{count / taken['seconds']:>10,.0f} {unit}/s"
    if wrong := error_count(taken):
        told += f", {wrong} errors: {taken['complaint'].strip()[:200]}"
    print(told, file=sys.stderr, flush=True)
    return taken


def rows(samples: Sequence[dict[str, Any]], tokens: int) -> dict[Cell, dict[str, Row]]:
    """The figures of each subject at each cell, in the order of the samples."""
    grouped: dict[Cell, dict[str, list[dict[str, Any]]]] = {}
    for item in samples:
        cell = Cell(item["kind"], item["connections"], item["size"])
        grouped.setdefault(cell, {}).setdefault(item["subject"], []).append(item)
    return {
        cell: {
            name: row(taken, {base["repeat"]: base for base in found.get("direct", ())}, tokens)
            for name, taken in found.items()
        }
        for cell, found in grouped.items()
    }


def scaling(tools: Tools, folder: Path, what: Plan) -> tuple[dict[str, Figure | None], list[dict[str, Any]]]:
    """
    CPU for one request with 1,000 tenants, and with 64 replicas, against one of each; and the samples.

    Every repeat has processes of its own, since two that do the same differ more than two repeats of one: by how
    much stands beside, from one more that is configured as the base is.
    """
    samples: list[dict[str, Any]] = []
    with tools.upstream(ports=65) as upstream:
        for repeat in range(what.scaling_repeats):
            place = folder / f"scaling-{repeat}"
            place.mkdir()
            samples += _scaled(tools, place, upstream.ports, repeat, what.scaling_seconds)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for item in samples:
        by_name.setdefault(item["subject"], []).append(item)
    told = {"1,000 tenants against 1": "tenants", "64 replicas against 1": "replicas", SAME: "again"}
    return {line: ratio(by_name[name], by_name["one"], tools.tokens) for line, name in told.items()}, samples


def _scaled(tools: Tools, folder: Path, ports: Sequence[int], repeat: int, seconds: float) -> list[dict[str, Any]]:
    """One sample of each configuration, from new processes, each time in another order."""
    cell = Cell("unary", 32, SMALL)
    one, many = (ports[:1], ports[64:]), (ports[:32], ports[32:64])
    with ExitStack() as stack:
        started = [
            stack.enter_context(subjects.pointsman(tools.cores, folder, *urls, tenants=tenants, name=name))
            # Half of the replicas in each pool: the fleet has 64, and both pools choose among many.
            for name, urls, tenants in (
                ("one", one, 1),
                ("tenants", one, 1000),
                ("replicas", many, 1),
                ("again", one, 1),
            )
        ]
        for subject in started:
            _warm(tools, subject, cell)
        first = repeat % len(started)
        return [sample(tools, subject, cell, repeat, seconds) for subject in started[first:] + started[:first]]


def _warm(tools: Tools, subject: Subject, cell: Cell) -> None:
    """Let every tenant, mode and replica be met: what the first request of each costs is not what is asked."""
    answered = 0
    for _ in range(20):
        answered += tools.measure(subject.target, cell, seconds=1.0, warm_up=0)["answers"]
        if answered >= 10_000:
            return


def crowd(tools: Tools, folder: Path, what: Plan) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Many concurrent streams of one token of 120 bytes a second on one process; and the samples."""
    tokens = 15
    cell = Cell("stream", what.streams, SMALL)
    samples = []
    with (
        tools.upstream(ports=2, tokens=tokens, event_bytes=120, interval=1000) as upstream,
        subjects.pointsman(tools.cores, folder, upstream.ports[:1], upstream.ports[1:], name="crowd") as own,
    ):
        for subject in (subjects.direct(upstream.ports), own):
            taken = tools.measure(
                subject.target,
                cell,
                seconds=what.stream_seconds,
                warm_up=1,
                ramp=max(100, what.streams // 6),
                patience=3,
                tokens=tokens,
            )
            samples.append(taken | {"subject": subject.name, "repeat": 0, **vars(cell)})
            print(f"{cell}: {subject.name}, {error_count(taken)} errors", file=sys.stderr, flush=True)
    base, measured = samples
    found = row([measured], {0: base}, tokens)
    return {
        "streams": what.streams,
        "errors": found.errors,
        "rss": found.rss,
        "added_gap_p99": found.added_gap_p99.median if found.added_gap_p99 else None,
        "added_delay_p99": found.added_delay_p99.median if found.added_delay_p99 else None,
        "busy": found.busy.median if found.busy else None,
        "waited": found.waited.median if found.waited else None,
    }, samples
