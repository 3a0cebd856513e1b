"""Training: L2 logistic regression over the hashed features, by L-BFGS.

Stands beside serving and shares its features; the only module of the router that needs SciPy, and only when called.
Deterministic: the same rows give the same weights, byte for byte, on the same machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import features, native
from pointsman.router.predictor.asking import Focus
from pointsman.router.predictor.excerpt import Excerpt, excerpt, without_documents
from pointsman.router.predictor.question import parted
from pointsman.router.predictor.table import EMPTY, WAYS, Table, packed
from pointsman.router.predictor.tempering import BENDS, steepness, tempered

Floats = npt.NDArray[np.float64]

INVERSE_REGULARISATION = 0.5
_ITERATIONS = 40
_LEAST_TRUST = 0.4
LEAST_ROWS = 12
"""Rows, wrapped copies among them, that hit a cell at least; what is rarer is not learnt."""
_WAYS = WAYS - 1
"""Entries of a bucket that are used: the last one is left to what tenants' predictors learn."""
_DOUBT = 1.0
"""Rows of each label that every cell is taken to have been hit by before the data speaks."""
_LEAST_DEVIATION = 0.05
"""Counts that hardly ever vary are not blown up further than this allows."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """
    Features of N texts.

    `hashed`: SciPy CSR float32 [N, C]; `cells`: int64 [C], in ascending order, which cell each column is; `counts`:
    float32 [N, COUNT_SIZE].
    """

    hashed: Any
    cells: npt.NDArray[np.int64]
    counts: npt.NDArray[np.float32]

    def of(self, rows: npt.NDArray[np.bool_]) -> Matrix:
        """The features of those texts that `rows` marks."""
        return Matrix(self.hashed[rows], self.cells, self.counts[rows])

    def without_rare(self) -> Matrix:
        """The same texts, without the cells that fewer than `LEAST_ROWS` of them hit."""
        often = np.bincount(self.hashed.indices, minlength=len(self.cells)) >= LEAST_ROWS
        return self.only(often)

    def only(self, kept: npt.NDArray[np.bool_]) -> Matrix:
        """The same texts, without the cells that are not `kept`."""
        return Matrix(_columns(self.hashed, kept), self.cells[kept], self.counts)


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model, before calibration: all as in `artefact.Weights`."""

    table: Table
    counts: Floats
    bias: float

    def scores(self, matrix: Matrix) -> Floats:
        weights = self.table.weights_of(matrix.cells)
        scores: Floats = matrix.hashed @ weights + matrix.counts @ self.counts + self.bias
        return scores


def matrix_of(texts: Sequence[str]) -> Matrix:
    """The features of `texts`, exactly as serving sees them; what stands beside a question is left out."""
    from scipy import sparse

    scales = np.array([group.scale for group in features.GROUPS], dtype=np.float32)
    cells: list[npt.NDArray[np.int32]] = []
    values: list[npt.NDArray[np.float32]] = []
    ends = [0]
    counts = np.zeros((len(texts), features.COUNT_SIZE), dtype=np.float32)
    # cuts the same excerpts, in a hundredth of the time
    kernel = native.kernel_of(EMPTY, 1.0, [0.0] * features.COUNT_SIZE, 0.0, 1.0)
    for row, (text, _, _) in enumerate(map(parted, texts)):
        read = excerpt(text) if kernel is None else _excerpt(kernel, text)
        found = features.extract((read,))
        for place, value in found.counts[0].items():
            counts[row, place] = value
        cells.append(found.cells.astype(np.int32))
        values.append(np.repeat(scales / np.sqrt(found.sizes, dtype=np.float32), found.sizes))
        ends.append(ends[-1] + len(found.cells))
    columns, places = np.unique(np.concatenate(cells), return_inverse=True)
    hashed = sparse.csr_matrix(
        (np.concatenate(values), places.astype(np.int32), np.array(ends)), shape=(len(texts), len(columns))
    )
    hashed.sum_duplicates()
    return Matrix(hashed, columns.astype(np.int64), counts)


