"""How right a predictor is on labelled queries of one's own, as they are: nothing is learnt from them.

Stands beside `evaluation.py`, which trains models to judge what they have not seen; here the model is given. For
sets by somebody who has seen neither its features nor its rows, and for one's own traffic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from pointsman.router.predictor.corpus import CorpusError
from pointsman.router.predictor.evaluation import auroc, expected_calibration_error
from pointsman.router.predictor.model import Predictor
from pointsman.router.predictor.question import question_of


class Query(NamedTuple):
    """One labelled query; `pair`: what queries share that differ by a small edit. Words that are missing are ''."""

    messages: Sequence[Mapping[str, Any]]
    think: bool
    language: str
    category: str
    pair: str


class _Judged(NamedTuple):
    query: Query
    probability: float

    @property
    def right(self) -> bool:
        return (self.probability >= 0.5) == self.query.think


def load(path: Path) -> list[Query]:
    """
    The queries of the file at `path`: JSON lines with `text` or OpenAI `messages`, `label` (0 or 1: needs to
    think), and optionally `lang`, `category` and `pair`.

    Raises `CorpusError` where the file can't be read, a line is no labelled query, or a label has none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error
    lines = enumerate(content.splitlines(), start=1)
    queries = [_query(line, f"{path} line {number}") for number, line in lines if line.strip()]
    if len({query.think for query in queries}) < 2:
        raise CorpusError(f"{path} needs queries of both labels")
    return queries


def judge(predictor: Predictor, queries: Sequence[Query]) -> dict[str, Any]:
    """
    What `predictor` makes of `queries` at a threshold of 0.5, as JSON.

    `rows`, `accuracy`, `auroc`, `ece` (15 bins of equal mass) of all, and by `languages` and `categories` (without
    calibration); `pairs`: sets that share a `pair` and have both labels, and the share of them that is all right.
    """
    questions = [question_of(query.messages) for query in queries]
    probabilities = iter(predictor.probabilities([text for text in questions if text is not None]))
    # Where there is nothing to judge the policy's default holds, which is to think.
    judged = [
        _Judged(query, 1.0 if text is None else next(probabilities))
        for query, text in zip(queries, questions, strict=True)
    ]
    sets = _grouped(judged, lambda each: each.query.pair)
    mixed = [group for group in sets.values() if len({each.query.think for each in group}) == 2]
    labels = np.array([each.query.think for each in judged])
    scores = np.array([each.probability for each in judged])
    alike = np.ones(len(judged))
    return {
        **_figures(judged),
        "ece": round(expected_calibration_error(labels, scores, alike), 4),
        "pairs": {
            "sets": len(mixed),
            "all_right": round(float(np.mean([all(each.right for each in group) for group in mixed])), 4)
            if mixed
            else None,
        },
        "languages": _by(judged, lambda each: each.query.language),
        "categories": _by(judged, lambda each: each.query.category),
    }


def _figures(judged: Sequence[_Judged]) -> dict[str, Any]:
    labels = np.array([each.query.think for each in judged])
    scores = np.array([each.probability for each in judged])
    mixed = 0 < labels.mean() < 1
    return {
        "rows": len(judged),
        "accuracy": round(float(np.mean([each.right for each in judged])), 4),
        "auroc": round(auroc(labels, scores, np.ones(len(judged))), 4) if mixed else None,
    }


def _by(judged: Iterable[_Judged], name_of: Callable[[_Judged], str]) -> dict[str, dict[str, Any]]:
    return {name: _figures(group) for name, group in _grouped(judged, name_of).items()}


def _grouped(judged: Iterable[_Judged], name_of: Callable[[_Judged], str]) -> dict[str, list[_Judged]]:
    """By name, in the order of names; those without one are left out."""
    groups: defaultdict[str, list[_Judged]] = defaultdict(list)
    for each in judged:
        if name := name_of(each):
            groups[name].append(each)
    return dict(sorted(groups.items()))


def _query(line: bytes, where: str) -> Query:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise CorpusError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict) or row.get("label") not in (0, 1):
        raise CorpusError(f"{where}: needs an object whose `label` is 1 (needs to think) or 0")
    messages = row.get("messages")
    if isinstance(row.get("text"), str):
        messages = [{"role": "user", "content": row["text"]}]
    if not isinstance(messages, list):
        raise CorpusError(f"{where}: needs `text` or `messages`")
    words = [row.get(name) or "" for name in ("lang", "category", "pair")]
    if not all(isinstance(word, str) for word in words):
        raise CorpusError(f"{where}: `lang`, `category` and `pair` must be words")
    return Query(messages, bool(row["label"]), *words)
