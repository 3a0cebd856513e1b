"""From a text to what the linear model weighs: hashed words and runs of words, headings of the lexicon, and counts.

Stands between the excerpt of a question and the weights; training and serving both go through `extract`, so that
they cannot drift apart. What a batch looks like is in `layout.py`; no Python loop runs over characters.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import alphabet, asking, lexicon, standing_task
from pointsman.router.predictor.excerpt import Excerpt
from pointsman.router.predictor.layout import MAX_RUN, Hashes, Layout, lay_out
from pointsman.router.predictor.phrases import phrase_hits
from pointsman.router.predictor.table import CELL_BITS

VERSION = f"11-{lexicon.FINGERPRINT}-{asking.FINGERPRINT}-{standing_task.FINGERPRINT}"
"""Raise the number with every change to what a feature means: weights of another version are refused."""


class Part(IntEnum):
    """Which part of the text a group of features reads."""

    ALL = 0
    CLOSING = 1
    OPENING = 2
    FOCUS = 3
    AROUND = 4
    """The text that the question was told from, beginning and end."""


@dataclass(frozen=True, slots=True)
class Group:
    """Hashed features of one kind: those of `line` (see `Layout.runs`) that begin in `part`."""

    line: int
    part: Part
    scale: float
    """How much the group may say before the data speaks."""
    shaped: bool = False
    """Whether each shape of text (see `_shape`) has cells of its own for it."""


_WORD, _PAIR, _BEGINNING, _SKIP, FAR = 0, 1, MAX_RUN, MAX_RUN + 1, MAX_RUN + 2
"""Lines of `Layout.runs`, and what is made of the first where it is needed: two words with others between them."""
GROUPS = (
    Group(_WORD, Part.ALL, 1.0),
    Group(_WORD, Part.CLOSING, 1.5),
    Group(_WORD, Part.OPENING, 1.5),
    Group(_PAIR, Part.ALL, 1.0),
    Group(_PAIR, Part.CLOSING, 1.5),
    Group(_PAIR, Part.OPENING, 1.5),
    Group(_BEGINNING, Part.ALL, 1.0),
    Group(_BEGINNING, Part.CLOSING, 1.5),
    Group(_BEGINNING, Part.OPENING, 1.5),
    Group(_SKIP, Part.ALL, 1.0),
    Group(_WORD, Part.FOCUS, 1.5),
    Group(_PAIR, Part.FOCUS, 1.5),
    Group(_BEGINNING, Part.FOCUS, 1.5),
    Group(_WORD, Part.ALL, 1.0, shaped=True),
    Group(_WORD, Part.FOCUS, 1.5, shaped=True),
    Group(_PAIR, Part.FOCUS, 1.5, shaped=True),
    Group(_SKIP, Part.CLOSING, 1.5),
    Group(_SKIP, Part.OPENING, 1.5),
    Group(_SKIP, Part.FOCUS, 1.5),
    Group(FAR, Part.FOCUS, 1.5),
    Group(_WORD, Part.AROUND, 1.0),
    Group(_PAIR, Part.AROUND, 1.0),
    Group(_BEGINNING, Part.AROUND, 1.0),
)

GROUP_NAMES = (
    *("words", "words (in the last lines)", "words (in the first lines)"),
    *("pairs of words", "pairs of words (in the last lines)", "pairs of words (in the first lines)"),
    *("beginnings of words", "beginnings of words (in the last lines)", "beginnings of words (in the first lines)"),
    "words with a gap between them",
    *("words (where it asks)", "pairs of words (where it asks)", "beginnings of words (where it asks)"),
    *("words in a text of this shape", "words in a text of this shape (where it asks)"),
    "pairs of words in a text of this shape (where it asks)",
    *("words with a gap between them (in the last lines)", "words with a gap between them (in the first lines)"),
    *("words with a gap between them (where it asks)", "words with others between them (where it asks)"),
    *("words of the whole text", "pairs of words of the whole text", "beginnings of words of the whole text"),
)
HEADINGS = len(lexicon.LEXICON)
QUANTITIES = "how many quantities it names"
COUNT_NAMES = (
    *(f"{heading} (anywhere)" for heading in lexicon.LEXICON),
    *(f"{heading} (in the last lines)" for heading in lexicon.LEXICON),
    *(f"{heading} (in the first lines)" for heading in lexicon.LEXICON),
    *(f"{heading}, of a long text" for heading in lexicon.LEXICON),
    *(f"{heading} (where it asks)" for heading in lexicon.LEXICON),
    "length of the question",
    "number of words",
    "number of lines",
    "stands beside a long text",
    "mean length of words",
    "ends with a question mark",
    "very short",
    "length of the last lines",
    "length of the first lines",
    "share of the last lines",
    "share of the first lines",
    QUANTITIES,
    "how many clauses it has",
    *("length of the sentence that asks", "share of the sentence that asks", "how plainly it asks"),
    *("how many sentences ask", "asks in its first sentence", "how many sentences it has"),
)
COUNT_SIZE = len(COUNT_NAMES)
BIAS_NAME, REST_NAME = "where every question starts", "everything else"
EARLIER_NAME = "what was asked before"
MATERIAL_NAME = "the message that the system prompt sets a task for"
EVIDENCE_NAMES = (*GROUP_NAMES, *COUNT_NAMES, BIAS_NAME, REST_NAME, EARLIER_NAME, MATERIAL_NAME)
"""
What evidence that names no word is called, by its place: groups, counts, the bias, the sum of the rest, and what
stands beside a question: turns before a short one, the message that a task is set for.
"""
COUNT_SCALE = 0.15
"""How much a count may say against the hashed words before the data speaks."""
MOST_HITS = 3
_QUESTION_MARKS = ("?", "？", "؟")
_CLAUSES = tuple(",;.?!，；、。？！")
"""What ends a clause."""

_U32 = np.uint32
_Places = npt.NDArray[np.intp]
_SHIFT = _U32(32 - CELL_BITS)
FARTHER = alphabet.spread(np.array([alphabet.BASE + 1], _U32))[0] | _U32(1)
"""What tells the hash of two words with others between them from that of a pair."""
NEAREST, FARTHEST, FAR_WORDS = 3, 8, 80
"""How far apart two words are that have others between them, and how many words of a part are looked at."""


class Features(NamedTuple):
    """
    What the model weighs, for R texts.

    `cells`: table cells of every hashed feature, text by text and group by group, each feature once in a group;
    `sizes`: how many of them each group of each text has, at least one, [R * GROUPS]; `starts`: where in `cells`
    each of those begins; `hits`: for each feature which of its group's words hits it first; `counts`: for each text
    the values that are not 0, by their place in `COUNT_NAMES`.
    """

    layout: Layout
    cells: npt.NDArray[np.intp]
    sizes: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    hits: npt.NDArray[np.intp]
    counts: list[dict[int, float]]


_SLICES = tuple((group.line, *((0, 1), (2, 1), (0, 3), (4, 5), (6, 7))[group.part]) for group in GROUPS)
"""For each group its line of `Layout.runs`, and which of a text's `spans` it begins and ends at."""
SEEDS = alphabet.spread(np.arange(1, len(GROUPS) + 1, dtype=_U32)) | _U32(1)
"""Odd numbers that send each group's hashes to cells of its own."""
_SHAPED = np.array([group.shaped for group in GROUPS], dtype=_U32)
_SIZES, _BREAKS = (60, 200), (1, 4)
"""From how many characters, and from how many line breaks, a text is of the next shape."""


