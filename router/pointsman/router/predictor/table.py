"""The weights of hashed features: a table that knows which cells it holds, and says 0 of all others.

Stands between training, which packs it, and the predictor, which reads it; `kernel.c` reads the same bytes. A cell
is `CELL_BITS` bits of a feature's hash. Its high bits choose a bucket of `WAYS` entries, and an entry holds the
other bits as its mark, beside one of 255 steps for the weight. So a word that nobody trained on does not speak with
the weight of another word that shares its place, and an entry takes two bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

CELL_BITS = 26
MARK_BITS = 8
WAYS = 4
CELLS = 1 << CELL_BITS
ENTRIES = WAYS << (CELL_BITS - MARK_BITS)
_MARKS = (1 << MARK_BITS) - 1
_STEPS = 127
_NEGATIVE = 128

Cells = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]


class Table(NamedTuple):
    """
    Weights of cells.

    `entries`: uint16 [ENTRIES], `WAYS` neighbours a bucket: mark << 8 | step, 0 where nothing is; `largest`: the
    weight of the largest step.
    """

    entries: npt.NDArray[np.uint16]
    largest: float

    def steps(self) -> npt.NDArray[np.float32]:
        """
        The weight of each step, float32 [256]: 0, then 127 above it, 0 again, and 127 below.

        Steps grow with the square of their number, so that small weights are told apart as well as large ones.
        """
        above = (np.arange(_STEPS + 1) / _STEPS) ** 2 * self.largest
        return np.concatenate([above, -above]).astype(np.float32)

    def weights_of(self, cells: Cells) -> npt.NDArray[np.float32]:
        """What `cells` weigh: float32, 0 for those that the table does not hold."""
        return weights_of(self.entries, self.steps(), cells)

    def held(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The cells that it holds, in ascending order, and what they weigh."""
        places = np.flatnonzero(self.entries)
        cells = (places // WAYS << MARK_BITS) + (self.entries[places] >> 8)
        order = np.argsort(cells)
        return cells[order], self.steps()[self.entries[places] & 0xFF][order]

    def has_room_for(self, cells: Cells) -> npt.NDArray[np.bool_]:
        """Of each cell, whether it is held, or its bucket has an entry left."""
        buckets = self.entries.reshape(-1, WAYS)[cells >> MARK_BITS]
        known = (buckets >> 8 == (cells & _MARKS)[:, None]) & (buckets > 0)
        found: npt.NDArray[np.bool_] = known.any(axis=1) | (buckets == 0).any(axis=1)
        return found


EMPTY = Table(np.zeros(ENTRIES, np.uint16), 0.0)


def weights_of(
    entries: npt.NDArray[np.uint16], steps: npt.NDArray[np.float32], cells: Cells
) -> npt.NDArray[np.float32]:
    """What `cells` weigh, float32, by the `entries` of a table and what its `steps` weigh."""
    buckets = entries.reshape(-1, WAYS).take(cells >> MARK_BITS, axis=0, mode="clip")
    cells = cells & _MARKS
    found = (buckets >> 8) == cells[:, None]
    buckets &= 0xFF
    buckets *= found
    weights: npt.NDArray[np.float32] = steps.take(buckets.max(axis=1))
    return weights


def packed(cells: Cells, weights: Floats, strengths: Floats, *, ways: int = WAYS) -> Table:
    """
    The table of distinct `cells` with their `weights`; of more than `ways` in a bucket, the strongest stay.

    A weight that is nearer to 0 than to the least step is left out.
    """
    largest = float(np.abs(weights).max(initial=0.0))
    if largest == 0:
        return EMPTY
    steps = np.rint(np.sqrt(np.abs(weights) / largest) * _STEPS).astype(np.int64)
    kept = np.flatnonzero(steps)
    buckets = cells[kept].astype(np.int64) >> MARK_BITS
    order = np.lexsort((cells[kept], -strengths[kept], buckets))
    kept, buckets = kept[order], buckets[order]
    rank = np.arange(len(kept)) - np.searchsorted(buckets, buckets)
    kept, buckets, rank = kept[rank < ways], buckets[rank < ways], rank[rank < ways]
    entries = np.zeros(ENTRIES, np.uint16)
    codes = steps[kept] + np.where(weights[kept] < 0, _NEGATIVE, 0)
    entries[buckets * WAYS + rank] = (cells[kept].astype(np.int64) & _MARKS) << 8 | codes
    return Table(entries, largest)
