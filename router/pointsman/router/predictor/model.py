"""The predictor: how likely a question is to need thinking, and what speaks for it.

Stands in the data plane's hot path: one call costs about as much as reading a small file from memory, whatever the
length of the text. Holds no state but its weights, opens nothing but its weights file, and keeps no text.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import alphabet, artefact, features
from pointsman.router.predictor.artefact import Weights
from pointsman.router.predictor.excerpt import excerpt

_GROUPS = features.CHARACTER_GROUPS + features.WORD_GROUPS
_SCALES = np.array([group.scale for group in _GROUPS])[:, None]
CLIP = np.float32(5)
"""Standardised counts are cut at this many standard deviations."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing the predictor saw, and by how much it moved the log-odds of thinking (above 0: towards it)."""

    feature: str
    contribution: float


class Predictor:
    """Judges questions by one set of weights. Safe to share between threads."""

    def __init__(self, weights: Weights) -> None:
        self.version = weights.version
        self.report: dict[str, Any] = weights.report
        self.created = weights.created
        self.data_sha256 = weights.data_sha256
        self._table = weights.table.astype(np.float32) * np.float32(weights.slope)
        self._dense = weights.dense_weights * np.float32(weights.slope)
        self._mean = weights.dense_mean
        self._inverse = np.float32(1) / weights.dense_deviation
        self._bias = weights.slope * weights.bias + weights.offset

    @classmethod
    def load(cls, path: Path | None = None) -> Predictor:
        """
        The predictor whose weights are in the file at `path`, by default the one that ships with Pointsman.

        Raises `WeightsError` where the file is missing, damaged, edited, or of another version.
        """
        return cls(artefact.read(path))

    def probability(self, text: str) -> float:
        """P(think) in [0, 1] of one question, any string of any length."""
        return _sigmoid(float(self._scores(features.extract((excerpt(text),)))[0]))

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        """P(think) of each text, in order: what `probability` says of each, in one pass of NumPy for many."""
        scores: list[float] = []
        for start in range(0, len(texts), features.BATCH):
            batch = [excerpt(text) for text in texts[start : start + features.BATCH]]
            scores += self._scores(features.extract(batch)).tolist()
        return [_sigmoid(score) for score in scores]

    def explain(self, text: str, *, limit: int = 12) -> list[Evidence]:
        """
        What moved the log-odds of thinking, strongest first.

        At most `limit` entries, then `everything else`; the contributions add up to the log-odds of `probability`.
        """
        found = features.extract((excerpt(text),))
        seen: defaultdict[str, float] = defaultdict(float)
        seen["where every question starts"] = self._bias
        for name, contribution in self._hashed(found):
            seen[name] += contribution
        standard = self._standardised(found)[0] * self._dense
        for name, contribution in zip(features.DENSE_NAMES, standard.tolist(), strict=True):
            seen[name] += contribution
        ranked = sorted(seen.items(), key=lambda entry: -abs(entry[1]))
        rest = sum(contribution for _, contribution in ranked[limit:])
        return [Evidence(*entry) for entry in ranked[:limit]] + [Evidence("everything else", rest)]

    def _scores(self, found: features.Features) -> npt.NDArray[np.float64]:
        bounds = found.bounds
        sums = np.add.reduceat(self._table.take(found.index, mode="clip"), bounds)[::2]
        hashed = sums / np.sqrt(bounds[1::2] - bounds[::2])
        by_group: npt.NDArray[np.float64] = hashed.reshape(len(_GROUPS), -1) * _SCALES
        scores: npt.NDArray[np.float64] = (
            by_group.sum(axis=0) + self._standardised(found) @ self._dense + self._bias
        )
        return scores

    def _standardised(self, found: features.Features) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = (found.dense - self._mean) * self._inverse
        np.minimum(values, CLIP, out=values)
        np.maximum(values, -CLIP, out=values)
        return values

    def _hashed(self, found: features.Features) -> Iterator[tuple[str, float]]:
        """(what hit, contribution) of every hashed feature; letters inside a word count for that word."""
        layout, bounds = found.layout, found.bounds.tolist()
        words = [
            layout.text[start:end]
            for start, end in zip(layout.word_starts.tolist(), layout.word_ends.tolist(), strict=True)
        ]
        word_at: dict[int, str] = {}
        for word, start in zip(words, layout.word_starts.tolist(), strict=True):
            if len(word) > 1:
                word_at |= dict.fromkeys(range(start, start + len(word)), word)
        widths = len(layout.text) - features.LONGEST_GRAM + 1, layout.runs.shape[1]
        offset = 0
        for number, group in enumerate(_GROUPS):
            start, end = bounds[2 * number], bounds[2 * number + 1]
            factor = group.scale / math.sqrt(end - start)
            weights = self._table.take(found.index[start:end]).tolist()
            letters = number < len(features.CHARACTER_GROUPS)
            for position, weight in enumerate(weights, start - offset):
                if letters:
                    what = word_at.get(position) or layout.text[position : position + group.size]
                else:
                    last = position + group.size - 1
                    what = layout.text[layout.word_starts[position] : layout.word_ends[last]]
                yield _quoted(what), weight * factor
            offset += widths[0] if letters else widths[1]


def _quoted(hit: str) -> str:
    words = hit.replace(alphabet.PAD, "").strip()
    if not words:
        return "the edges of the text"
    if hit.startswith(alphabet.PAD):
        return f"begins with “{words}”"
    return f"ends with “{words}”" if hit.endswith(alphabet.PAD) else f"“{words}”"


def _sigmoid(score: float) -> float:
    if score >= 0:
        return 1 / (1 + math.exp(-score)) if score < 700 else 1.0
    return math.exp(score) / (1 + math.exp(score)) if score > -700 else 0.0
