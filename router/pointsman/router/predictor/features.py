"""From a text to what the linear model weighs: hashed words and runs of words, headings of the lexicon, and counts.

Stands between the excerpt of a question and the weights; training and serving both go through `extract`, so that
they cannot drift apart. A batch is laid out as one long row of characters with padding between the texts: NumPy's
cost is its calls, so many texts cost little more each than their own characters, and no Python loop runs over
characters.
"""

from __future__ import annotations

import math
import sys
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
from pointsman.router.predictor.alphabet import BEGINNING, TokenKind
from pointsman.router.predictor.excerpt import LONGEST, Excerpt
from pointsman.router.predictor.table import CELL_BITS, CELLS, MARK_BITS

VERSION = f"9-{lexicon.FINGERPRINT}-{asking.FINGERPRINT}-{standing_task.FINGERPRINT}"
"""Raise the number with every change to what a feature means: weights of another version are refused."""

BATCH = 64
"""Texts laid out in one go at most; longer batches are cut."""
MAX_RUN = lexicon.MAX_WORDS


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
_HEADINGS = len(lexicon.LEXICON)
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
_MOST_HITS = 3
_QUESTION_MARKS = ("?", "？", "؟")
_CLAUSES = tuple(",;.?!，；、。？！")
"""What ends a clause."""

BEFORE, AFTER = alphabet.PAD * 2, alphabet.PAD * 5
_BETWEEN = AFTER + BEFORE
_U32 = np.uint32
Hashes = npt.NDArray[np.uint32]
_SHIFT = _U32(32 - CELL_BITS)
_SKIPPING, _FARTHER = (alphabet.spread(np.array([alphabet.BASE + more], _U32)) | _U32(1) for more in (0, 1))
"""What tells the hashes of a word with the next but one, and with one farther off, from that of a pair."""
NEAREST, FARTHEST, FAR_WORDS = 3, 8, 80
"""How far apart two words are that have others between them, and how many words of a part are looked at."""


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


def _lay_out(excerpts: Sequence[Excerpt]) -> Layout:
    tables = _tables()
    around = [each.around for each in excerpts]
    text = BEFORE + _BETWEEN.join([each.text for each in excerpts] + around) + AFTER
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

    parts, at = [], len(BEFORE)
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
    lines.append(word[:width] + word[2 : width + 2] * _SKIPPING)
    return lines


class _Phrases(NamedTuple):
    multiplier: np.uint32
    buckets: npt.NDArray[np.uint16]
    hashes: Hashes
    headings: npt.NDArray[np.uint8]


_BUCKET_BITS = 17
_BUCKET_SHIFT = _U32(32 - _BUCKET_BITS)


@cache
def _phrases() -> _Phrases:
    """The lexicon as a hash table without collisions: the first multiplier of a fixed series that has none."""
    heading_of: dict[int, int] = {}
    for heading, phrases in enumerate(lexicon.LEXICON.values()):
        for phrase in phrases:
            layout = _lay_out((Excerpt(phrase, len(phrase), len(phrase), False),))
            first, stop = layout.spans[0][:2]
            heading_of.setdefault(int(layout.runs[min(stop - first - 1, MAX_RUN) - 1][first + 1]), heading)
    hashes = np.array([0, *sorted(heading_of)], dtype=_U32)
    headings = np.array([0, *(heading_of[key] for key in hashes[1:].tolist())], dtype=np.uint8)
    for attempt in range(1, 1 << 16):
        multiplier = alphabet.spread(np.array([attempt], dtype=_U32))[0] | _U32(1)
        places = (hashes[1:] * multiplier) >> _BUCKET_SHIFT
        if len(np.unique(places)) == len(places):
            buckets = np.zeros(1 << _BUCKET_BITS, dtype=np.uint16)
            buckets[places] = np.arange(1, len(hashes), dtype=np.uint16)
            return _Phrases(multiplier, buckets, hashes, headings)
    raise AssertionError("no multiplier keeps the phrases apart: the hash table needs more buckets")


