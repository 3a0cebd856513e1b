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

from pointsman.router.predictor import features, training
from pointsman.router.predictor.artefact import Weights
from pointsman.router.predictor.corpus import OWN_FAMILY, Corpus
from pointsman.router.predictor.training import Floats, Matrix

BINS = 15
Progress = Callable[[str], None]


def auroc(think: npt.NDArray[np.bool_], scores: Floats) -> float:
    """The chance that a thinking row scores above a no_think row; ties count half. Needs rows of both labels."""
    _, place = np.unique(scores, return_inverse=True)
    positive, negative = np.bincount(place, think), np.bincount(place, ~think)
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / (positive.sum() * negative.sum()))


def expected_calibration_error(think: npt.NDArray[np.bool_], probabilities: Floats) -> float:
    """Mean gap between what was said and what came true, over `BINS` bins of equal mass."""
    bins = np.array_split(np.argsort(probabilities, kind="stable"), BINS)
    gaps = [len(rows) * abs(think[rows].mean() - probabilities[rows].mean()) for rows in bins if len(rows)]
    return float(sum(gaps) / len(think))


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
        dense_weights=final.dense_weights.astype(np.float32),
        dense_mean=final.dense_mean,
        dense_deviation=final.dense_deviation,
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


def _prepare(corpus: Corpus, progress: Progress) -> tuple[Matrix, npt.NDArray[np.bool_], Floats]:
    progress(f"reading the features of {len(corpus.rows)} rows")
    matrix = training.matrix_of([row.text for row in corpus.rows])
    return matrix, np.array([row.think for row in corpus.rows]), np.array(corpus.family_weights())


def _measure(
    corpus: Corpus, matrix: Matrix, think: npt.NDArray[np.bool_], counts: Floats, progress: Progress
) -> tuple[dict[str, Any], float, float]:
    family = np.array([row.family for row in corpus.rows])
    scores = np.empty(len(family))
    names = sorted(set(family.tolist()))
    for number, name in enumerate(names, start=1):
        progress(f"leaving out {name} ({number} of {len(names)})")
        out = family == name
        fitted = training.fit(Matrix(matrix.hashed[~out], matrix.dense[~out]), think[~out], counts[~out])
        scores[out] = fitted.scores(Matrix(matrix.hashed[out], matrix.dense[out]))

    counted = family != OWN_FAMILY
    slope, offset = training.calibrate(scores[counted], think[counted], np.ones(int(counted.sum())))
    probabilities = 1 / (1 + np.exp(-(slope * scores + offset)))

    def figures(rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
        labels = think[rows]
        mixed = 0 < labels.mean() < 1
        return {
            "rows": int(rows.sum()),
            "think_share": _rounded(labels.mean()),
            "auroc": _rounded(auroc(labels, scores[rows])) if mixed else None,
            "accuracy": _rounded(((probabilities[rows] >= 0.5) == labels).mean()),
            "mean_probability": _rounded(probabilities[rows].mean()),
        }

    report = {
        "method": (
            "leave-source-out: each family of sources is judged by a model trained on all other families; the "
            "project's own rows are trained on and not counted, their figures stand in own_rows alone"
        ),
        **figures(counted),
        "ece": _rounded(expected_calibration_error(think[counted], probabilities[counted])),
        "ece_bins": BINS,
        "features": features.VERSION,
        "families": {name: figures(family == name) for name in names if name != OWN_FAMILY},
        "own_rows": figures(~counted) if not counted.all() else None,
    }
    return report, slope, offset


def _rounded(value: float) -> float:
    return round(float(value), 4)
