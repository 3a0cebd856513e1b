"""Copies of a question with courtesies or a document's lines around it, for the predictor to learn from.

Stands beside training and never in the data plane. What people say around a question does not make it harder: a
copy has the label of its question, and teaches the model to read past such words. The phrases in
`data/wrappings.json` are greetings, thanks, backgrounds, personas and signatures; those of the tests that measure
how often a decision flips are others.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from pointsman.router.predictor import asking

if TYPE_CHECKING:
    from pointsman.router.predictor.corpus import Row

FILE = Path(__file__).with_name("data") / "wrappings.json"
LONGEST = 300
"""Characters of a question that is wrapped, at most; longer texts bring surroundings of their own."""
_AROUND = 0.15
"""How many of the copies get a frame of two parts that belong together, in place of phrases before or after."""
_BOTH = 0.6
"""How many of the others get a phrase before and one after."""
_BACKGROUND = 0.35
"""
How many of the phrases before are a background: who asks, and what happened. They are put together from two parts,
so that a model meets too many to learn any of them by heart.
"""
_BEFORE = 0.6
"""How many of the copies with a document's lines, or with a single phrase, have it before the question."""
_STATEMENTS, _SHORTEST, _LONGEST_STATEMENT, _READ = 8, 8, 120, 2000


@cache
def phrases() -> dict[str, dict[str, list[list[str]]]]:
    """
    By language: `before`, `after`, `around`, `background`, each a list of (what stands before, what stands after).
    """
    listed = orjson.loads(FILE.read_bytes())
    return {
        lang: {
            "background": [[who + what, ""] for who in kinds["who"] for what in kinds["what"]],
            "before": [[each, ""] for each in kinds["before"]],
            "after": [["", each] for each in kinds["after"]],
            "around": kinds["around"],
        }
        for lang, kinds in listed.items()
    }


class Wrapping:
    """Wraps questions; what it puts before or after them comes from the phrases and from documents of `rows`."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._lines: dict[str, dict[str, str]] = {}
        documents = {row.pair or row.text: row for row in rows if row.kind == "document"}
        for name, row in documents.items():
            lines = self._lines.setdefault(row.lang, {})
            lines.update(dict.fromkeys(_statements(row.text), name))

    def copies(self, row: Row) -> list[str]:
        """
        Two copies between courtesies and one beside lines of another row's document, where there are some; none of
        a long text, or of one in a language without phrases. The same question among the same rows gets the same.
        """
        if len(row.text) > LONGEST or row.lang not in phrases():
            return []
        chance = random.Random(row.text)
        courtesies = [among_courtesies(row.text, row.lang, chance) for _ in range(2)]
        return [*courtesies, self._beside_lines(row, chance)] if self._lines.get(row.lang) else courtesies

    def _beside_lines(self, row: Row, chance: random.Random) -> str:
        lines = list(self._lines[row.lang].items())
        at = chance.randrange(len(lines))
        beside = [text for text, of in lines[at : at + chance.randint(1, 3)] if of != row.pair] or [lines[0][0]]
        gap = chance.choice(["\n", "\n\n", " " if row.lang == "en" else ""])
        order = [gap.join(beside), row.text]
        return gap.join(order if chance.random() < _BEFORE else order[::-1])


def among_courtesies(text: str, lang: str, chance: random.Random) -> str:
    """`text` with one or two of the phrases of `lang` around it."""
    known = phrases()[lang]
    if chance.random() < _AROUND:
        chosen = [chance.choice(known["around"])]
    else:
        before = chance.choice(known["background" if chance.random() < _BACKGROUND else "before"])
        after = chance.choice(known["after"])
        chosen = [before, after] if chance.random() < _BOTH else [before] if chance.random() < _BEFORE else [after]
    return "".join(before for before, _ in chosen) + text + "".join(after for _, after in chosen)


def _statements(text: str) -> list[str]:
    """Up to `_STATEMENTS` sentences of a document that ask for nothing."""
    found = asking.sentences(text[:_READ])
    quiet = [place for place in range(len(found)) if asking.score(text, found, place) <= asking.LEAST]
    said = [text[found[place].begin : found[place].end] for place in quiet]
    return [each for each in said if _SHORTEST <= len(each) <= _LONGEST_STATEMENT][:_STATEMENTS]