class Features(NamedTuple):
    """
    What the model weighs, for R texts.

    `cells`: table cells of every hashed feature, text by text and group by group, each once in a group; `sizes`:
    how many of them each group of each text has, at least one, [R * GROUPS]; `starts`: where in `cells` each of
    those begins; `hits`: for each cell which of its group's words hits it first; `counts`: for each text the values
    that are not 0, by their place in `COUNT_NAMES`.
    """

    layout: Layout
    cells: npt.NDArray[np.intp]
    sizes: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    hits: npt.NDArray[np.intp]
    counts: list[dict[int, float]]


_SLICES = tuple((group.line, *((0, 1), (2, 1), (0, 3), (4, 5), (6, 7))[group.part]) for group in GROUPS)
"""For each group its line of `Layout.runs`, and which of a text's `spans` it begins and ends at."""
_SEEDS = alphabet.spread(np.arange(1, len(GROUPS) + 1, dtype=_U32)) | _U32(1)
"""Odd numbers that send each group's hashes to cells of its own."""
_SHAPED = np.array([group.shaped for group in GROUPS], dtype=_U32)
_SIZES, _BREAKS = (60, 200), (1, 4)
"""From how many characters, and from how many line breaks, a text is of the next shape."""


def extract(excerpts: Sequence[Excerpt]) -> Features:
    """
    The features of 1 to `BATCH` excerpts, in order.

    A text's features do not depend on its neighbours in the batch.
    """
    layout = _lay_out(excerpts)
    lines, spans = layout.runs, layout.spans
    parts = [
        _far(lines[_WORD][span[start] : span[end]]) if line == FAR else lines[line][span[start] : span[end]]
        for span in spans
        for line, start, end in _SLICES
    ]
    sizes = np.array([len(part) for part in parts])
    hashes = np.concatenate(parts)
    shapes = np.array([[2 * _shape(each)] for each in excerpts], dtype=_U32)
    hashes *= ((shapes * _SHAPED + _U32(1)) * _SEEDS).ravel().repeat(sizes)
    hashes >>= _SHIFT
    cells, sizes, starts, hits = _distinct(hashes.astype(np.intp), sizes)
    return Features(layout, cells, sizes, starts, hits, _counts(excerpts, layout))


def _far(words: Hashes) -> Hashes:
    """The hashes of two words with others between them, in the order of `far_pairs`; of too few words 0."""
    first, second = far_pairs(min(len(words), FAR_WORDS))
    return words.take(first) + words.take(second) * _FARTHER if len(first) else _NONE


_NONE = np.zeros(1, dtype=_U32)


