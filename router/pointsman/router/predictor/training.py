"""Training: L2 logistic regression over the hashed features, by L-BFGS.

Stands beside serving and shares its features; the only module of the router that needs SciPy, and only when called.
Deterministic: the same rows give the same weights, byte for byte, on the same machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import features, native
from pointsman.router.predictor.asking import Focus
from pointsman.router.predictor.excerpt import Excerpt, excerpt, without_documents
from pointsman.router.predictor.question import parted

Floats = npt.NDArray[np.float64]

INVERSE_REGULARISATION = 0.3
_ITERATIONS = 40
_LEAST_TRUST = 0.4
_DOUBT = 1.0
"""Rows of each label that every cell is taken to have been hit by before the data speaks."""
_LEAST_DEVIATION = 0.05
"""Counts that hardly ever vary are not blown up further than this allows."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Features of N texts: `hashed` SciPy CSR float32 [N, TABLE_SIZE], `counts` float32 [N, COUNT_SIZE]."""

    hashed: Any
    counts: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model, before calibration. The arrays are as in `artefact.Weights`."""

    table: Floats
    counts: Floats
    bias: float

    def scores(self, matrix: Matrix) -> Floats:
        scores: Floats = matrix.hashed @ self.table + matrix.counts @ self.counts + self.bias
        return scores


def matrix_of(texts: Sequence[str]) -> Matrix:
    """The features of `texts`, exactly as serving sees them; what stands beside a question is left out."""
    from scipy import sparse

    scales = np.array([group.scale for group in features.GROUPS], dtype=np.float32)
    cells: list[npt.NDArray[np.int32]] = []
    values: list[npt.NDArray[np.float32]] = []
    ends = [0]
    counts = np.zeros((len(texts), features.COUNT_SIZE), dtype=np.float32)
    kernel = native.kernel_of(
        np.zeros(features.TABLE_SIZE, np.float32), [0.0] * features.COUNT_SIZE, 0.0
    )  # cuts the same excerpts, in a hundredth of the time
    for row, (text, _, _) in enumerate(map(parted, texts)):
        read = excerpt(text) if kernel is None else _excerpt(kernel, text)
        found = features.extract((read,))
        for place, value in found.counts[0].items():
            counts[row, place] = value
        cells.append(found.cells.astype(np.int32))
        values.append(np.repeat(scales / np.sqrt(found.sizes, dtype=np.float32), found.sizes))
        ends.append(ends[-1] + len(found.cells))
    hashed = sparse.csr_matrix(
        (np.concatenate(values), np.concatenate(cells), np.array(ends)),
        shape=(len(texts), features.TABLE_SIZE),
    )
    hashed.sum_duplicates()
    return Matrix(hashed, counts)


def _excerpt(kernel: native.Kernel, text: str) -> Excerpt:
    read, opening, closing, document, focus = kernel.excerpt_of_rest(*without_documents(text))
    return Excerpt(read, opening, closing, document, Focus(*focus))


def fit(matrix: Matrix, think: npt.NDArray[np.bool_], weights: Floats, doubts: Floats) -> Fit:
    """The weights that explain `think` best; rows count by `weights`, their labels are in doubt by `doubts`."""
    from scipy import sparse
    from scipy.optimize import minimize

    mean = matrix.counts.mean(axis=0, dtype=np.float64)
    deviation = np.maximum(matrix.counts.std(axis=0, dtype=np.float64), _LEAST_DEVIATION)
    factor = features.COUNT_SCALE / deviation
    standard = ((matrix.counts - mean) * factor).astype(np.float32)
    # Cells that no row hits keep a weight of 0, and need not be carried through every iteration.
    used = np.flatnonzero(np.bincount(matrix.hashed.indices, minlength=matrix.hashed.shape[1]))
    place_of = np.zeros(matrix.hashed.shape[1], dtype=np.int32)
    place_of[used] = np.arange(len(used))
    places = place_of[matrix.hashed.indices]
    shape = (matrix.hashed.shape[0], len(used))
    trust = _trust(
        sparse.csr_matrix((np.ones_like(places, np.float32), places, matrix.hashed.indptr), shape=shape),
        think,
        weights,
    )
    hashed = sparse.csr_matrix((matrix.hashed.data * trust[places], places, matrix.hashed.indptr), shape=shape)
    transposed = hashed.T.tocsr()
    cells, size = len(used), len(used) + standard.shape[1] + 1
    sign = np.where(think, 1.0, -1.0)

    def loss(at: Floats) -> tuple[float, Floats]:
        narrow = at.astype(np.float32)
        scores = hashed @ narrow[:cells] + standard @ narrow[cells:-1] + narrow[-1]
        value, slope = _logistic(sign * scores, weights, doubts)
        slope *= sign
        gradient = np.empty(size)
        gradient[:cells] = transposed @ slope.astype(np.float32)
        gradient[cells:-1] = slope.astype(np.float32) @ standard
        gradient[-1] = slope.sum()
        gradient[:-1] += at[:-1] / INVERSE_REGULARISATION
        return value + float(at[:-1] @ at[:-1]) / (2 * INVERSE_REGULARISATION), gradient

    options = {"maxiter": _ITERATIONS, "maxcor": 8, "ftol": 1e-7, "gtol": 1e-4}
    best: Floats = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", options=options).x
    count_weights = best[cells:-1] * factor
    table = np.zeros(matrix.hashed.shape[1])
    table[used] = best[:cells] * trust
    return Fit(table, count_weights, float(best[-1] - count_weights @ mean))


def _trust(hits: Any, think: npt.NDArray[np.bool_], weights: Floats) -> npt.NDArray[np.float32]:
    """
    How freely each cell may speak: the more, the more unevenly the labels hit it.

    `hits`: 1 where a row hits a cell, CSR [N, cells]. A cell that rows of both labels hit alike says nothing by
    itself; left as free as the others, it learns what a few rows by chance have in common.
    """
    ratios = [(hits.T @ mass + _DOUBT) / mass.sum() for mass in (weights * think, weights * ~think)]
    trust: npt.NDArray[np.float32] = (_LEAST_TRUST + np.abs(np.log(ratios[0] / ratios[1]))).astype(np.float32)
    return trust


def calibrate(scores: Floats, think: npt.NDArray[np.bool_], weights: Floats) -> tuple[float, float]:
    """Platt scaling: (slope, offset) such that P(think) = 1 / (1 + exp(-(slope * score + offset)))."""
    from scipy.optimize import minimize

    sign = np.where(think, 1.0, -1.0)

    def loss(at: Floats) -> tuple[float, Floats]:
        value, slope = _logistic(sign * (at[0] * scores + at[1]), weights)
        slope *= sign
        return value, np.array([slope @ scores, slope.sum()])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return float(slope), float(offset)


def calibrate_beside(asked: Floats, beside: Floats, think: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """(slope, offset) such that slope * beside + offset, added to the log-odds `asked`, explains `think`."""
    from scipy.optimize import minimize

    sign = np.where(think, 1.0, -1.0)
    doubt = np.ones(len(sign))

    def loss(at: Floats) -> tuple[float, Floats]:
        value, steep = _logistic(sign * (asked + at[0] * beside + at[1]), doubt)
        steep *= sign
        return value, np.array([steep @ beside, steep.sum()])

    slope, offset = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    return float(slope), float(offset)


def _logistic(margins: Floats, weights: Floats, doubts: Floats | None = None) -> tuple[float, Floats]:
    """
    The weighted logistic loss of `margins`, and its derivative by each margin.

    A row in doubt loses (1 - p^doubt) / doubt in place of -log p, where p is what its label is given: the more
    speaks against the label, the less it pulls.
    """
    margins = margins.astype(np.float64)
    losses = np.logaddexp(0, -margins)
    slope = -weights / (1 + np.exp(np.clip(margins, -500, 500)))
    if doubts is not None:
        slope *= np.exp(-doubts * losses)
        losses = np.where(doubts > 0, -np.expm1(-doubts * losses) / np.where(doubts > 0, doubts, 1), losses)
    return float(weights @ losses), slope
