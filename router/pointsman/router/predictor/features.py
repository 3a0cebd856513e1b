"""From a text to the numbers the linear model weighs: hashed n-grams, hashed words, headings, and counts.

Stands between the excerpt of a question and the weights; training and serving both go through `extract`, so that
they cannot drift apart. A batch is laid out as one long row of characters with padding between the texts: NumPy's
cost is its calls, so 32 texts cost little more than one, and no Python loop runs over characters. Pure NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import alphabet, lexicon
from pointsman.router.predictor.alphabet import CharClass, TokenKind
from pointsman.router.predictor.excerpt import LONGEST, Excerpt
from pointsman.router.predictor.lexicon import MAX_WORDS

VERSION = f"1-{lexicon.FINGERPRINT}"
"""Raise the number with every change to what a feature means: weights of another version are refused."""

TABLE_BITS = 18
TABLE_SIZE = 1 << TABLE_BITS

_BEFORE, _AFTER = alphabet.PAD, alphabet.PAD * 5
_U32 = np.uint32
_MULTIPLIER = 0x01000193
_INVERSE = pow(_MULTIPLIER, -1, 1 << 32)
BATCH = 64
"""Texts laid out in one go at most; longer batches are cut."""


@dataclass(frozen=True, slots=True)
class Group:
    """
    One family of hashed features.

    `size`: characters or words in a row; `last`, `first`: only those that begin within so many characters or
    words of the end or the start (0: all); `scale`: how much the group may say before the data speaks.
    """

    name: str
    size: int
    last: int = 0
    first: int = 0
    scale: float = 1.0


CHARACTER_GROUPS = (
    Group("letters", 2),
    Group("letters", 3),
    Group("letters", 4),
    Group("letters", 5),
    Group("letters near the end", 3, last=160),
    Group("letters near the end", 4, last=160),
    Group("letters near the start", 4, first=80),
)
WORD_GROUPS = (
    Group("word", 1),
    Group("words", 2),
    Group("word near the end", 1, last=28),
    Group("words near the end", 2, last=28),
    Group("word near the start", 1, first=14),
    Group("words near the start", 2, first=14),
)
FOCUS_WORDS_LAST, FOCUS_WORDS_FIRST, FOCUS_CHARACTERS = 28, 14, 160

_CLASS_NAMES = [kind.name.lower().replace("_", " ") for kind in CharClass]
_HEADINGS = list(lexicon.LEXICON)
_EXTRAS = (
    "length of the question",
    "number of words",
    "number of numbers",
    "number of lines",
    "brings a document",
    "mean length of words",
    "no letters or ideographs at all",
    "ends with a question mark",
    "very short",
)
DENSE_NAMES = (
    *(f"amount of {name}" for name in _CLASS_NAMES),
    *(f"share of {name}" for name in _CLASS_NAMES),
    *(f"share of {name} near the end" for name in _CLASS_NAMES),
    *(f"{name} (anywhere)" for name in _HEADINGS),
    *(f"{name} (where the question sits)" for name in _HEADINGS),
    *_EXTRAS,
)
DENSE_SIZE = len(DENSE_NAMES)
_CLASSES, _HEADING_COUNT = len(_CLASS_NAMES), len(_HEADINGS)


def _spread(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """A fixed scramble of 32-bit numbers (the finaliser of MurmurHash3)."""
    mixed = values.astype(_U32)
    mixed ^= mixed >> _U32(16)
    mixed *= _U32(0x85EBCA6B)
    mixed ^= mixed >> _U32(13)
    mixed *= _U32(0xC2B2AE35)
    mixed ^= mixed >> _U32(16)
    return mixed


def _seeds(groups: Sequence[Group], start: int) -> npt.NDArray[np.uint32]:
    numbers = np.arange(start, start + len(groups), dtype=_U32) * _U32(0x9E3779B1)
    return (_spread(numbers) | _U32(1))[:, None]


@dataclass(frozen=True, slots=True)
class _Tables:
    letters: npt.NDArray[np.uint32]
    classes: npt.NDArray[np.uint8]
    kinds: npt.NDArray[np.uint8]
    powers: npt.NDArray[np.uint32]
    inverse_powers: npt.NDArray[np.uint32]
    character_factors: npt.NDArray[np.uint32]
    """`inverse_powers` times each character group's seed."""