@cache
def far_pairs(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Of so many words, which two have others between them: the places of the one, and of the other."""
    first = [np.arange(max(0, count - gap)) for gap in range(NEAREST, FARTHEST + 1)]
    second = [each + gap for gap, each in zip(range(NEAREST, FARTHEST + 1), first, strict=True)]
    return np.concatenate(first), np.concatenate(second)


def _distinct(cells: npt.NDArray[np.intp], sizes: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], ...]:
    """`cells`, `sizes`, `starts` and `hits` of `Features`, of cells that a group may hit several times."""
    begins = sizes.cumsum()
    begins -= sizes
    cells += (np.arange(len(sizes)) << CELL_BITS).repeat(sizes)
    order = cells.argsort(kind="stable")
    cells = cells.take(order)
    first = np.append(True, cells[1:] != cells[:-1])
    cells, order = cells[first], order[first]
    group = cells >> CELL_BITS
    sizes = np.bincount(group, minlength=len(sizes))
    starts = sizes.cumsum()
    starts -= sizes
    cells &= CELLS - 1
    order -= begins.take(group)
    return cells, sizes, starts, order


def _shape(excerpt: Excerpt) -> int:
    """What a text looks like before a word of it is read: how long it is, in how many lines, and beside what."""
    size, breaks = len(excerpt.text), excerpt.text.count("\n")
    length, lines = (sum(value >= least for least in steps) for value, steps in ((size, _SIZES), (breaks, _BREAKS)))
    return length + 3 * excerpt.document + 6 * lines


def _counts(excerpts: Sequence[Excerpt], layout: Layout) -> list[dict[int, float]]:
    end = layout.spans[0][6]  # from there on stands what is around the questions
    hits = [hit for hit in _phrase_hits(layout.runs) if hit[0] < end]
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
        counts[heading] = min(counts.get(heading, 0) + 1, _MOST_HITS)
        if place >= closing:
            last = heading + _HEADINGS
            counts[last] = min(counts.get(last, 0) + 1, _MOST_HITS)
        if place < opening:
            early = heading + 2 * _HEADINGS
            counts[early] = min(counts.get(early, 0) + 1, _MOST_HITS)
        if excerpt.document:
            beside = heading + 3 * _HEADINGS
            counts[beside] = min(counts.get(beside, 0) + 1, _MOST_HITS)
        if asks_from <= place < asks_to:
            there = heading + 4 * _HEADINGS
            counts[there] = min(counts.get(there, 0) + 1, _MOST_HITS)
    return counts


def _phrase_hits(runs: list[Hashes]) -> list[tuple[int, int]]:
    """(word position, heading) of every phrase of the lexicon, in no order."""
    table = _phrases()
    flat = np.concatenate(runs[:MAX_RUN])
    buckets = flat * table.multiplier
    buckets >>= _BUCKET_SHIFT
    candidates = table.buckets.take(buckets.astype(np.intp))
    at = candidates.nonzero()[0]
    entries = candidates.take(at)
    true = table.hashes.take(entries) == flat.take(at)
    places = at[true] % len(runs[0])
    return list(zip(places.tolist(), table.headings.take(entries[true]).tolist(), strict=True))


_WHOLE = tuple(range(5 * _HEADINGS, COUNT_SIZE))
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


class KernelArrays(NamedTuple):
    """Tables of this module as `kernel.c` reads them, in its order."""

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
    """All that `kernel.c` needs of this module; `seeds`: one a group; `multiplier`: what spreads the phrases."""

    arrays: KernelArrays
    numbers: KernelNumbers
    seeds: list[int]
    multiplier: int
    heading_count: int


_BLOCK_BITS = 6
_FILTER_BITS = 16


def kernel_tables() -> KernelTables:
    phrases = _phrases()
    folded, kinds = alphabet.tables()
    codes = np.arange(len(folded), dtype=_U32)
    spaces = np.array([chr(code).isspace() for code in range(len(folded))], dtype=_U32)
    characters = ((folded - codes) & _U32(0xFFFF)) | kinds.astype(_U32) << _U32(16) | spaces << _U32(24)
    distinct, blocks = np.unique(characters.reshape(-1, 1 << _BLOCK_BITS), axis=0, return_inverse=True)
    occupied = phrases.buckets.reshape(-1, 1 << (_BUCKET_BITS - _FILTER_BITS)).any(axis=1)
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
        bucket_bits=_BUCKET_BITS,
        filter_bits=_FILTER_BITS,
        most_hits=_MOST_HITS,
        skipping=int(_SKIPPING[0]),
        farther=int(_FARTHER[0]),
    )
    arrays = KernelArrays(
        blocks=blocks.ravel().astype(np.uint16),
        characters=distinct.ravel(),
        filter=np.packbits(occupied, bitorder="little"),
        buckets=phrases.buckets,
        phrases=phrases.hashes,
        headings=phrases.headings,
        asking=np.concatenate([asking.WEIGHTS.table, np.array(asking.WEIGHTS.flags, np.int16)]),
        tasks=standing_task.WEIGHTS,
    )
    return KernelTables(arrays, numbers, _SEEDS.tolist(), int(phrases.multiplier), _HEADINGS)
