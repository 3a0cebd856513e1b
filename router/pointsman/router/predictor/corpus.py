"""The rows the predictor learns from: a folder of labelled queries, and the rows that Pointsman brings itself.

Stands beside training and never in the data plane. The rows of the folder are not part of the project; the
project's own rows are, in `data/rows/`, a file for each who wrote some. Which source belongs to which family is
fixed in `data/families.json`.
"""

from __future__ import annotations

import hashlib
import lzma
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from pointsman.router.predictor import wrapping
from pointsman.router.predictor.question import parted, question_of
from pointsman.router.predictor.wrapping import Wrapping

ROWS_FILE = "train.jsonl.xz"
OWN_FAMILY = "own_rows"
OWN_FACTOR = 5.0
"""How much more an own row counts: they are what requests look like, the public sets are exams."""
PUBLIC_DOUBT = 0.4
"""How much the label of a public row is in doubt (see `training.fit`): many were given to whole sources."""
ORIGINAL_SHARE, COPY_SHARE = 0.5, 0.5
"""What an own row that has wrapped copies (`wrapping.py`) counts, and what each copy; one without counts 1."""
CORE = "core"
"""The tier of rows whose label is clear; other tiers are arguable."""
OWN_ROWS = Path(__file__).with_name("data") / "rows"
FAMILIES = Path(__file__).with_name("data") / "families.json"
RESERVED = frozenset(
    f"rg_{task}"
    for task in (
        *("ab", "advanced_geometry", "knight_swap", "tsumego", "fraction_simplification", "propositional_logic"),
        *("bitwise_arithmetic", "letter_counting", "maze", "puzzle24", "quantum_lock"),
    )
)
"""Sources kept apart for judging the result: never trained on, even where a folder holds them."""


class CorpusError(ValueError):
    """Rows that cannot be read; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Row:
    """
    One labelled query: `think` is the label, `weight` how sure that is; a `family` is left out as a whole.

    Of own rows `source` is the file, `kind` what sort of request it is, and `pair` what those share that differ by
    little, or speak of the same document; `beside` is what the user said before a short last turn or, where it is
    `material`, the message that `text`, the task of a system prompt, is set for. A `copy` is one
    of an own row, wrapped: trained on, never judged.
    """

    text: str
    think: bool
    weight: float
    source: str
    family: str
    tier: str
    lang: str = ""
    kind: str = ""
    pair: str = ""
    copy: bool = False
    beside: str = ""
    material: bool = False


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows in the order of their files, and the hash of those files."""

    rows: tuple[Row, ...]
    sha256: str

    def family_weights(self) -> list[float]:
        """
        Each row's weight times (rows of its family)^-0.5, own rows times `OWN_FACTOR`.

        They sum to the number of rows that are no copies.
        """
        sizes = Counter(row.family for row in self.rows if not row.copy)
        raw = [row.weight * sizes[row.family] ** -0.5 for row in self.rows]
        raw = [
            each * OWN_FACTOR if row.family == OWN_FAMILY else each
            for each, row in zip(raw, self.rows, strict=True)
        ]
        mean = sum(raw) / sum(sizes.values())
        return [weight / mean for weight in raw]

    def doubts(self) -> list[float]:
        """How much each row's label is in doubt; own rows were labelled one by one."""
        return [0.0 if row.family == OWN_FAMILY else PUBLIC_DOUBT for row in self.rows]


def load(folder: Path) -> Corpus:
    """
    The rows of `folder`, and after them Pointsman's own rows, each with its wrapped copies.

    Raises `CorpusError` where a file is missing, holds no usable rows, or a line is not a labelled query.
    """
    path = folder / ROWS_FILE
    try:
        packed = path.read_bytes()
        content = lzma.decompress(packed)
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error
    except lzma.LZMAError as error:
        raise CorpusError(f"cannot read {path}: {error}") from error
    families = source_families()
    rows = [row for row in _rows(content, path, families) if row.source not in RESERVED]
    if len({row.think for row in rows}) < 2 or len({row.family for row in rows}) < 3:
        raise CorpusError(f"{path} needs rows of both labels and of three or more sources")
    rows += _with_copies(own_rows())
    own = b"".join(each.read_bytes() for each in (*_own_files(), wrapping.FILE))
    return Corpus(tuple(rows), hashlib.sha256(packed + own).hexdigest())


def own_rows() -> tuple[Row, ...]:
    """The rows that Pointsman brings itself, file by file; a conversation counts by its last turn."""
    return tuple(row for path in _own_files() for row in _own_rows(path))


def _with_copies(rows: Sequence[Row]) -> Iterable[Row]:
    around = Wrapping(rows)
    for row in rows:
        copies = around.copies(row)
        yield replace(row, weight=ORIGINAL_SHARE) if copies else row
        for text in copies:
            yield replace(row, text=text, weight=COPY_SHARE, copy=True)


def _own_files() -> list[Path]:
    return sorted(OWN_ROWS.glob("*.jsonl"))


def _own_rows(path: Path) -> Iterable[Row]:
    for line in path.read_bytes().splitlines():
        row = orjson.loads(line)
        text = row["text"] if "text" in row else question_of(row["messages"])
        assert isinstance(text, str)
        asked, beside, material = parted(text)
        yield Row(
            asked,
            bool(row["label"]),
            1.0,
            path.stem,
            OWN_FAMILY,
            CORE,
            row["lang"],
            row["kind"],
            row.get("pair", ""),
            beside=beside,
            material=material,
        )


def source_families() -> dict[str, str]:
    """Source → family, from the fixed list; a source that is not listed is a family of its own."""
    listed = orjson.loads(FAMILIES.read_bytes())
    return {source: family for family, sources in listed.items() for source in sources}


def _rows(content: bytes, path: Path, families: dict[str, str]) -> Iterable[Row]:
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            text, label, source = row["text"], row["label"], row["source"]
            weight = float(row.get("weight", 1))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorpusError(f"{path} line {number} is not a labelled query: {error!r}") from error
        if not isinstance(text, str) or label not in (0, 1) or not isinstance(source, str) or not 0 < weight <= 100:
            raise CorpusError(
                f"{path} line {number}: needs `text` and `source` (strings), `label` (0 or 1), `weight` (above 0)"
            )
        yield Row(text, bool(label), weight, source, families.get(source, source), str(row.get("tier", CORE)))
