"""A report as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import typer

from pointsman.cli.story import printable
from pointsman.contracts.pricing import dollars

MOST = 1000
"""Rows that a terminal is given at most; the sum below is of all."""


def print_table(by: Sequence[str], rows: Iterable[dict[str, Any]], columns: dict[str, str]) -> None:
    """
    Print `rows`, their values of `by` first, then `columns` (field: title) as numbers, and last what all add up to.

    A field that ends in `_usd` holds text; of `cost_usd` the sum is made of `cost`, in nano-dollars.
    """
    lines = [[name.upper() for name in by] + list(columns.values())]
    sums = dict.fromkeys(columns, 0)
    left_out = 0
    for row in rows:
        for field in columns:
            sums[field] += row["cost"] if field == "cost_usd" else row[field]
        if len(lines) > MOST:
            left_out += 1
            continue
        lines.append([_value(row[name]) for name in by] + [_number(field, row[field]) for field in columns])
    if len(lines) == 1:
        typer.echo("Nothing was used in that time.")
        return
    if by:
        last = {field: dollars(total) if field == "cost_usd" else total for field, total in sums.items()}
        lines.append(["total"] + [""] * (len(by) - 1) + [_number(field, last[field]) for field in columns])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.ljust(width) if column < len(by) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
    if left_out:
        typer.echo(f"({left_out:,} more rows are in the total; --format csv writes them all)")


def _value(value: str) -> str:
    return printable(value) or "-"


def _number(field: str, value: Any) -> str:
    if field.endswith("_usd"):
        return f"{Decimal(value):,.6f}"
    return f"{value:,}"
