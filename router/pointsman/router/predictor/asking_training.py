"""What tells a question from the text beside it, learnt: `python -m pointsman.router.predictor.asking_training`.

Stands before training: the features read only what `asking` has chosen. Learns from the project's own rows alone.
Rows of one pair with different labels share their document, so a line that only one label has is the question; and
short questions of other rows are put beside those documents in several ways, and between courtesies, which ask for
nothing. Writes `data/asking.weights`.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import asking, corpus, wrapping
from pointsman.router.predictor.asking import Sentence
from pointsman.router.predictor.corpus import Row

_KINDS = ("document", "data")
_MOST_ASKED = 400
"""Characters of a question at most: where more differs between two rows, it is not one document that they share."""
_GAPS = ("\n\n", "\n", "\n---\n", "\n\n---\n\n", '\n"""\n', "\n```\n", "\n\n\n")
_BESIDE = 3
"""How many other questions each document is shown with."""
_OF_WRAPPED = 2
"""Of so many questions between courtesies one is learnt from."""
_OWN_WEIGHT = 2.0
_INVERSE_REGULARISATION = 0.3
_FLAG_PENALTY = 0.05


class Example(NamedTuple):
    """A text with its sentences, and of each whether it asks."""

    text: str
    found: list[Sentence]
    asks: list[bool]
    weight: float


def examples(rows: Sequence[Row]) -> list[Example]:
    """What there is to learn from `rows`, always the same."""
    chance = random.Random(1)
    families: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.kind in _KINDS and row.pair:
            families[row.pair].append(row)
    short = [row.text for row in rows if row.kind not in _KINDS and len(row.text) < 160 and "\n" not in row.text]
    learnt = []
    for family in families.values():
        for row in family:
            others = [other.text for other in family if other.think is not row.think]
            found = asking.sentences(row.text)
            said = [row.text[each.begin : each.end] for each in found]
            asks = [not any(sentence in other for other in others) for sentence in said]
            if (
                not others
                or not 0 < sum(len(each) for each, so in zip(said, asks, strict=True) if so) < _MOST_ASKED
            ):
                continue
            learnt.append(Example(row.text, found, asks, _OWN_WEIGHT))
            document = row.text
            for sentence, so in zip(said, asks, strict=True):
                document = document.replace(sentence, "") if so else document
            learnt += [_beside(chance.choice(short), document.strip(), chance) for _ in range(_BESIDE)]
    wrapped = [
        _example(wrapping.among_courtesies(row.text, row.lang, chance), row.text)
        for row in rows
        if row.lang in wrapping.phrases() and row.kind not in _KINDS and len(row.text) < wrapping.LONGEST
    ]
    return learnt + [each for each in wrapped if not all(each.asks) and any(each.asks)][::_OF_WRAPPED]


def _beside(question: str, document: str, chance: random.Random) -> Example:
    gap = chance.choice(_GAPS)
    lines = document.split("\n")
    at = chance.randrange(len(lines))
    before, after = "\n".join(lines[:at]), "\n".join(lines[at:])
    text = chance.choice(
        (
            f"{question}{gap}{document}",
            f"{document}{gap}{question}",
            f"{question}{gap}{document}{gap}{question}",
            f"{document}{gap}{question}\nAnswer:",
            f"{before}\n{question}\n{after}",
        )
    )
    return _example(text, question)


def _example(text: str, question: str) -> Example:
    found = asking.sentences(text)
    said = [text[each.begin : each.end] for each in found]
    return Example(text, found, [sentence in question or question in sentence for sentence in said], 1.0)


def fitted(learnt: Sequence[Example]) -> npt.NDArray[np.int16]:
    """The weights, as `asking.Weights` has them, those of the flags after those of the cells."""
    from scipy import sparse
    from scipy.optimize import minimize

    hit: list[int] = []
    values: list[float] = []
    ends = [0]
    flagged = []
    for each in learnt:
        for place, (begin, end, *_) in enumerate(each.found):
            found = asking.cells(each.text[begin:end])
            hit += found
            values += [(len(found) // 3) ** -0.5] * len(found)
            ends.append(len(hit))
            flagged.append(asking.flags(each.text, each.found, place))
    size = 1 << asking.TABLE_BITS
    hashed = sparse.csr_matrix((values, hit, ends), shape=(len(flagged), size))
    hashed.sum_duplicates()
    transposed, flags = hashed.T.tocsr(), np.array(flagged, np.float64)
    sign = np.array([1.0 if so else -1.0 for each in learnt for so in each.asks])
    weights = np.array([each.weight for each in learnt for _ in each.asks])
    penalty = np.concatenate([np.full(size, 1 / _INVERSE_REGULARISATION), np.full(flags.shape[1], _FLAG_PENALTY)])

    def loss(at: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        margins = sign * (hashed @ at[:size] + flags @ at[size:])
        slope = -weights * sign / (1 + np.exp(np.clip(margins, -500, 500)))
        gradient = np.concatenate([transposed @ slope, flags.T @ slope]) + penalty * at
        return float(weights @ np.logaddexp(0, -margins)) + float(penalty * at @ at) / 2, gradient

    best: Any = minimize(loss, np.zeros(len(penalty)), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    whole: npt.NDArray[np.int16] = np.clip(np.rint(best * asking.UNIT), -32768, 32767).astype("<i2")
    return whole


def main() -> None:
    learnt = examples(corpus.own_rows())
    asking.FILE.write_bytes(fitted(learnt).tobytes())
    sys.stdout.write(f"{asking.FILE}: learnt from {len(learnt)} texts\n")


if __name__ == "__main__":
    main()
