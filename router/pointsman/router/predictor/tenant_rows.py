"""A tenant's labelled queries, and which of them no training may see.

Stands before adaptation and gate, which must agree on that: the part is chosen by a hash of what a row says, so
that it is the same tomorrow, on another machine and in a longer file, and rows that belong together are on one
side.
"""

from __future__ import annotations

import hashlib
import lzma
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from pointsman.router.predictor.corpus import CorpusError
from pointsman.router.predictor.question import question_of

HELD_OUT = 0.3
"""Share of the rows, about, that are kept apart to judge by."""

LEAST = 50
"""Rows of each label below which nothing is trained."""

LEAST_HELD_OUT = 10
"""Rows of each label that have to be among those kept apart."""

LARGEST = 256 * 1024 * 1024
"""Bytes of a file at most."""


@dataclass(frozen=True, slots=True)
class TenantRow:
    """
    One labelled query: `think` is the label, `weight` how sure that is (above 0, at most 100).

    `group`: rows of the same one are about the same; `held_out`: no training may see it.
    """

    text: str
    think: bool
    weight: float
    group: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class TenantRows:
    """The rows of one file, and the hash of that file."""

    rows: tuple[TenantRow, ...]
    sha256: str

    @property
    def training(self) -> tuple[TenantRow, ...]:
        """The rows to learn from."""
        return tuple(row for row in self.rows if not row.held_out)

    @property
    def held_out(self) -> tuple[TenantRow, ...]:
        """The rows to judge by."""
        return tuple(row for row in self.rows if row.held_out)


def load(path: Path) -> TenantRows:
    """
    The rows of the file at `path`: JSON lines with `text` or OpenAI `messages`, `label` (0 or 1: needs to think),
    optionally `weight` and `pair`, a word that rows share which were made of each other. One that ends in `.xz` is
    compressed. Where equal queries have different labels, the label holds that weighs more, and neither where both
    weigh alike.

    Raises `CorpusError` where the file can't be read, a line is no labelled query, or there are too few rows of a
    label.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise CorpusError(f"{path} is larger than {LARGEST} bytes")
        content = path.read_bytes()
        if path.suffix == ".xz":
            content = lzma.decompress(content)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise CorpusError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    read = [
        _row(line, f"{path} line {number}")
        for number, line in enumerate(content.splitlines(), start=1)
        if line.strip()
    ]
    read = _agreed(read)
    groups = _groups([(_digest(text), pair) for text, _, _, pair in read])
    rows = tuple(
        TenantRow(text, think, weight, group, _kept_apart(group))
        for (text, think, weight, _), group in zip(read, groups, strict=True)
    )
    for think in (False, True):
        found = sum(row.think is think for row in rows)
        if found < LEAST:
            raise CorpusError(f"{path} has {found} rows with label {int(think)}: {LEAST} of each are the least")
        apart = sum(row.think is think and row.held_out for row in rows)
        if not LEAST_HELD_OUT <= apart <= found - LEAST_HELD_OUT:
            raise CorpusError(
                f"{path} cannot be divided: {apart} of {found} rows with label {int(think)} would be kept apart to "
                "judge by: add rows, or rows of more pairs"
            )
    return TenantRows(rows, hashlib.sha256(content).hexdigest())


_Read = tuple[str, bool, float, str | None]


def _row(line: bytes, where: str) -> _Read:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise CorpusError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: needs an object")
    text = row.get("text")
    if text is None and isinstance(row.get("messages"), list):
        text = question_of(row["messages"])
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"{where}: needs `text`, or `messages` with a question in the last one of the user's")
    label, weight, pair = row.get("label"), row.get("weight", 1), row.get("pair")
    if label not in (0, 1):
        raise CorpusError(f"{where}: `label` must be 1 (needs to think) or 0")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 100:
        raise CorpusError(f"{where}: `weight` must be above 0, and at most 100")
    if pair is not None and not isinstance(pair, str):
        raise CorpusError(f"{where}: `pair` must be a word")
    return text, bool(label), float(weight), pair


def _digest(text: str) -> str:
    """The same for texts that differ in case and white space only."""
    plain = " ".join(text.casefold().split())
    return hashlib.sha256(plain.encode(errors="replace")).hexdigest()


def _agreed(read: Sequence[_Read]) -> list[_Read]:
    """The rows without those whose label is outweighed by that of equal queries."""
    balance: defaultdict[str, float] = defaultdict(float)
    for text, think, weight, _ in read:
        balance[_digest(text)] += weight if think else -weight
    return [row for row in read if (balance[_digest(row[0])] > 0) is row[1] and balance[_digest(row[0])] != 0]


def _groups(marks: Sequence[tuple[str, str | None]]) -> list[str]:
    """For each row, by the hash of its text and its pair, what it shares with all rows it hangs together with."""
    of_text: dict[str, str] = {}
    parent: dict[str, str] = {}

    def root(mark: str) -> str:
        while parent.setdefault(mark, mark) != mark:
            mark = parent[mark]
        return mark

    for digest, pair in marks:
        if pair is not None:
            first, second = sorted((root(_pair_mark(pair)), root(of_text.setdefault(digest, digest))))
            parent[second] = first
    # Hashed once more: of many marks the lowest stands for all, and which half it is in must be chance again.
    return [hashlib.sha256(root(digest).encode()).hexdigest() for digest, _ in marks]


def _pair_mark(pair: str) -> str:
    return hashlib.sha256(b"pair\0" + pair.encode(errors="replace")).hexdigest()


def _kept_apart(group: str) -> bool:
    return int(group[:8], 16) < HELD_OUT * 2**32
