"""Where in a long text somebody asks: its lines and sentences, each scored for how much it is addressed to whom it
is sent to.

Stands below the excerpt. A report with a question before, behind or in its middle is judged by the question, so the
two are told apart first: by a small linear model over the words of a line and over how it stands among the others.
Its weights are whole numbers, so that this module and `excerpt.c` choose the same lines on every machine; they are
in `data/asking.weights`, made by `asking_training.py`. Pure string work over at most `MOST_SCORED` lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import alphabet
from pointsman.router.predictor.alphabet import TokenKind

FILE = Path(__file__).with_name("data") / "asking.weights"
TABLE_BITS = 14
SEEDS = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
"""What sends the hashes of words, pairs of words and words' beginnings to cells of their own."""
UNIT = 256
"""What counts 1 in a score."""
LEAST = 0
"""A line whose score is above this is part of what is asked; where there is none, all of them are."""
MATERIAL = 20
"""Characters of other lines from which these are left out: fewer belong to what is asked."""
LONGEST_LINE = 600
"""A line of at most as many characters is read as a whole where one of its sentences asks."""
MOST_SCORED = 200
CERTAIN = 2 * UNIT
"""The score of what stands alone: it asks, for lack of anything else that could."""
_CUT_FROM = 60
_SHORTEST_SENTENCE = 20
READ = 160
"""Characters of a sentence whose words are looked at."""
EDGES = "-=*_`#~> \t\r\"'“”«»|<「」"
"""What is taken off both ends of a line: it marks, and says nothing."""
_BULLETS = "-*•·|>#"
_QUESTION_MARKS = "?？؟"
_COLONS = ":："
_STOPS = ".。!！"
_CJK_STOPS = "。！？"
_MARKS = "|,;:{}[]()=<>/\\_、：；（）"
_CELLS = "{|\t"

FLAGS = (
    *("is the first", "is the second", "is the third", "is the last", "is the last but one", "is the last but two"),
    *("ends with a question mark", "ends with a colon", "begins with a digit", "is an item of a list"),
    *("begins a paragraph", "ends a paragraph", "goes on a line", "is gone on with in its line"),
    *("is very short", "is long", "is very long", "is full of digits", "has no digit", "is full of marks"),
    *("ends with a full stop", "holds a question mark", "looks like a row of cells"),
    *("is the first and ends with a question mark", "is the last and ends with a question mark", "is a line"),
)
"""What is looked at beside the words of a sentence."""


class Sentence(NamedTuple):
    """
    A sentence, or a line that is not cut into several.

    `begin`, `end`: where it stands; `line`: the number of its line; `before`, `after`: what is between it and its
    neighbours: 0 nothing (the same line), 1 a line break, 2 an empty line, a rule, or the edge of the text.
    `bullet`: whether its line begins as an item of a list.
    """

    begin: int
    end: int
    line: int
    before: int
    after: int
    bullet: bool


class Focus(NamedTuple):
    """
    The sentence of a text that asks the most.

    `begin`, `end`: where it stands; `place`: how many sentences are before it; `total`: how many there are;
    `asking`: how many of them ask; `points`: its score.
    """

    begin: int
    end: int
    place: int
    total: int
    asking: int
    points: int


def sentences(text: str) -> list[Sentence]:
    """The sentences of `text`, without what only marks; none of them is empty."""
    found: list[Sentence] = []
    gap, number, at = 2, 0, 0
    while at <= len(text):
        stop = text.find("\n", at)
        stop = len(text) if stop < 0 else stop
        begin, end = at, stop
        while begin < end and text[begin] in EDGES:
            begin += 1
        while end > begin and text[end - 1] in EDGES:
            end -= 1
        bullet = at < stop and text[at] in _BULLETS
        parts = list(_parts(text, begin, end))
        if not parts:
            gap = 2
            if found:
                found[-1] = found[-1]._replace(after=2)
        for place, (first, last) in enumerate(parts):
            before = 0 if place else gap
            after = 1 if place == len(parts) - 1 else 0
            found.append(Sentence(first, last, number, before, after, bullet))
        if parts:
            gap, number = 1, number + 1
        at = stop + 1
    if found:
        found[-1] = found[-1]._replace(after=2)
    return found


