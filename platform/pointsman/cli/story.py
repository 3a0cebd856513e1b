"""Why a query takes its track, on a terminal: the line that says it and the table of what spoke for it.

Shared by `pointsman explain`, which works it out, and `pointsman decisions`, which looks it up: the same story.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def tell(
    console: Console,
    *,
    mode: str,
    source: str,
    probability: float | None,
    threshold: float,
    evidence: Iterable[tuple[str, float]],
    detail: str = "",
) -> None:
    """
    Print the decision in one line and its evidence in a table.

    `evidence`: pairs of what the predictor saw and what that contributes to the log-odds of thinking; `detail`: the
    rule or field behind `source`.
    """
    said = "cannot judge: there is no text" if probability is None else f"P(think) = {probability:.3f}"
    by = f"{source} ({printable(detail)})" if detail else source
    console.print(f"[bold]{mode}[/bold]   {said}, threshold {threshold:g}, by {escape(by)}")
    rows = list(evidence)
    if rows:
        table = Table("evidence", "pushes", caption="log-odds; + towards think, - towards no_think")
        table.columns[1].justify = "right"
        for feature, contribution in rows:
            table.add_row(escape(printable(feature)), f"{contribution:+.3f}")
        console.print(table)


def printable(text: str) -> str:
    """`text` without what a terminal would obey or stumble over."""
    return "".join(character if character.isprintable() else "�" for character in text)