def extract(excerpts: Sequence[Excerpt]) -> Features:
    """
    The features of 1 to `layout.BATCH` excerpts, in order.

    A text's features do not depend on its neighbours in the batch.
    """
    layout = lay_out(excerpts)
    lines, spans = layout.runs, layout.spans
    parts = [
        _far(lines[_WORD][span[start] : span[end]]) if line == FAR else lines[line][span[start] : span[end]]
        for span in spans
        for line, start, end in _SLICES
    ]
    hashes, sizes, starts, hits = _distinct(np.concatenate(parts), np.array([len(part) for part in parts]))
    shapes = np.array([[2 * _shape(each)] for each in excerpts], dtype=_U32)
    hashes *= ((shapes * _SHAPED + _U32(1)) * SEEDS).ravel().repeat(sizes)
    hashes >>= _SHIFT
    return Features(layout, hashes.astype(np.intp), sizes, starts, hits, _counts(excerpts, layout))


def _far(words: Hashes) -> Hashes:
    """The hashes of two words with others between them, in the order of `far_pairs`; of too few words 0."""
    first, second = far_pairs(min(len(words), FAR_WORDS))
    return words.take(first) + words.take(second) * FARTHER if len(first) else _NONE


_NONE = np.zeros(1, dtype=_U32)


