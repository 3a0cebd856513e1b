"""Decisions on a terminal: many as a table, one with all that is known of it.

Apart from `decisions.py`, which asks the router for them. What is shown came over the network and may quote a
prompt: nothing of it reaches the terminal as a command.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pointsman.cli.story import printable, tell

OUT = Console(highlight=False)


def print_table(decisions: list[dict[str, Any]], *, tenants: bool) -> None:
    """Decisions, one a line, with `tenants` whose they are: nothing is cut, however narrow the terminal is."""
    rows = [["TIME (UTC)", "ID", "MODE", "BY", "P(THINK)", "STATUS", "COST", "MODEL"]]
    rows += [
        [
            _clock(one["at"]),
            one["id"],
            one["mode"] if one["escalated"] is None else f"{one['mode']} (escalated)",
            one["source"],
            "-" if one["probability"] is None else f"{one['probability']:.3f}",
            str(one["status"]),
            _dollars(one["cost"]) or "-",
            one["model"],
        ]
        for one in decisions
    ]
    if tenants:
        for row, tenant in zip(rows, ["TENANT", *(one["tenant"] for one in decisions)], strict=True):
            row.insert(2, tenant)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(printable(line.rstrip()))


def print_one(one: dict[str, Any]) -> None:
    """All that is known of one decision."""
    tell(
        OUT,
        mode=one["mode"],
        source=one["source"],
        probability=one["probability"],
        threshold=one["threshold"],
        detail=one["detail"],
        evidence=[(each["feature"], each["contribution"]) for each in one["evidence"]],
    )
    table = Table(show_header=False, box=None)
    for name, value in _facts(one):
        table.add_row(name, escape(printable(value)))
    OUT.print(table)


def _facts(one: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known of a decision beside its evidence, in words."""
    yield "id", one["id"]
    yield "time", f"{_clock(one['at'])} UTC, {one['duration']:.3f} s"
    yield "asked", f"{one['model']} by {one['tenant']} (key {one['key']}) at {one['endpoint']}"
    if question := one["question"]:
        language = f", {question['language']}" if question["language"] else ""
        yield "question", question["text"] or f"{question['characters']} characters{language}"
    for wish in one["wishes"]:
        yield "client asked", f"{wish['mode']} by {wish['field']}{', overruled' if one['overruled'] else ''}"
    stage = "" if one["stage"] is None else f", {one['arm']} in stage {one['stage']}"
    rule = f", rule {one['rule']}" if one["rule"] else ""
    yield "policy", f"version {one['policy_version']}{stage}{rule}"
    if one["shadow"]:
        yield "other policy", f"would have decided {one['shadow']}"
    yield "predictor", one["predictor"]
    error = f" ({one['error']})" if one["error"] else ""
    yield "answered", f"by pool {one['pool'] or '-'} with status {one['status']}{error}"
    remarks = {
        "escalated": one["escalated"],
        "answer floor": "thinking was closed" if one["floored"] else None,
        "stopped": one["stopped"],
        "model judged": one["judgement"],
        "clamped": one["clamped"] and ", ".join(f"{name}={value}" for name, value in one["clamped"].items()),
    }
    yield from ((name, str(value)) for name, value in remarks.items() if value)
    if usage := one["usage"]:
        counts = ", ".join(f"{count} {name}" for name, count in usage.items() if name != "estimated")
        yield "tokens", counts + (" (estimated)" if usage["estimated"] else "")
    if one["cost"] is not None:
        other = one["other_mode_cost_estimated"]
        yield "cost", _dollars(one["cost"]) + ("" if other is None else f"; the other mode about {_dollars(other)}")
    if one["doubtful"]:
        yield "doubtful", ", ".join(one["doubtful"])
    for said in one["feedback"]:
        yield "feedback", f"{verdict(said['should_think'])}{_because(said['comment'])} (key {said['key']})"
    if reviewed := one["reviewed"]:
        pinned = f"; rule {reviewed['pinned']} pinned" if reviewed["pinned"] else ""
        yield "review", f"{verdict(reviewed['should_think'])}{_because(reviewed['comment'])}{pinned}"


def verdict(should_think: bool) -> str:
    """What somebody says of a decision, in words."""
    return "should think" if should_think else "should not think"


def _because(comment: str | None) -> str:
    return f": {comment}" if comment else ""


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _dollars(nano: int | None) -> str:
    return "" if nano is None else f"${nano / 1e9:.9f}".rstrip("0").rstrip(".")