_CHARACTER_ROWS = np.array([group.size - 2 for group in CHARACTER_GROUPS])
_WORD_ROWS = np.array([group.size - 1 for group in WORD_GROUPS])
_WORD_SEEDS = _seeds(WORD_GROUPS, 101)
_SHIFT = _U32(32 - TABLE_BITS)
_SPACE, _SINGLE = np.uint8(TokenKind.SPACE), np.uint8(TokenKind.SINGLE)
_DIGIT = np.uint8(CharClass.DIGIT)
LONGEST_GRAM = 5
_PADS = len(_AFTER)


@cache
def _tables() -> _Tables:
    folded, classes, kinds = alphabet.tables()
    room = BATCH * (LONGEST + len(_BEFORE) + len(_AFTER)) + 1
    base = np.full(room, _MULTIPLIER, dtype=_U32)
    back = np.full(room, _INVERSE, dtype=_U32)
    base[0] = back[0] = 1
    inverse_powers = np.multiply.accumulate(back)
    return _Tables(
        letters=_spread(folded + _U32(0x51ED270B)),
        classes=classes,
        kinds=kinds,
        powers=np.multiply.accumulate(base),
        inverse_powers=inverse_powers,
        character_factors=inverse_powers * _seeds(CHARACTER_GROUPS, 1),
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """
    A batch as one row of characters, padding between the texts.

    `spans`: (start, end) of each text, its leading pad included; `word_spans`: the same, counted in words;
    `prefix`: hash of all characters before each one, from which the hash of any stretch follows;
    `runs`: hashes of 1 to `MAX_WORDS` words in a row, one line per length.
    """

    text: str
    classes: npt.NDArray[np.uint8]
    prefix: npt.NDArray[np.uint32]
    spans: list[tuple[int, int]]
    word_starts: npt.NDArray[np.intp]
    word_ends: npt.NDArray[np.intp]
    word_spans: list[tuple[int, int]]
    runs: npt.NDArray[np.uint32]


def _windows(values: npt.NDArray[np.uint32], first: int, lines: int, width: int) -> npt.NDArray[np.uint32]:
    """Line k holds `values` from `first + k` on: a view, made by hand because NumPy's own helper costs 10 µs."""
    return np.ndarray((lines, width), _U32, values, 4 * first, (4, 4))


def _lay_out(texts: Sequence[str]) -> Layout:
    tables = _tables()
    text = "".join([f"{_BEFORE}{each}{_AFTER}" for each in texts])
    length = len(text)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), _U32).astype(np.intp)
    kinds = tables.kinds.take(codes, mode="clip")

    prefix = np.empty(length + 1, _U32)
    prefix[0] = 0
    np.add.accumulate(tables.letters.take(codes, mode="clip") * tables.powers[:length], out=prefix[1:])

    changes = np.empty(length + 1, np.bool_)
    changes[0] = changes[-1] = True
    np.not_equal(kinds[1:], kinds[:-1], out=changes[1:-1])
    single = kinds == _SINGLE
    solid = kinds != _SPACE
    starts = ((changes[:-1] | single) & solid).nonzero()[0]
    ends = ((changes[1:] | single) & solid).nonzero()[0] + 1

    width = len(starts) - MAX_WORDS + 1
    first = starts[:width]
    runs = _windows(prefix.take(ends, mode="clip"), 0, MAX_WORDS, width) - prefix.take(first, mode="clip")
    runs *= tables.inverse_powers.take(first, mode="clip")

    if len(texts) == 1:
        spans, word_spans = [(0, length - _PADS)], [(0, len(starts) - _PADS)]
    else:
        spans, at = [], 0
        for each in texts:
            end = at + len(each) + 1
            spans.append((at, end))
            at = end + _PADS
        edges = starts.searchsorted(np.array(spans).ravel()).tolist()
        word_spans = list(zip(edges[::2], edges[1::2], strict=True))
    return Layout(text, tables.classes.take(codes, mode="clip"), prefix, spans, starts, ends, word_spans, runs)


