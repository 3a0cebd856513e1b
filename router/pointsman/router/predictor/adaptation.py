"""Adaptation: the base predictor, moved as far as a tenant's labelled queries carry it, and no further.

Stands beside training, whose features and matrix it takes. A logistic fit like that of the base, with two things
that hold it back: weights are drawn towards the base's instead of towards 0, and on the project's own rows it is to
say what the base says, whatever the labels there are. How strongly it may move is chosen by cross-validation within
the rows for training; the rows held out are judged at the very end, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import corpus, features, gate, training
from pointsman.router.predictor.artefact import Weights
from pointsman.router.predictor.model import Predictor
from pointsman.router.predictor.question import parted
from pointsman.router.predictor.table import Table, packed
from pointsman.router.predictor.tempering import steepness, tempered, untempered
from pointsman.router.predictor.tenant_rows import TenantRow, TenantRows
from pointsman.router.predictor.training import Floats

STRENGTHS = (0.03, 0.3, 3.0)
"""Inverse regularisations that are tried."""

ANCHOR = 1.0
"""Weight of all of the project's own rows together, beside that of all the tenant's."""

ANCHORS = 2000
"""Rows of the base set, about, that take part: evenly chosen where there are twice as many and more."""

FOLDS = 5
_ITERATIONS = 40
_LEAST_DEVIATION = 0.05
_STIFFNESS = 4.0
"""How many rows' worth of doubt there is about a new calibration."""

METHOD = (
    "Logistic regression with an L2 penalty on the distance to the base's weights; on the project's own rows the "
    "base's probabilities are the labels. Strength and calibration come from cross-validation within the training "
    "rows. Rows are held out by a hash of their text or pair."
)


