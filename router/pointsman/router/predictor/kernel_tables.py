"""What the compiled kernel needs to know of the features: their tables and numbers, as `kernel.c` reads them.

Stands between the features and `native.py`, which hands them over.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import alphabet, asking, features, phrases, standing_task
from pointsman.router.predictor.alphabet import BEGINNING, TokenKind
from pointsman.router.predictor.layout import MAX_RUN, SKIPPING, Hashes
from pointsman.router.predictor.table import CELL_BITS, MARK_BITS

_U32 = np.uint32


class KernelArrays(NamedTuple):
    """Tables of the features as `kernel.c` reads them, in its order."""

    blocks: npt.NDArray[np.uint16]
    """Which block of `characters` each stretch of 2^`block_bits` code points has; equal blocks are one."""
    characters: Hashes
    """Of each: what makes its code the folded one (16 bits), `TokenKind` (8 bits), whether it is white space."""
    filter: npt.NDArray[np.uint8]
    """A bit for each two of the `buckets` that says whether one of them holds a phrase."""
    buckets: npt.NDArray[np.uint16]
    phrases: Hashes
    headings: npt.NDArray[np.uint8]
    asking: npt.NDArray[np.int16]
    """`asking.Weights`: those of the cells, and those of the flags after them."""
    tasks: npt.NDArray[np.int16]
    """`standing_task.WEIGHTS`."""


class KernelNumbers(NamedTuple):
    """What features are, in numbers: `kernel.h` repeats them in this order, and refuses others. 32 bits each."""

    limit: int
    block_bits: int
    pad: int
    space: int
    single: int
    base: int
    letter_salt: int
    max_run: int
    beginning: int
    cell_bits: int
    mark_bits: int
    bucket_bits: int
    filter_bits: int
    most_hits: int
    skipping: int
    farther: int


class KernelTables(NamedTuple):
    """All that `kernel.c` needs of the features; `seeds`: one a group; `multiplier`: what spreads the phrases."""

    arrays: KernelArrays
    numbers: KernelNumbers
    seeds: list[int]
    multiplier: int
    heading_count: int


_BLOCK_BITS = 6
_FILTER_BITS = 16


def tables() -> KernelTables:
    """What there is to hand over; made anew at each call, since it is needed once."""
    known = phrases.table()
    folded, kinds = alphabet.tables()
    codes = np.arange(len(folded), dtype=_U32)
    spaces = np.array([chr(code).isspace() for code in range(len(folded))], dtype=_U32)
    characters = ((folded - codes) & _U32(0xFFFF)) | kinds.astype(_U32) << _U32(16) | spaces << _U32(24)
    distinct, blocks = np.unique(characters.reshape(-1, 1 << _BLOCK_BITS), axis=0, return_inverse=True)
    occupied = known.buckets.reshape(-1, 1 << (phrases.BUCKET_BITS - _FILTER_BITS)).any(axis=1)
    numbers = KernelNumbers(
        limit=alphabet.LIMIT,
        block_bits=_BLOCK_BITS,
        pad=ord(alphabet.PAD),
        space=TokenKind.SPACE,
        single=TokenKind.SINGLE,
        base=alphabet.BASE,
        letter_salt=alphabet.LETTER_SALT,
        max_run=MAX_RUN,
        beginning=BEGINNING,
        cell_bits=CELL_BITS,
        mark_bits=MARK_BITS,
        bucket_bits=phrases.BUCKET_BITS,
        filter_bits=_FILTER_BITS,
        most_hits=features.MOST_HITS,
        skipping=int(SKIPPING),
        farther=int(features.FARTHER),
    )
    arrays = KernelArrays(
        blocks=blocks.ravel().astype(np.uint16),
        characters=distinct.ravel(),
        filter=np.packbits(occupied, bitorder="little"),
        buckets=known.buckets,
        phrases=known.hashes,
        headings=known.headings,
        asking=np.concatenate([asking.WEIGHTS.table, np.array(asking.WEIGHTS.flags, np.int16)]),
        tasks=standing_task.WEIGHTS,
    )
    return KernelTables(arrays, numbers, features.SEEDS.tolist(), int(known.multiplier), features.HEADINGS)