@dataclass(frozen=True, slots=True)
class _Phrases:
    multiplier: np.uint32
    buckets: npt.NDArray[np.uint16]
    hashes: npt.NDArray[np.uint32]
    headings: npt.NDArray[np.float32]


_BUCKET_SHIFT = _U32(32 - 18)


@cache
def _phrases() -> _Phrases:
    """The lexicon as a hash table without collisions: the first multiplier of a fixed series that has none."""
    headings: dict[int, set[int]] = {}
    for heading, phrases in enumerate(lexicon.LEXICON.values()):
        for phrase in phrases:
            layout = _lay_out([phrase])
            start, end = layout.word_spans[0]
            size = min(end - start - 1, MAX_WORDS)
            headings.setdefault(int(layout.runs[size - 1, start + 1]), set()).add(heading)
    hashes = np.array([0, *sorted(headings)], dtype=_U32)
    one_hot = np.zeros((len(hashes), _HEADING_COUNT), dtype=np.float32)
    for row, key in enumerate(hashes[1:].tolist(), start=1):
        one_hot[row, sorted(headings[key])] = 1
    for attempt in range(1, 1 << 16):
        multiplier = _spread(np.array([attempt], dtype=_U32))[0] | _U32(1)
        places = (hashes[1:] * multiplier) >> _BUCKET_SHIFT
        if len(np.unique(places)) == len(places):
            buckets = np.zeros(1 << 18, dtype=np.uint16)
            buckets[places] = np.arange(1, len(hashes), dtype=np.uint16)
            return _Phrases(multiplier, buckets, hashes, one_hot)
    raise AssertionError("no multiplier keeps the phrases apart: the hash table needs more buckets")


@dataclass(frozen=True, slots=True)
class Features:
    """
    What the model weighs, for R texts.

    `index`: table cells of every hashed feature, character groups first; `bounds`: (start, end) into it, groups
    outermost, texts innermost, laid out for `np.add.reduceat`; `dense`: float32 [R, DENSE_SIZE], not yet
    standardised.
    """

    layout: Layout
    index: npt.NDArray[np.intp]
    bounds: npt.NDArray[np.intp]
    dense: npt.NDArray[np.float32]


def extract(excerpts: Sequence[Excerpt]) -> Features:
    """
    The features of 1 to `BATCH` excerpts, in order.

    A text's features do not depend on its neighbours in the batch.
    """
    layout = _lay_out([each.text for each in excerpts])
    width = len(layout.text) - LONGEST_GRAM + 1
    grams = _windows(layout.prefix, 2, LONGEST_GRAM - 1, width) - layout.prefix[:width]
    characters = grams.take(_CHARACTER_ROWS, axis=0)
    characters *= _tables().character_factors[:, :width]
    words = layout.runs.take(_WORD_ROWS, axis=0)
    words *= _WORD_SEEDS
    index = np.concatenate((characters.ravel(), words.ravel()))
    index >>= _SHIFT
    bounds: list[int] = []
    _bound(bounds, CHARACTER_GROUPS, layout.spans, 0, width)
    _bound(bounds, WORD_GROUPS, layout.word_spans, characters.size, words.shape[1])
    return Features(layout, index.astype(np.intp), np.array(bounds, np.intp), _dense(excerpts, layout))


def _bound(
    bounds: list[int], groups: Sequence[Group], spans: list[tuple[int, int]], offset: int, width: int
) -> None:
    for group in groups:
        last, first = group.last, group.first
        for start, end in spans:
            bounds.append(offset + (end - last if last and end - last > start else start))
            bounds.append(offset + (start + first if first and start + first < end else end))
        offset += width


