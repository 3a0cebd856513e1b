"""Where a text says a phrase of the lexicon: all of them in one hash table, looked up by hashes of runs of words.

Stands between the layout and the counts of `features`; `kernel_tables` hands the same table to the kernel.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import alphabet, lexicon
from pointsman.router.predictor.excerpt import Excerpt
from pointsman.router.predictor.layout import MAX_RUN, Hashes, lay_out

_U32 = np.uint32


class Table(NamedTuple):
    """
    The phrases of the lexicon by the hash of their words.

    `multiplier`: spreads hashes over the `buckets`, uint16 [2^BUCKET_BITS], each of which holds the place of one
    phrase, or 0; `hashes`, `headings`: of the phrase at each place, from 1 on.
    """

    multiplier: np.uint32
    buckets: npt.NDArray[np.uint16]
    hashes: Hashes
    headings: npt.NDArray[np.uint8]


BUCKET_BITS = 17
_SHIFT = _U32(32 - BUCKET_BITS)


@cache
def table() -> Table:
    """The lexicon as a hash table without collisions: the first multiplier of a fixed series that has none."""
    heading_of: dict[int, int] = {}
    for heading, said in enumerate(lexicon.LEXICON.values()):
        for phrase in said:
            layout = lay_out((Excerpt(phrase, len(phrase), len(phrase), False),))
            first, stop = layout.spans[0][:2]
            heading_of.setdefault(int(layout.runs[min(stop - first - 1, MAX_RUN) - 1][first + 1]), heading)
    hashes = np.array([0, *sorted(heading_of)], dtype=_U32)
    headings = np.array([0, *(heading_of[key] for key in hashes[1:].tolist())], dtype=np.uint8)
    for attempt in range(1, 1 << 16):
        multiplier = alphabet.spread(np.array([attempt], dtype=_U32))[0] | _U32(1)
        places = (hashes[1:] * multiplier) >> _SHIFT
        if len(np.unique(places)) == len(places):
            buckets = np.zeros(1 << BUCKET_BITS, dtype=np.uint16)
            buckets[places] = np.arange(1, len(hashes), dtype=np.uint16)
            return Table(multiplier, buckets, hashes, headings)
    raise AssertionError("no multiplier keeps the phrases apart: the hash table needs more buckets")


def phrase_hits(runs: list[Hashes]) -> list[tuple[int, int]]:
    """(word position, heading) of every phrase of the lexicon, in no order."""
    known = table()
    flat = np.concatenate(runs[:MAX_RUN])
    buckets = flat * known.multiplier
    buckets >>= _SHIFT
    candidates = known.buckets.take(buckets.astype(np.intp))
    at = candidates.nonzero()[0]
    entries = candidates.take(at)
    true = known.hashes.take(entries) == flat.take(at)
    places = at[true] % len(runs[0])
    return list(zip(places.tolist(), known.headings.take(entries[true]).tolist(), strict=True))
