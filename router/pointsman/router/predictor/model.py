"""The predictor: how likely a question is to need thinking, and what speaks for it.

Stands in the data plane's hot path: a call is one call of the compiled kernel, or else a small number of NumPy
calls, whatever the length of the text. Holds no state but its weights, opens no file but theirs, and keeps no text.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pointsman.router.predictor import alphabet, artefact, features, native, standing_task
from pointsman.router.predictor.artefact import Weights
from pointsman.router.predictor.excerpt import excerpt, without_documents
from pointsman.router.predictor.features import Part
from pointsman.router.predictor.layout import BATCH, MAX_RUN
from pointsman.router.predictor.question import parted
from pointsman.router.predictor.table import weights_of
from pointsman.router.predictor.tempering import counting, tempered

_EARLIER = features.EVIDENCE_NAMES.index(features.EARLIER_NAME)
_MATERIAL = features.EVIDENCE_NAMES.index(features.MATERIAL_NAME)
_FURTHEST = 12.0
"""Log-odds of what stands beside a question that count at most, either way."""
_SCALES = np.array([group.scale for group in features.GROUPS])


class Evidence(NamedTuple):
    """
    One thing the predictor saw, and its share of the log-odds of thinking (above 0: it speaks for thinking).

    Log-odds are a sum, tempered (`tempering`), and divided among what was summed up in proportion.
    """

    feature: str
    contribution: float


class Predictor:
    """
    Judges questions by one set of weights. Safe to share between threads.

    A question is any string; of one that `question_of` has made of a conversation, what was asked before the last
    turn, or what the system prompt's task is set for, is judged by itself, and its log-odds are added with a weight
    of their own.

    `compiled`: use the compiled kernel for single questions, where there is one.
    """

    def __init__(self, weights: Weights, *, compiled: bool = True) -> None:
        self.version = weights.version
        self.report: dict[str, Any] = weights.report
        self.created = weights.created
        self.data_sha256 = weights.data_sha256
        self._entries = weights.entries
        self._steps = weights.table.steps() * np.float32(weights.slope)
        self._counts: list[float] = (weights.counts * np.float64(weights.slope)).tolist()
        self._bias = weights.slope * weights.bias + weights.offset
        self._bend = weights.bend
        self._beside = weights.earlier, weights.material
        features.extract((excerpt(""),))  # builds the tables now, so that the first request does not pay for them
        standing_task.prepare()
        self._kernel = None
        if compiled:
            self._kernel = native.kernel_of(weights.table, weights.slope, self._counts, self._bias, self._bend)

    @property
    def arithmetic(self) -> str:
        """What single questions are judged with: `compiled` or `numpy`."""
        return "numpy" if self._kernel is None else "compiled"

    @classmethod
    def load(cls, path: Path | None = None) -> Predictor:
        """
        The predictor whose weights are in the file at `path`, by default the one that ships with Pointsman.

        Raises `WeightsError` where the file is missing, damaged, edited, or of another version.
        """
        return cls(artefact.read(path))

    def probability(self, text: str) -> float:
        """P(think) in [0, 1] of one question, any string of any length."""
        asked, beside, material = parted(text)
        if beside:
            return _sigmoid(_log_odds(self._alone(asked)) + self._light(beside, material))
        return self._alone(text)

    def _alone(self, text: str) -> float:
        kernel = self._kernel
        if kernel is None:
            return _sigmoid(self._odds(features.extract((excerpt(text),)))[0])
        probability = kernel.probability(text)
        return kernel.probability_of_rest(*without_documents(text)) if probability is None else probability

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        """P(think) of each text, in order: what `probability` says of each; NumPy takes many in one pass."""
        if self._kernel is not None:
            return [self.probability(text) for text in texts]
        odds: list[float] = []
        for start in range(0, len(texts), BATCH):
            batch = [parted(text) for text in texts[start : start + BATCH]]
            found = self._odds(features.extract([excerpt(asked) for asked, _, _ in batch]))
            odds += [
                alone + self._light(beside, material) if beside else alone
                for alone, (_, beside, material) in zip(found, batch, strict=True)
            ]
        return [_sigmoid(each) for each in odds]

    def _light(self, beside: str, material: bool) -> float:
        """What earlier turns add to the log-odds of the last one, or a task's material to those of the task."""
        slope, offset = self._beside[material]
        return slope * max(-_FURTHEST, min(_FURTHEST, _log_odds(self._alone(beside)))) + offset

    def evidence(self, text: str, *, limit: int = 8) -> list[Evidence]:
        """
        What moved the log-odds of thinking, strongest first, by kinds of features and never by a word of `text`.

        At most `limit` entries, then `everything else`; the contributions add up to the log-odds of `probability`.
        """
        names = features.EVIDENCE_NAMES
        return [Evidence(names[place], contribution) for place, contribution in self.ranked(text, limit)]

    def ranked(self, text: str, limit: int) -> list[tuple[int, float]]:
        """`evidence` as it is worked out: places in `features.EVIDENCE_NAMES`, with contributions."""
        asked, beside, material = parted(text)
        if not beside:
            return self._ranked_alone(text, limit)
        *ranked, (rest_place, rest) = self._ranked_alone(asked, limit)
        ranked.append((_MATERIAL if material else _EARLIER, self._light(beside, material)))
        ranked.sort(key=lambda entry: -abs(entry[1]))
        rest += sum(contribution for _, contribution in ranked[limit:])
        return [*ranked[:limit], (rest_place, rest)]

    def _ranked_alone(self, text: str, limit: int) -> list[tuple[int, float]]:
        kernel = self._kernel
        if kernel is None:
            return self._ranked(text, limit)
        ranked = kernel.evidence(text, limit)
        return kernel.evidence_of_rest(*without_documents(text), limit) if ranked is None else ranked

    def explain(self, text: str, *, limit: int = 12) -> list[Evidence]:
        """
        What moved the log-odds of thinking, strongest first, by the words of `text`.

        At most `limit` entries, then `everything else`; the contributions add up to the log-odds of `probability`.
        What `shortened` has left of a text is explained as the whole of it.
        """
        asked, beside, material = parted(text)
        found = features.extract((excerpt(asked),))
        seen: defaultdict[str, float] = defaultdict(float)
        seen[features.BIAS_NAME] = self._bias
        for name, contribution in self._hashed(found):
            seen[name] += contribution
        for place, value in found.counts[0].items():
            seen[_told(features.COUNT_NAMES[place], value)] += value * self._counts[place]
        part = counting(sum(seen.values()), self._bend)
        for name in seen:
            seen[name] *= part
        if beside:
            seen[features.MATERIAL_NAME if material else features.EARLIER_NAME] = self._light(beside, material)
        ranked = sorted(seen.items(), key=lambda entry: -abs(entry[1]))
        rest = sum(contribution for _, contribution in ranked[limit:])
        return [Evidence(*entry) for entry in ranked[:limit]] + [Evidence(features.REST_NAME, rest)]

    def _odds(self, found: features.Features) -> list[float]:
        """The log-odds of each text by itself."""
        sums = np.add.reduceat(weights_of(self._entries, self._steps, found.cells), found.starts)
        said = (sums / np.sqrt(found.sizes)).reshape(-1, len(features.GROUPS)) @ _SCALES
        weights = self._counts
        said += [sum([value * weights[place] for place, value in counts.items()]) for counts in found.counts]
        odds: list[float] = tempered(said + self._bias, self._bend).tolist()
        return odds

    def _ranked(self, text: str, limit: int) -> list[tuple[int, float]]:
        """What `Kernel.evidence` says, with NumPy."""
        found = features.extract((excerpt(text),))
        sums = np.add.reduceat(weights_of(self._entries, self._steps, found.cells), found.starts)
        contributions = [
            *(sums / np.sqrt(found.sizes) * _SCALES).tolist(),
            *[0.0] * features.COUNT_SIZE,
            self._bias,
        ]
        for place, value in found.counts[0].items():
            contributions[len(features.GROUPS) + place] = value * self._counts[place]
        part = counting(sum(contributions), self._bend)
        contributions = [contribution * part for contribution in contributions]
        ranked = sorted(enumerate(contributions), key=lambda entry: -abs(entry[1]))
        shown = [entry for entry in ranked[:limit] if entry[1]]
        return [*shown, (len(contributions), sum(contribution for _, contribution in ranked[limit:]))]

    def _hashed(self, found: features.Features) -> Iterator[tuple[str, float]]:
        """(what hit first, contribution) of every hashed feature; a word's beginning counts for the word."""
        layout = found.layout
        begins, ends, span = layout.starts.tolist(), layout.ends.tolist(), layout.spans[0]
        sizes = found.sizes.tolist()
        for group, size, start in zip(features.GROUPS, sizes, found.starts.tolist(), strict=True):
            factor = group.scale / math.sqrt(size)
            words = 3 if group.line > MAX_RUN else group.line + 1 if group.line < MAX_RUN else 1
            first = span[{Part.CLOSING: 2, Part.FOCUS: 4, Part.AROUND: 6}.get(group.part, 0)]
            weights = weights_of(self._entries, self._steps, found.cells[start : start + size]).tolist()
            hits = found.hits[start : start + size]
            if group.line == features.FAR:
                count = min(span[5] - span[4], features.FAR_WORDS)
                pairs = [(places[hits] + first).tolist() for places in features.far_pairs(count) if len(places)]
                for weight, *pair in zip(weights, *pairs, strict=True):
                    said = [layout.text[begins[position] : ends[position]] for position in pair]
                    yield _quoted(" … ".join(said)), weight * factor
                continue
            for position, weight in zip((hits + first).tolist(), weights, strict=True):
                yield _quoted(layout.text[begins[position] : ends[position + words - 1]]), weight * factor


def _told(name: str, value: float) -> str:
    """A count by its name, and with its value where that says more."""
    if name != features.QUANTITIES:
        return name
    count = round(math.expm1(value))
    return "names a quantity" if count == 1 else f"names {count or 'no'} quantities"


def _quoted(hit: str) -> str:
    words = hit.replace(alphabet.PAD, "").strip()
    if not words:
        return "how short the text is"  # only the pads: each counts the more, the fewer words stand beside it
    if hit.startswith(alphabet.PAD):
        return f"begins with “{words}”"
    return f"ends with “{words}”" if hit.endswith(alphabet.PAD) else f"“{words}”"


def _log_odds(probability: float) -> float:
    return math.log(max(probability, 1e-300)) - math.log(max(1 - probability, 1e-16))


def _sigmoid(score: float) -> float:
    if score >= 0:
        return 1 / (1 + math.exp(-score)) if score < 700 else 1.0
    return math.exp(score) / (1 + math.exp(score)) if score > -700 else 0.0
