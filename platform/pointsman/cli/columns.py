"""Rows in columns on a terminal, and the spans of time that options take."""

from __future__ import annotations

import re
from collections.abc import Sequence

import typer

from pointsman.cli.story import printable

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print `rows`, the first of which is the heading, each column as wide as its widest cell."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    for row in shown:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def moment(text: str | None) -> str:
    """A moment as the admin API tells it, to the second; a dash where there is none."""
    return text[:19].replace("T", " ") if text else "-"


def span(text: str | int) -> int:
    """
    Seconds in `90d`, `12h`, `30m` or `15s`; a default is given in seconds.

    For options: raises `typer.BadParameter` where it is no span.
    """
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip())
    if match is None:
        raise typer.BadParameter("must be a number with s, m, h, d or w, such as 90d or 12h")
    return int(match[1]) * _SECONDS[match[2]]