def _parts(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    if end - begin <= _CUT_FROM:
        found = _stripped(text, begin, end)
        if found is not None:
            yield found
        return
    at = start = begin
    while at < end:
        stop = 0
        if at + 1 - start >= _SHORTEST_SENTENCE and at + 1 < end:
            if text[at] in _CJK_STOPS:
                stop = at + 1
            elif text[at] in ".!?" and text[at + 1].isspace():
                stop = at + 2
        if stop:
            found = _stripped(text, start, stop)
            if found is not None:
                yield found
            start = stop
            at = stop
        else:
            at += 1
    found = _stripped(text, start, end)
    if found is not None:
        yield found


def _stripped(text: str, begin: int, end: int) -> tuple[int, int] | None:
    while begin < end and text[begin].isspace():
        begin += 1
    while end > begin and text[end - 1].isspace():
        end -= 1
    return (begin, end) if begin < end else None


def flags(text: str, found: list[Sentence], place: int) -> list[int]:
    """Which of `FLAGS` are so of the sentence at `place`, in their order."""
    kinds = _letters()[1]
    begin, end, _, before, after, bullet = found[place]
    size, last = end - begin, len(found) - 1
    read = text[begin : min(end, begin + READ)]
    final = text[end - 1]
    asks = final in _QUESTION_MARKS
    digits = sum(kinds[min(ord(letter), alphabet.LIMIT)] == TokenKind.DIGIT for letter in read)
    marks = sum(letter in _MARKS for letter in read)
    return [
        *(place == 0, place == 1, place == 2, place == last, place == last - 1, place == last - 2),
        asks,
        final in _COLONS,
        kinds[min(ord(read[0]), alphabet.LIMIT)] == TokenKind.DIGIT,
        bullet,
        *(before == 2, after == 2, before == 0, after == 0),
        *(size < 12, size > 120, size > 200),
        *(digits * 8 > len(read), digits == 0, marks * 8 > len(read)),
        final in _STOPS,
        any(letter in _QUESTION_MARKS for letter in read),
        any(letter in _CELLS for letter in read),
        asks and place == 0,
        asks and place == last,
        True,
    ]


@cache
def _letters() -> tuple[list[int], list[int]]:
    """Hash and kind of each code point up to the last that is told apart."""
    return alphabet.letter_hashes().tolist(), alphabet.tables()[1].tolist()


def cells(text: str) -> list[int]:
    """The cells of the words, pairs and beginnings of one sentence; a multiple of three, at least three."""
    letters, kinds = _letters()
    codes = [min(ord(letter), alphabet.LIMIT) for letter in text[:READ]]
    pad = letters[0]
    words, beginnings = [pad], [pad]
    at, size = 0, len(codes)
    while at < size:
        kind = kinds[codes[at]]
        if kind == TokenKind.SPACE:
            at += 1
            continue
        word = beginning = letters[codes[at]]
        power, until = alphabet.BASE, at + alphabet.BEGINNING
        at += 1
        while kind != TokenKind.SINGLE and at < size and kinds[codes[at]] == kind:
            word = (word + letters[codes[at]] * power) & 0xFFFFFFFF
            power = power * alphabet.BASE & 0xFFFFFFFF
            if at < until:
                beginning = word
            at += 1
        words.append(word)
        beginnings.append(beginning)
    following = [*words[1:], pad]
    pairs = [(word + other * alphabet.BASE) & 0xFFFFFFFF for word, other in zip(words, following, strict=True)]
    return [
        (value * seed & 0xFFFFFFFF) >> (32 - TABLE_BITS)
        for seed, values in zip(SEEDS, (words, pairs, beginnings), strict=True)
        for value in values
    ]


class Weights(NamedTuple):
    """Whole numbers: of the cells int16 [2^TABLE_BITS], of the flags [len(FLAGS)], in units of 1/`UNIT`."""

    table: npt.NDArray[np.int16]
    flags: list[int]


def _read() -> tuple[Weights, str]:
    try:
        content = FILE.read_bytes()
    except FileNotFoundError:  # not trained yet: all lines are alike
        content = bytes(2 * ((1 << TABLE_BITS) + len(FLAGS)))
    numbers = np.frombuffer(content, "<i2")
    table = numbers[: 1 << TABLE_BITS]
    return Weights(table, numbers[1 << TABLE_BITS :].tolist()), hashlib.sha256(content).hexdigest()[:12]


WEIGHTS, FINGERPRINT = _read()
_TABLE: list[int] = WEIGHTS.table.tolist()


def score(text: str, found: list[Sentence], place: int) -> int:
    """How much the sentence at `place` asks, in units of 1/`UNIT`."""
    begin, end = found[place][:2]
    hit = cells(text[begin : min(end, begin + READ)])
    total = sum([_TABLE[cell] for cell in hit])
    said = sum(weight for weight, so in zip(WEIGHTS.flags, flags(text, found, place), strict=True) if so)
    return (total * isqrt((1 << 24) // (len(hit) // 3)) >> 12) + said


def focus(text: str) -> Focus:
    """The sentence of `text` that asks the most; of a text without any, or with one, all of it."""
    found = sentences(text)
    if len(found) < 2:
        return Focus(0, len(text), 0, len(found), 0, CERTAIN)
    scores = [score(text, found, place) for place in range(len(found))]
    best = max(range(len(found)), key=scores.__getitem__)
    asking = sum(points > LEAST for points in scores)
    return Focus(found[best].begin, found[best].end, best, len(found), asking, scores[best])


def asked(text: str) -> str | None:
    """
    The lines of `text` that ask, joined by line breaks.

    None where nothing worth leaving out stands beside them, and where no line looks as if it asked: then any may.
    """
    if len(text) <= MATERIAL or (len(text) <= LONGEST_LINE and "\n" not in text):
        return None
    found = sentences(text)
    count = len(found)
    if count < 2:
        return None
    half = MOST_SCORED // 2
    scored = range(count) if count <= MOST_SCORED else (*range(half), *range(count - half, count))
    scores = {place: score(text, found, place) for place in scored}
    asking = {place for place, points in scores.items() if points > LEAST}
    if not asking:
        return None
    lines = {found[place].line for place in asking}
    sizes = dict.fromkeys(lines, 0)
    for begin, end, line, *_ in found:
        if line in sizes:
            sizes[line] += end - begin
    whole = {line for line, size in sizes.items() if size <= LONGEST_LINE}
    kept = [place for place, each in enumerate(found) if place in asking or each.line in whole]
    size = sum(end - begin for begin, end, *_ in found)
    if size - sum(found[place].end - found[place].begin for place in kept) < MATERIAL:
        return None
    parts: list[str] = []
    previous = -2
    for place in kept:
        begin, end, _, before, *_ = found[place]
        if parts:
            parts.append(" " if before == 0 and previous == place - 1 else "\n")
        parts.append(text[begin:end])
        previous = place
    return "".join(parts)