@cache
def far_pairs(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Of so many words, which two have others between them: the places of the one, and of the other."""
    first = [np.arange(max(0, count - gap)) for gap in range(NEAREST, FARTHEST + 1)]
    second = [each + gap for gap, each in zip(range(NEAREST, FARTHEST + 1), first, strict=True)]
    return np.concatenate(first), np.concatenate(second)


def _distinct(hashes: Hashes, sizes: _Places) -> tuple[Hashes, _Places, _Places, _Places]:
    """What groups of so many hashes hit, each once: the hashes, and `sizes`, `starts` and `hits` of `Features`."""
    begins = sizes.cumsum()
    begins -= sizes
    keys = hashes.astype(np.intp)
    keys += (np.arange(len(sizes)) << 32).repeat(sizes)
    order = keys.argsort(kind="stable")
    keys = keys.take(order)
    first = np.append(True, keys[1:] != keys[:-1])
    keys, order = keys[first], order[first]
    group = keys >> 32
    sizes = np.bincount(group, minlength=len(sizes))
    starts = sizes.cumsum()
    starts -= sizes
    order -= begins.take(group)
    return keys.astype(_U32), sizes, starts, order


def _shape(excerpt: Excerpt) -> int:
    """What a text looks like before a word of it is read: how long it is, in how many lines, and beside what."""
    size, breaks = len(excerpt.text), excerpt.text.count("\n")
    length, lines = (sum(value >= least for least in steps) for value, steps in ((size, _SIZES), (breaks, _BREAKS)))
    return length + 3 * excerpt.document + 6 * lines


def _counts(excerpts: Sequence[Excerpt], layout: Layout) -> list[dict[int, float]]:
    end = layout.spans[0][6]  # from there on stands what is around the questions
    hits = [hit for hit in phrase_hits(layout.runs) if hit[0] < end]
    if len(excerpts) == 1:
        return [_counts_of(excerpts[0], layout, layout.spans[0], hits)]
    hits.sort()
    borders = [bisect_left(hits, (span[0], 0)) for span in layout.spans] + [len(hits)]
    return [
        _counts_of(each, layout, span, hits[begin:end])
        for each, span, (begin, end) in zip(excerpts, layout.spans, pairwise(borders), strict=True)
    ]


def _counts_of(excerpt: Excerpt, layout: Layout, span: list[int], hits: list[tuple[int, int]]) -> dict[int, float]:
    first, stop, closing, opening, asks_from, asks_to, *_ = span
    counts = of_the_whole(excerpt, stop - first - 1, int(np.count_nonzero(layout.numbers[first + 1 : stop])))
    for place, heading in hits:
        counts[heading] = min(counts.get(heading, 0) + 1, MOST_HITS)
        if place >= closing:
            last = heading + HEADINGS
            counts[last] = min(counts.get(last, 0) + 1, MOST_HITS)
        if place < opening:
            early = heading + 2 * HEADINGS
            counts[early] = min(counts.get(early, 0) + 1, MOST_HITS)
        if excerpt.document:
            beside = heading + 3 * HEADINGS
            counts[beside] = min(counts.get(beside, 0) + 1, MOST_HITS)
        if asks_from <= place < asks_to:
            there = heading + 4 * HEADINGS
            counts[there] = min(counts.get(there, 0) + 1, MOST_HITS)
    return counts


_WHOLE = tuple(range(5 * HEADINGS, COUNT_SIZE))
_MOST_POINTS = 4.0


def of_the_whole(excerpt: Excerpt, words: int, numbers: int) -> dict[int, float]:
    """The counts about the whole text, of `words` words with `numbers` among them, by place in `COUNT_NAMES`."""
    text, focus = excerpt.text, excerpt.focus
    size = len(text) or 1
    focused = focus.end - focus.begin
    values = (
        math.log1p(size),
        math.log1p(words),
        math.log1p(text.count("\n")),
        1.0 if excerpt.document else 0.0,
        size / (words or 1),
        1.0 if text.endswith(_QUESTION_MARKS) else 0.0,
        1.0 if size < 12 else 0.0,
        math.log1p(excerpt.closing),
        math.log1p(excerpt.opening),
        excerpt.closing / size,
        excerpt.opening / size,
        math.log1p(numbers),
        math.log1p(sum(map(text.count, _CLAUSES))),
        math.log1p(focused),
        focused / size,
        max(-_MOST_POINTS, min(_MOST_POINTS, focus.points / asking.UNIT)),
        math.log1p(focus.asking),
        1.0 if focus.place == 0 else 0.0,
        math.log1p(max(focus.total - 1, 0)),
    )
    return dict(zip(_WHOLE, values))  # noqa: B905 - costs a microsecond here
