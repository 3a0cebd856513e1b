"""How good the predictor is on questions of an origin it has never seen.

Stands beside training. Each family of sources is left out in turn, a model trained on all the others judges it,
and all those judgements together are measured. Pointsman's own rows take part in training, as they do in what
ships, and are left out of every figure but the one that is about them.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import training
from pointsman.router.predictor.artefact import Weights
from pointsman.router.predictor.corpus import CORE, OWN_FAMILY, Corpus
from pointsman.router.predictor.tempering import tempered
from pointsman.router.predictor.training import Floats, Matrix

BINS = 15
PRECISION = 0.95
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


def no_think_share(think: Labels, probabilities: Floats, weights: Floats, precision: float = PRECISION) -> float:
    """
    The largest share of rows that need no thinking that one threshold sends there with `precision`.

    Precision is reckoned as if half of all rows needed to think, so that it does not depend on how many do.
    """
    order = np.argsort(probabilities, kind="stable")
    last_of_equals = np.append(np.diff(probabilities[order]) > 0, True)
    right = np.cumsum(np.where(think, 0.0, weights)[order]) / weights[~think].sum()
    wrong = np.cumsum(np.where(think, weights, 0.0)[order]) / weights[think].sum()
    good = last_of_equals & (right >= precision * (right + wrong))
    return float(right[good].max(initial=0.0))


METHOD = (
    "Leave-source-out: each family of sources is judged by a model trained on all the others. A row counts by the "
    "weight that its label has in the data set, arguable labels less than clear ones, divided by the rows of its "
    "family, so that no family drowns another; core holds the clear labels alone, every_row_alike gives every row "
    "the same weight. The project's own rows are trained on and never counted in these figures: own_rows holds "
    "what a model trained without any of them says of them, own_rows_by_author, own_kinds and own_languages what "
    "models say that saw no row of the same author. "
    "Probabilities are calibrated on the judgements of the left-out families and authors, and what an earlier turn "
    "or a task's material adds is learnt from the latter. no_think_share is the largest share of no_think rows "
    "that one threshold sends there with a precision of 0.95, were half of all rows to think."
)
_MOST_AT_ONCE = 4
"""Models that are fitted side by side, each of which takes about 2 GB."""
_LANGUAGES = ("en", "zh", "ja")
_OTHERS = "other"
_OWN_SHARE = 0.5
"""How much of the calibration the own rows make up: they are what requests look like."""


def train(corpus: Corpus, *, created: str, progress: Progress) -> Weights:
    """
    The weights for `corpus`, with the report of their leave-source-out measurement inside.

    `created`: ISO date; `progress` is told in plain sentences what happens.
    """
    matrix, think, counts = _prepare(corpus, progress)
    report, calibration = _measure(corpus, matrix, think, counts, progress)
    progress("fitting the final model on all rows")
    final = training.fit(matrix, think, counts, np.array(corpus.doubts()))
    return Weights(
        entries=final.table.entries,
        largest=final.table.largest,
        counts=final.counts.astype(np.float32),
        bias=final.bias,
        **calibration._asdict(),
        created=created,
        data_sha256=corpus.sha256,
        report=report,
    )


def evaluate(corpus: Corpus, *, progress: Progress) -> dict[str, Any]:
    """The leave-source-out report of `corpus`, computed anew; minutes on one core."""
    return _measure(corpus, *_prepare(corpus, progress), progress)[0]


def _prepare(corpus: Corpus, progress: Progress) -> tuple[Matrix, Labels, Floats]:
    progress(f"reading the features of {len(corpus.rows)} rows")
    matrix = training.matrix_of([row.text for row in corpus.rows]).without_rare()
    return matrix, np.array([row.think for row in corpus.rows]), np.array(corpus.family_weights())


class _Calibration(NamedTuple):
    """From scores to probabilities; see `artefact.Weights`."""

    slope: float
    offset: float
    bend: float
    earlier: tuple[float, float]
    material: tuple[float, float]


def _measure(
    corpus: Corpus, matrix: Matrix, think: Labels, counts: Floats, progress: Progress
) -> tuple[dict[str, Any], _Calibration]:
    family = np.array([row.family for row in corpus.rows])
    counted = family != OWN_FAMILY
    doubts = np.array(corpus.doubts())
    has_beside = np.array([bool(row.beside) and not row.copy for row in corpus.rows])

    def judge(out: Labels) -> tuple[Floats, Floats]:
        """What a model that has not seen the rows `out` says of them, and of what stands beside some of them."""
        fitted = training.fit(matrix.of(~out), think[~out], counts[~out], doubts[~out])
        texts = [corpus.rows[place].beside for place in np.flatnonzero(out & has_beside)]
        beside = fitted.scores(training.matrix_of(texts)) if texts else np.zeros(0)
        return fitted.scores(matrix.of(out)), beside

    names = sorted(set(family.tolist()) - {OWN_FAMILY})
    author = np.array([row.source if row.family == OWN_FAMILY else "" for row in corpus.rows])
    authors = sorted(set(author[~counted].tolist()))
    outs = {OWN_FAMILY: ~counted, **{name: family == name for name in names}}
    outs |= {f"the author of {OWN_FAMILY}/{name}": author == name for name in authors}
    scores, by_author, beside = np.zeros(len(family)), np.zeros(len(family)), np.zeros(len(family))
    for name, (judged, judged_beside) in _side_by_side(judge, outs, progress):
        out = outs[name]
        if name in names or name == OWN_FAMILY:
            scores[out] = judged
        else:
            by_author[out], beside[out & has_beside] = judged, judged_beside
    by_author[counted] = scores[counted]

    # Copies were there to learn from; what is measured are the rows themselves.
    rows = [row for row in corpus.rows if not row.copy]
    original = np.array([not row.copy for row in corpus.rows])
    scores, by_author, think = scores[original], by_author[original], think[original]
    beside, has_beside = beside[original], has_beside[original]
    family, counted = family[original], counted[original]
    sureness = np.array([row.weight for row in rows])
    _, place, sizes = np.unique(family, return_inverse=True, return_counts=True)
    weights = sureness / sizes[place]
    mass = np.where(counted, weights, weights.mean())
    mass[~counted] *= _OWN_SHARE / (1 - _OWN_SHARE) * mass[counted].sum() / mass[~counted].sum()
    slope, offset, bend = training.calibrate(by_author, think, mass / mass.mean())
    odds, by_author, beside = (tempered(slope * each + offset, bend) for each in (scores, by_author, beside))
    material = np.array([row.material for row in rows])
    added = []
    for theirs in (has_beside & ~material, has_beside & material):
        learnt = (0.0, 0.0)
        if len(set(think[theirs].tolist())) == 2:
            learnt = training.calibrate_beside(by_author[theirs], beside[theirs], think[theirs])
            by_author[theirs] += learnt[0] * beside[theirs] + learnt[1]
        added.append(learnt)

    def figures(rows: Labels, weights: Floats, judged: Floats = odds) -> dict[str, Any]:
        labels, mass = think[rows], weights[rows]
        probabilities = 1 / (1 + np.exp(-judged[rows]))
        mixed = 0 < labels.mean() < 1
        return {
            "rows": int(rows.sum()),
            "think_share": _rounded(np.average(labels, weights=mass)),
            "auroc": _rounded(auroc(labels, judged[rows], mass)) if mixed else None,
            "accuracy": _rounded(np.average((probabilities >= 0.5) == labels, weights=mass)),
            "mean_probability": _rounded(np.average(probabilities, weights=mass)),
            "ece": _rounded(expected_calibration_error(labels, probabilities, mass)),
        }

    kind = np.array([row.kind for row in rows])
    lang = np.array([row.lang if row.lang in _LANGUAGES else _OTHERS for row in rows])
    core = counted & (np.array([row.tier for row in rows]) == CORE)
    alike = np.ones(len(think))
    report = {
        "method": METHOD,
        **figures(counted, weights),
        "ece_bins": BINS,
        "no_think_share": _rounded(no_think_share(think[counted], odds[counted], weights[counted])),
        "own_no_think_share": _rounded(no_think_share(think[~counted], by_author[~counted], alike[~counted])),
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
            for name in (*_LANGUAGES, _OTHERS)
            if (~counted & (lang == name)).any()
        },
        "families": {name: figures(family == name, sureness) for name in names if name != OWN_FAMILY},
    }
    return report, _Calibration(slope, offset, bend, *added)


_judge: Callable[[Labels], tuple[Floats, Floats]]
"""What a process that `_side_by_side` has started does."""


def _side_by_side(
    judge: Callable[[Labels], tuple[Floats, Floats]], outs: dict[str, Labels], progress: Progress
) -> Iterator[tuple[str, tuple[Floats, Floats]]]:
    """What `judge` says of each of `outs`, in their order, from as many processes as there are cores for."""
    processes = min(len(outs), len(os.sched_getaffinity(0)), _MOST_AT_ONCE)
    with multiprocessing.get_context("fork").Pool(processes, _take, (judge,)) as pool:
        for number, (name, found) in enumerate(zip(outs, pool.imap(_judged, outs.values()), strict=True), start=1):
            progress(f"left out {name} ({number} of {len(outs)})")
            yield name, found


def _take(judge: Callable[[Labels], tuple[Floats, Floats]]) -> None:
    global _judge
    _judge = judge


def _judged(out: Labels) -> tuple[Floats, Floats]:
    return _judge(out)


def _rounded(value: float) -> float:
    return round(float(value), 4)
