"""The tables that a run prints. Apart from the figures, so that what is printed can change without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.gateway.figures import BUSY, Figure, Row, Verdict
from benchmarks.gateway.tools import Cell

DISTURBED = 0.05
"""Above this share of time spent waiting for a core, other programs have a part in the figures."""

Column = tuple[str, Callable[[Row], str]]


def _spread(value: Figure | None, scale: float = 1, digits: int = 0) -> str:
    if value is None:
        return "-"
    low, high = value.low / scale, value.high / scale
    return f"{value.median / scale:,.{digits}f} ({low:,.{digits}f} .. {high:,.{digits}f})"


def _plain(value: Figure | None, scale: float = 1, digits: int = 0) -> str:
    return "-" if value is None else f"{value.median / scale:,.{digits}f}"


COMMON: tuple[Column, ...] = (
    ("CPU us", lambda row: _spread(row.cpu)),
    ("helpers us", lambda row: _plain(row.helper_cpu)),
    ("core %", lambda row: _plain(row.busy, 0.01)),
    ("waited %", lambda row: _plain(row.waited, 0.01)),
    ("RSS MiB", lambda row: f"{row.rss / 2**20:.0f}"),
    ("errors", lambda row: str(row.errors)),
)

UNARY: tuple[Column, ...] = (
    ("requests/s", lambda row: _spread(row.throughput)),
    ("added p50 ms", lambda row: _spread(row.added_p50, 1000, 3)),
    ("added p99 ms", lambda row: _spread(row.added_p99, 1000, 3)),
    *COMMON,
)

STREAM: tuple[Column, ...] = (
    ("streams/s", lambda row: _spread(row.throughput)),
    ("chunks/token", lambda row: _plain(row.chunks, 1, 3) + (" merged" if row.merged else "")),
    ("reads/token", lambda row: _plain(row.reads, 1, 2)),
    ("added gap p99 ms", lambda row: _spread(row.added_gap_p99, 1000, 2)),
    ("first token ms", lambda row: _plain(row.first_token_p50, 1000, 2)),
    *COMMON,
)


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first to the left, the others to the right."""
    widths = [max(len(line[at]) for line in (heads, *lines)) for at in range(len(heads))]
    told = [
        "  ".join(cell.ljust(width) if at == 0 else cell.rjust(width) for at, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in (heads, *lines))
    ]
    return "\n".join(line.rstrip() for line in told)


def matrix(rows: Mapping[Cell, Mapping[str, Row]]) -> str:
    """One table for each cell."""
    parts = []
    for cell, found in rows.items():
        columns = STREAM if cell.kind == "stream" else UNARY
        lines = [
            [name + (" *" if _was_idle(cell, item) else ""), *(tell(item) for _, tell in columns)]
            for name, item in found.items()
        ]
        parts.append(f"{cell}\n{table(['', *(head for head, _ in columns)], lines)}")
    note = f"* used less than {BUSY:.0%} of its core: something else set the throughput."
    return "\n\n".join([*parts, note])


def _was_idle(cell: Cell, row: Row) -> bool:
    # One connection waits for its answers; that no gateway is busy with it says nothing.
    return cell.connections > 1 and row.idle


def warning(waited: float) -> str:
    """What to think of a run whose gateways waited for their core for this share of the time."""
    if waited <= DISTURBED:
        return f"The gateways waited {waited:.1%} of the time for their core: the machine was quiet."
    return (
        f"Other programs had the gateways' core for {waited:.0%} of the time: compare CPU for one answer, and take "
        "throughput and latency from a run on a quiet machine."
    )


def judgement(verdicts: Sequence[Verdict]) -> str:
    """The lines to reach, and whether they were."""
    words = {True: "yes", False: "NO", None: "?"}
    lines = [[verdict.line, verdict.wanted, verdict.got, words[verdict.holds]] for verdict in verdicts]
    return table(["line", "wanted", "got", "reached"], lines)
