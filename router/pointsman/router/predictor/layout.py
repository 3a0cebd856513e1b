"""A batch of texts as one long row of characters: where its words are, and the hashes of words and of runs of them.

Stands between the excerpts and the features. Padding stands between the texts: NumPy's cost is its calls, so many
texts cost little more each than their own characters, and no Python loop runs over characters.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import alphabet, lexicon
from pointsman.router.predictor.alphabet import BEGINNING, TokenKind
from pointsman.router.predictor.excerpt import LONGEST, Excerpt

BATCH = 64
"""Texts laid out in one go at most; longer batches are cut."""
MAX_RUN = lexicon.MAX_WORDS
_BEFORE, _AFTER = alphabet.PAD * 2, alphabet.PAD * 5
_BETWEEN = _AFTER + _BEFORE
_U32 = np.uint32
Hashes = npt.NDArray[np.uint32]
SKIPPING = alphabet.spread(np.array([alphabet.BASE], _U32))[0] | _U32(1)
"""What tells the hash of a word with the next but one from that of a pair."""


class _Tables(NamedTuple):
    letters: Hashes
    kinds: npt.NDArray[np.uint8]
    powers: Hashes
    inverse_powers: Hashes
    begins: npt.NDArray[np.bool_]
    """Whether a word begins between two neighbours, by both their kinds in one 16-bit number."""
    stops: npt.NDArray[np.bool_]


def _borders() -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    begins, stops = np.zeros(1 << 16, np.bool_), np.zeros(1 << 16, np.bool_)
    for left in TokenKind:
        for right in TokenKind:
            pair = int.from_bytes((left, right), sys.byteorder)
            begins[pair] = right is not TokenKind.SPACE and (left is not right or right is TokenKind.SINGLE)
            stops[pair] = left is not TokenKind.SPACE and (left is not right or left is TokenKind.SINGLE)
    return begins, stops


@cache
def _tables() -> _Tables:
    kinds = alphabet.tables()[1]
    room = 2 * BATCH * (LONGEST + len(_BETWEEN)) + 1
    base = np.full(room, alphabet.BASE, _U32)
    back = np.full(room, pow(alphabet.BASE, -1, 1 << 32), _U32)
    base[0] = back[0] = 1
    begins, stops = _borders()
    return _Tables(
        letters=alphabet.letter_hashes(),
        kinds=kinds,
        powers=np.multiply.accumulate(base, dtype=_U32),
        inverse_powers=np.multiply.accumulate(back, dtype=_U32),
        begins=begins,
        stops=stops,
    )


class Layout(NamedTuple):
    """
    A batch as one row of characters, padding between the texts; what stands around them follows them all.

    `starts`, `ends`: first character and end of each word; `runs`: hashes of 1 to `MAX_RUN` words in a row, one
    line per length, of the words' beginnings in the line after those, and of each word with the next but one in the
    last; `numbers`: whether each word is a number; `spans`: of each text (first word, end,
    first word of its last lines, end of its first lines, first word and end of the sentence that asks, first word
    and end of what stands around it), leading pads included.
    """

    text: str
    starts: npt.NDArray[np.intp]
    ends: npt.NDArray[np.intp]
    runs: list[Hashes]
    numbers: npt.NDArray[np.bool_]
    spans: list[list[int]]


def lay_out(excerpts: Sequence[Excerpt]) -> Layout:
    tables = _tables()
    around = [each.around for each in excerpts]
    text = _BEFORE + _BETWEEN.join([each.text for each in excerpts] + around) + _AFTER
    length = len(text)
    if text.isascii():
        codes = np.frombuffer(text.encode(), np.uint8).astype(np.intp)
    else:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), _U32).astype(np.intp)

    prefix = np.empty(length + 1, _U32)
    prefix[0] = 0
    hashes = tables.letters.take(codes, mode="clip")
    hashes *= tables.powers[:length]
    np.add.accumulate(hashes, dtype=_U32, out=prefix[1:])

    # Borders between neighbours miss the begin of the first pad and the end of the last: both words are dropped.
    kinds = tables.kinds.take(codes, mode="clip")
    pairs = np.ndarray((length - 1,), np.uint16, kinds, 0, (1,)).astype(np.intp)
    ends = tables.stops.take(pairs).nonzero()[0][1:]
    ends += 1
    starts = tables.begins.take(pairs).nonzero()[0][: len(ends)]
    starts += 1

    parts, at = [], len(_BEFORE)
    for each in excerpts:
        size = len(each.text)
        end = at + size
        closing = at - 1 if each.closing == size else end - each.closing
        parts.append([at - 1, end, closing, at + each.opening, at + each.focus.begin, at + each.focus.end])
        at = end + len(_BETWEEN)
    for part, beside in zip(parts, around, strict=True):
        part += (at - 1, at + len(beside))
        at += len(beside) + len(_BETWEEN)
    spans: list[list[int]] = starts.searchsorted(parts).tolist()
    for span in spans:
        span[2] = min(span[2], span[1] - 1)  # the last lines of a text may begin inside its last word
        span[4] = min(span[4], span[5] - 1)  # and a sentence may consist of what is no word
    numbers = kinds.take(starts) == TokenKind.DIGIT
    return Layout(text, starts, ends, _runs(prefix, starts, ends), numbers, spans)


def _runs(prefix: Hashes, starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]) -> list[Hashes]:
    """
    The lines of `Layout.runs`, from the hash of all characters before each one.

    Runs are hashed over the words' own hashes, so that what white space stands between two words does not matter.
    """
    tables = _tables()
    count, width = len(ends), len(ends) - MAX_RUN + 1
    before, back = prefix.take(starts), tables.inverse_powers.take(starts)
    word = prefix.take(ends)
    word -= before
    word *= back
    beginning = prefix.take(np.minimum(starts + BEGINNING, ends))
    beginning -= before
    beginning *= back
    chain = np.empty(count + 1, _U32)
    chain[0] = 0
    np.add.accumulate(word * tables.powers[:count], dtype=_U32, out=chain[1:])
    earlier, back = chain[:width], tables.inverse_powers[:width]
    lines = [word[:width]]
    for size in range(2, MAX_RUN + 1):
        run = chain[size : size + width] - earlier
        run *= back
        lines.append(run)
    lines.append(beginning[:width])
    lines.append(word[:width] + word[2 : width + 2] * SKIPPING)
    return lines