def _columns(hashed: Any, kept: npt.NDArray[np.bool_]) -> Any:
    """`hashed` without the columns that are not `kept`."""
    from scipy import sparse

    place = np.cumsum(kept, dtype=np.int32) - 1
    found = kept[hashed.indices]
    ends = np.concatenate([[0], np.cumsum(found)])[hashed.indptr]
    return sparse.csr_matrix(
        (hashed.data[found], place[hashed.indices[found]], ends), shape=(hashed.shape[0], int(kept.sum()))
    )


def _excerpt(kernel: native.Kernel, text: str) -> Excerpt:
    read, opening, closing, document, focus, around = kernel.excerpt_of_rest(*without_documents(text))
    return Excerpt(read, opening, closing, document, Focus(*focus), around)


def fit(matrix: Matrix, think: npt.NDArray[np.bool_], weights: Floats, doubts: Floats) -> Fit:
    """The weights that explain `think` best; rows count by `weights`, their labels are in doubt by `doubts`."""
    from scipy import sparse
    from scipy.optimize import minimize

    matrix = matrix.without_rare()
    mean = matrix.counts.mean(axis=0, dtype=np.float64)
    deviation = np.maximum(matrix.counts.std(axis=0, dtype=np.float64), _LEAST_DEVIATION)
    factor = features.COUNT_SCALE / deviation
    standard = ((matrix.counts - mean) * factor).astype(np.float32)
    places, ends, shape = matrix.hashed.indices, matrix.hashed.indptr, matrix.hashed.shape
    hits = sparse.csr_matrix((np.ones_like(places, np.float32), places, ends), shape=shape)
    trust = _trust(hits, think, weights)
    hashed = sparse.csr_matrix((matrix.hashed.data * trust[places], places, ends), shape=shape)
    transposed = hashed.T.tocsr()
    cells, size = shape[1], shape[1] + standard.shape[1] + 1
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
    table = best[:cells] * trust
    often = np.bincount(places, minlength=cells)
    return Fit(
        packed(matrix.cells, table, np.abs(table) * np.sqrt(often), ways=_WAYS),
        count_weights,
        float(best[-1] - count_weights @ mean),
    )


def _trust(hits: Any, think: npt.NDArray[np.bool_], weights: Floats) -> npt.NDArray[np.float32]:
    """
    How freely each cell may speak: the more, the more unevenly the labels hit it.

    `hits`: 1 where a row hits a cell, CSR [N, cells]. A cell that rows of both labels hit alike says nothing by
    itself; left as free as the others, it learns what a few rows by chance have in common.
    """
    ratios = [(hits.T @ mass + _DOUBT) / mass.sum() for mass in (weights * think, weights * ~think)]
    trust: npt.NDArray[np.float32] = (_LEAST_TRUST + np.abs(np.log(ratios[0] / ratios[1]))).astype(np.float32)
    return trust


def calibrate(scores: Floats, think: npt.NDArray[np.bool_], weights: Floats) -> tuple[float, float, float]:
    """
    Platt scaling with a bend: (slope, offset, bend) such that P(think) = 1 / (1 + exp(-odds)), where odds =
    tempered(slope * score + offset, bend). `bend` lies in `BENDS`.
    """
    from scipy.optimize import minimize

    sign = np.where(think, 1.0, -1.0)

    def loss(at: Floats) -> tuple[float, Floats]:
        sums, bend = at[0] * scores + at[1], math.exp(at[2])
        odds, steep = tempered(sums, bend), steepness(sums, bend)
        value, slope = _logistic(sign * odds, weights)
        slope *= sign
        by_sum = slope * steep
        return value, np.array([by_sum @ scores, by_sum.sum(), slope @ (odds - sums * steep)])

    bounds = [(None, None), (None, None), tuple(map(math.log, BENDS))]
    slope, offset, bend = minimize(loss, np.array([1.0, 0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(slope), float(offset), min(max(math.exp(bend), BENDS[0]), BENDS[1])


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
