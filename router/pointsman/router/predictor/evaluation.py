"""How good the predictor is on questions of an origin it has never seen.

Stands beside training. Each family of sources is left out in turn, a model trained on all the others judges it,
and all those judgements together are measured. Pointsman's own rows take part in training, as they do in what
ships, and are left out of every figure but the one that is about them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import training
from pointsman.router.predictor.artefact import Weights
from pointsman.router.predictor.corpus import CORE, OWN_FAMILY, Corpus
from pointsman.router.predictor.training import Floats, Matrix

BINS = 15
Progress = Callable[[str], None]
Labels = npt.NDArray[np.bool_]


def auroc(think: Labels, scores: Floats, weights: Floats) -> float:
    """The chance that a thinking row scores above a no_think row, rows drawn by `weights`; ties count half."""
    _, place = np.unique(scores, return_inverse=True)
    positive, negative = np.bincount(place, weights * think), np.bincount(place, weights * ~think)
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / (positive.sum() * negative.sum()))


def expected_calibration_error(think: Labels, probabilities: Floats, weights: Floats) -> float:
    """Mean gap between what was said and what came true, over `BINS` bins of equal mass."""
    order = np.argsort(probabilities, kind="stable")
    mass = weights[order] / weights.sum()
    place = np.minimum(((np.cumsum(mass) - mass / 2) * BINS).astype(np.intp), BINS - 1)
    return float(np.abs(np.bincount(place, mass * (think[order] - probabilities[order]))).sum())


METHOD = (
    "Leave-source-out: each family of sources is judged by a model trained without it and without two others, so "
    "that a dozen fits do for all of them. A row counts by the weight that its label has in the data set, arguable "
    "labels less than clear ones, divided by the rows of its "
    "family, so that no family drowns another; core holds the clear labels alone, every_row_alike gives every row "
    "the same weight. The project's own rows are trained on and never counted in these figures: own_rows holds "
    "what a model trained without any of them says of them, own_rows_by_author, own_kinds and own_languages what "
    "models say that saw no row of the same author. "
    "Probabilities are calibrated on the judgements of the left-out families and authors."
)
_TOGETHER = 3
"""Families that are left out in one go."""
_LANGUAGES = ("en", "zh", "ja")
_OWN_SHARE = 0.5
"""How much of the calibration the own rows make up: they are what requests look like."""


def train(corpus: Corpus, *, created: str, progress: Progress) -> Weights:
    """
    The weights for `corpus`, with the report of their leave-source-out measurement inside.

    `created`: ISO date; `progress` is told in plain sentences what happens.
    """
    matrix, think, counts = _prepare(corpus, progress)
    report, slope, offset = _measure(corpus, matrix, think, counts, progress)
    progress("fitting the final model on all rows")
    final = training.fit(matrix, think, counts)
    return Weights(
        table=final.table.astype(np.float16),
        counts=final.counts.astype(np.float32),
        bias=final.bias,
        slope=slope,
        offset=offset,
        created=created,
        data_sha256=corpus.sha256,
        report=report,
    )


def evaluate(corpus: Corpus, *, progress: Progress) -> dict[str, Any]:
    """The leave-source-out report of `corpus`, computed anew; minutes on one core."""
    return _measure(corpus, *_prepare(corpus, progress), progress)[0]


def _prepare(corpus: Corpus, progress: Progress) -> tuple[Matrix, Labels, Floats]:
    progress(f"reading the features of {len(corpus.rows)} rows")
    matrix = training.matrix_of([row.text for row in corpus.rows])
    return matrix, np.array([row.think for row in corpus.rows]), np.array(corpus.family_weights())


def _measure(
    corpus: Corpus, matrix: Matrix, think: Labels, counts: Floats, progress: Progress
) -> tuple[dict[str, Any], float, float]:
    family = np.array([row.family for row in corpus.rows])
    counted = family != OWN_FAMILY
    scores = np.empty(len(family))

    def judge(out: Labels) -> Floats:
        fitted = training.fit(Matrix(matrix.hashed[~out], matrix.counts[~out]), think[~out], counts[~out])
        return fitted.scores(Matrix(matrix.hashed[out], matrix.counts[out]))

    names = sorted(set(family.tolist()) - {OWN_FAMILY})
    rounds = -(-len(names) // _TOGETHER)
    for number in range(rounds):
        together = names[number::rounds]  # neighbours in the alphabet are of one kind, and not left out at once
        progress(f"leaving out {', '.join(together)} ({number + 1} of {rounds})")
        out = np.isin(family, together)
        scores[out] = judge(out)
    progress(f"leaving out {OWN_FAMILY}")
    scores[~counted] = judge(~counted)
    by_author = scores.copy()
    author = np.array([row.source if row.family == OWN_FAMILY else "" for row in corpus.rows])
    for name in sorted(set(author[~counted].tolist())):
        progress(f"leaving out the author of {OWN_FAMILY}/{name}")
        by_author[author == name] = judge(author == name)

    sureness = np.array([row.weight for row in corpus.rows])
    _, place, sizes = np.unique(family, return_inverse=True, return_counts=True)
    weights = sureness / sizes[place]
    mass = np.where(counted, weights, weights.mean())
    mass[~counted] *= _OWN_SHARE / (1 - _OWN_SHARE) * mass[counted].sum() / mass[~counted].sum()
    slope, offset = training.calibrate(by_author, think, mass / mass.mean())

    def figures(rows: Labels, weights: Floats, judged: Floats = scores) -> dict[str, Any]:
        labels, mass = think[rows], weights[rows]
        probabilities = 1 / (1 + np.exp(-(slope * judged[rows] + offset)))
        mixed = 0 < labels.mean() < 1
        return {
            "rows": int(rows.sum()),
            "think_share": _rounded(np.average(labels, weights=mass)),
            "auroc": _rounded(auroc(labels, judged[rows], mass)) if mixed else None,
            "accuracy": _rounded(np.average((probabilities >= 0.5) == labels, weights=mass)),
            "mean_probability": _rounded(np.average(probabilities, weights=mass)),
            "ece": _rounded(expected_calibration_error(labels, probabilities, mass)),
        }

    kind, lang = np.array([row.kind for row in corpus.rows]), np.array([row.lang for row in corpus.rows])
    core = counted & (np.array([row.tier for row in corpus.rows]) == CORE)
    alike = np.ones(len(think))
    report = {
        "method": METHOD,
        **figures(counted, weights),
        "ece_bins": BINS,
        "core": figures(core, weights) if core.any() else None,
        "every_row_alike": figures(counted, alike),
        "own_rows": figures(~counted, alike),
        "own_rows_by_author": figures(~counted, alike, by_author),
        "own_kinds": {
            name: figures(~counted & (kind == name), alike, by_author)
            for name in sorted(set(kind[~counted].tolist()))
        },
        "own_languages": {
            name: figures(~counted & (lang == name), alike, by_author)
            for name in _LANGUAGES
            if (lang == name).any()
        },
        "families": {name: figures(family == name, sureness) for name in names if name != OWN_FAMILY},
    }
    return report, slope, offset


def _rounded(value: float) -> float:
    return round(float(value), 4)