_SHARES = slice(_CLASSES, 3 * _CLASSES)
_ANYWHERE = slice(3 * _CLASSES, 3 * _CLASSES + _HEADING_COUNT)
_FOCUSED = slice(_ANYWHERE.stop, _ANYWHERE.stop + _HEADING_COUNT)
_LAST_EXTRA = len(_EXTRAS)
_MOST_HITS = np.float32(3)


def _dense(excerpts: Sequence[Excerpt], layout: Layout) -> npt.NDArray[np.float32]:
    dense = np.zeros((len(excerpts), DENSE_SIZE), dtype=np.float32)
    where, entries = _phrase_hits(layout.runs)
    headings = _phrases().headings
    digits = layout.classes.take(layout.word_starts) == _DIGIT
    alone = len(excerpts) == 1
    for row, (start, end) in enumerate(layout.spans):
        first, stop = layout.word_spans[row]
        line = dense[row]
        inside = layout.classes[start + 1 : end]
        counts = np.bincount(inside, minlength=_CLASSES)
        line[:_CLASSES] = counts
        line[_CLASSES : 2 * _CLASSES] = counts / (len(inside) or 1)
        near = inside[-FOCUS_CHARACTERS:]
        line[2 * _CLASSES : 3 * _CLASSES] = np.bincount(near, minlength=_CLASSES) / (len(near) or 1)
        places, found = where, entries
        if not alone:
            mine = (where >= first) & (where < stop)
            places, found = where[mine], entries[mine]
        if len(found):
            hits = headings.take(found, axis=0)
            np.add.reduce(hits, axis=0, out=line[_ANYWHERE])
            if stop - first > FOCUS_WORDS_FIRST + FOCUS_WORDS_LAST:
                hits = hits[(places >= stop - FOCUS_WORDS_LAST) | (places < first + FOCUS_WORDS_FIRST)]
                np.add.reduce(hits, axis=0, out=line[_FOCUSED])
            else:
                line[_FOCUSED] = line[_ANYWHERE]
        numbers = int(np.count_nonzero(digits[first:stop]))
        line[-_LAST_EXTRA:] = _extras(excerpts[row], counts.tolist(), stop - first - 1, numbers)
    amounts, asked = dense[:, :_CLASSES], dense[:, 3 * _CLASSES : -_LAST_EXTRA]
    np.log1p(amounts, out=amounts)
    np.minimum(asked, _MOST_HITS, out=asked)
    return dense


def _phrase_hits(runs: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint16]]:
    """Where phrases of the lexicon begin (word positions), and which entries they are."""
    table = _phrases()
    flat = runs.ravel()
    places = flat * table.multiplier
    places >>= _BUCKET_SHIFT
    candidates = table.buckets.take(places.astype(np.intp), mode="clip")
    at = candidates.nonzero()[0]
    entries = candidates.take(at)
    true = table.hashes.take(entries) == flat.take(at)
    return at[true] % runs.shape[1], entries[true]


_LOWER, _UPPER, _IDEOGRAPH, _ACCENTED = (
    int(kind) for kind in (CharClass.LOWER, CharClass.UPPER, CharClass.IDEOGRAPH, CharClass.ACCENTED)
)


def _extras(excerpt: Excerpt, counts: list[int], words: int, numbers: int) -> tuple[float, ...]:
    written = counts[_LOWER] + counts[_UPPER] + sum(counts[_IDEOGRAPH : _ACCENTED + 1])
    text = excerpt.text
    return (
        math.log1p(excerpt.length),
        math.log1p(words),
        math.log1p(numbers),
        math.log1p(excerpt.lines),
        1.0 if excerpt.document else 0.0,
        written / (words or 1),
        0.0 if written else 1.0,
        1.0 if text.endswith(_QUESTION_MARKS) else 0.0,
        1.0 if len(text) < 12 else 0.0,
    )


_QUESTION_MARKS = ("?", "？", "؟")