def adapt(base: Weights, rows: TenantRows, *, name: str, created: str, progress: Callable[[str], None]) -> Weights:
    """
    The weights for a tenant, with the report and the gate's verdict inside. Minutes at most.

    `name`: whose they are; `created`: ISO date; `progress` is told in plain sentences what happens. Raises
    `ValueError` where `base` is a tenant's itself.
    """
    if base.base is not None:
        raise ValueError(f"{base.version} is a tenant's predictor itself: adapt the one that it came from")
    own = corpus.own_rows()
    anchors = own[:: max(1, len(own) // ANCHORS)]
    before = Predictor(base)
    learnt = rows.training
    progress(f"reading the features of {len(learnt)} rows of the tenant's and {len(anchors)} of the base set")
    fitting = _Fitting(before, base, learnt, anchors)
    fold = np.array([int(row.group[8:16], 16) % FOLDS for row in learnt])
    best: tuple[float, float, Floats] | None = None
    for strength in STRENGTHS:
        progress(f"cross-validation with strength {strength:g}")
        scores = fitting.out_of_fold(fold, strength)
        loss = fitting.loss(scores)
        if best is None or loss < best[0]:
            best = loss, strength, scores
    assert best is not None
    _, strength, scores = best
    progress("fitting on all training rows")
    moved = fitting.fit(np.ones(len(learnt), bool), strength)
    slope, offset = fitting.calibration(scores, moved)
    table = _together(base, fitting.cells, moved.weights)
    weights = replace(
        base,
        entries=table.entries,
        largest=table.largest,
        counts=(base.counts.astype(np.float64) * base.slope + moved.counts).astype(np.float32),
        bias=base.slope * base.bias + base.offset + moved.bias,
        slope=slope,
        offset=offset,
        name=name,
        base=base.version,
        created=created,
        data_sha256=hashlib.sha256(f"{base.data_sha256}{rows.sha256}".encode()).hexdigest(),
        report={},
    )
    progress("comparing with the base")
    judged = gate.judge(Predictor(weights), before, rows.held_out, own)
    report = {
        "method": METHOD,
        "base": base.version,
        "rows": len(rows.rows),
        "training_rows": len(learnt),
        "held_out_rows": len(rows.held_out),
        "think_share": round(sum(row.think for row in rows.rows) / len(rows.rows), 4),
        "strength": strength,
        "cross_validation_loss": round(best[0], 4),
        "base_loss": round(fitting.loss(fitting.before), 4),
        "gate": judged.as_json(),
    }
    return replace(weights, report=report)


def _together(base: Weights, cells: npt.NDArray[np.int64], moved: Floats) -> Table:
    """The base's weights as far as they moved; of `cells` that it does not hold those that it has room for."""
    held, weights = base.table.held()
    everything = np.union1d(held, cells)
    summed = np.zeros(len(everything))
    summed[np.searchsorted(everything, held)] = weights * np.float64(base.slope)
    summed[np.searchsorted(everything, cells)] += moved
    return packed(everything, summed, np.where(np.isin(everything, held), np.inf, np.abs(summed)))


class _Moved(NamedTuple):
    """How far the weights moved: those of `_Fitting.cells`, of the counts, and of nothing at all."""

    weights: Floats
    counts: Floats
    bias: float


class _Fitting:
    """
    The rows to learn from and the own rows, as matrices.

    `before`: the base's sums of the former, not yet tempered; `cells`: those whose weights may move, int64 [C],
    ascending.
    """

    def __init__(
        self, predictor: Predictor, base: Weights, rows: Sequence[TenantRow], own: Sequence[corpus.Row]
    ) -> None:
        texts, anchors = [row.text for row in rows], [row.text for row in own]
        self._count = len(rows)
        matrix = training.matrix_of(texts + anchors)
        probabilities = np.array(predictor.probabilities(texts + anchors))
        alone = _log_odds(np.array(predictor.probabilities([parted(text).asked for text in texts + anchors])))
        self._bend = base.bend
        self._sums = untempered(alone, base.bend)
        # What stands beside a question is added after tempering, and stays what the base says of it.
        self._light = _log_odds(probabilities) - alone
        self.before: Floats = self._sums[: self._count]
        self._think = np.array([row.think for row in rows])
        # On the own rows the base is to be repeated: its probabilities are the labels there.
        self._target = np.concatenate([self._think.astype(float), probabilities[self._count :]])
        self._row_weights = np.array([row.weight for row in rows]) / np.mean([row.weight for row in rows])
        self._anchor = ANCHOR * self._count / len(own)
        matrix = matrix.only(base.table.has_room_for(matrix.cells))
        self.cells = matrix.cells
        self._hashed: Any = matrix.hashed
        counts = matrix.counts.astype(np.float64)
        self._mean = counts.mean(axis=0)
        deviation = np.maximum(counts.std(axis=0), _LEAST_DEVIATION)
        self._factor = features.COUNT_SCALE / deviation
        self._standard = ((counts - self._mean) * self._factor).astype(np.float32)

    def fit(self, learnt: Any, strength: float) -> _Moved:
        """How far the weights move, by those of the tenant's rows that `learnt` marks and all own rows."""
        moved = self._moved(learnt, strength)
        cells = len(self.cells)
        counts = moved[cells:-1] * self._factor
        return _Moved(moved[:cells], counts, float(moved[-1] - counts @ self._mean))

    def out_of_fold(self, fold: Any, strength: float) -> Floats:
        """The sum of each of the tenant's rows, by a fit without its fold."""
        scores = np.empty(self._count)
        for number in range(FOLDS):
            out = fold == number
            if out.any():
                scores[out] = self._scores(self._moved(~out, strength))[: self._count][out]
        return scores

    def loss(self, scores: Floats) -> float:
        """Mean log loss of the tenant's rows in nats."""
        sign = np.where(self._think, 1.0, -1.0)
        odds = tempered(scores, self._bend) + self._light[: self._count]
        return float(np.average(np.logaddexp(0, -sign * odds), weights=self._row_weights))

    def calibration(self, scores: Floats, moved: _Moved) -> tuple[float, float]:
        """
        Slope and offset that fit what was said of rows unseen, held towards leaving all as it is.

        The own rows have their say too, so that a tenant who thinks much does not make everybody think.
        """
        from scipy.optimize import minimize

        own: Floats = (
            self._sums
            + self._hashed @ moved.weights
            + (self._standard / self._factor + self._mean) @ moved.counts
            + moved.bias
        )[self._count :]
        said = np.concatenate([scores, own])
        weights = self._weights(np.ones(self._count, bool))

        def loss(at: Floats) -> tuple[float, Floats]:
            value, slope = self._cross_entropy(at[0] * said + at[1], weights)
            doubt = np.array([at[0] - 1, at[1]]) * _STIFFNESS
            return value + float(doubt @ doubt) / (2 * _STIFFNESS), np.array([slope @ said, slope.sum()]) + doubt

        slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
        return float(slope), float(offset)

    def _weights(self, learnt: Any) -> Floats:
        own = np.full(len(self._target) - self._count, self._anchor)
        return np.concatenate([np.where(learnt, self._row_weights, 0.0), own])

    def _scores(self, moved: Floats) -> Floats:
        cells = len(self.cells)
        narrow = moved.astype(np.float32)
        scores: Floats = self._sums + self._hashed @ narrow[:cells] + self._standard @ narrow[cells:-1] + moved[-1]
        return scores

    def _moved(self, learnt: Any, strength: float) -> Floats:
        from scipy.optimize import minimize

        weights, cells = self._weights(learnt), len(self.cells)
        transposed = self._hashed.T.tocsr()

        def loss(at: Floats) -> tuple[float, Floats]:
            value, slope = self._cross_entropy(self._scores(at), weights)
            gradient = np.concatenate([transposed @ slope, slope @ self._standard, [slope.sum()]])
            gradient[:-1] += at[:-1] / strength
            return value + float(at[:-1] @ at[:-1]) / (2 * strength), gradient

        start = np.zeros(cells + self._standard.shape[1] + 1)
        options = {"maxiter": _ITERATIONS, "maxcor": 8, "ftol": 1e-7, "gtol": 1e-4}
        best: Floats = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
        return best

    def _cross_entropy(self, sums: Floats, weights: Floats) -> tuple[float, Floats]:
        """The weighted cross entropy between the labels and what `sums` say, and its derivative by each sum."""
        odds = tempered(sums, self._bend) + self._light
        value = float(weights @ (np.logaddexp(0, odds) - self._target * odds))
        probabilities = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        return value, weights * (probabilities - self._target) * steepness(sums, self._bend)


def _log_odds(probabilities: Floats) -> Floats:
    clipped = np.clip(probabilities, 1e-9, 1 - 1e-9)
    odds: Floats = np.log(clipped) - np.log1p(-clipped)
    return odds
