"""The part of a text that is read: the question apart from pasted documents, its head and its tail.

Stands before the features. Whatever the length of a text, only `_REACH` characters from each end are looked at,
so a request of 8 MB costs what a request of 8 KB costs. Pure string work, no NumPy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pointsman.router.predictor.alphabet import PAD

HEAD, TAIL = 400, 200
LONGEST = HEAD + TAIL + 1
_REACH = 2000
_RUNS = ("  ", "\n\n", " \n", "\n ", "\t", "\r")
_NAMES = (
    r"documents?|context|doc|article|files?|file_contents?|sources?|passages?|transcript|search_results?|attachment"
    r"|email|log|logs|data|report|paper|page|webpage|content|background|reference|references|history|conversation"
    r"|文档|资料|文章|文書|資料|本文"
)
_CLOSING = re.compile(rf"</(?:{_NAMES})\s*>", re.IGNORECASE)
_OPENING = re.compile(rf"<(?:{_NAMES})(?:\s[^<>]{{0,200}})?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """
    What the model reads of a text.

    `text`: at most `LONGEST` characters, runs of white space folded to one blank; `length`: characters of the
    whole text; `lines`: line breaks in what was read; `document`: whether a marked document was cut off.
    """

    text: str
    length: int
    lines: int
    document: bool


def excerpt(text: str) -> Excerpt:
    """What is read of `text`, of whatever length, in constant time. Any string is welcome, an empty one too."""
    length = len(text)
    read = shortened(text)
    document = False
    if "</" in read:
        read, document = _without_documents(read)
    return Excerpt(_cut(read), length, read.count("\n"), document)


def shortened(text: str) -> str:
    """`text`, or of a long one only its two ends."""
    return text if len(text) <= 2 * _REACH else f"{text[:_REACH]}{PAD}{text[-_REACH:]}"


def _without_documents(text: str) -> tuple[str, bool]:
    """Drop what lies between the first opening and the last closing tag of a document, unless nothing is left."""
    opening = _OPENING.search(text)
    ends = [match.end() for match in _CLOSING.finditer(text)]
    if not ends or opening is None:
        return text, False
    rest = f"{text[: opening.start()]} {text[ends[-1] :]}"
    return (rest, True) if rest.strip() else (text, False)


def _cut(text: str) -> str:
    """Fold runs of white space, keep `HEAD` and `TAIL` characters; reads twice as many, in case of many blanks."""
    if len(text) <= 2 * (HEAD + TAIL):
        folded = _fold(text)
        return folded if len(folded) <= HEAD + TAIL else f"{folded[:HEAD]}{PAD}{folded[-TAIL:]}"
    return f"{_fold(text[: 2 * HEAD])[:HEAD]}{PAD}{_fold(text[-2 * TAIL :])[-TAIL:]}"


def _fold(text: str) -> str:
    """Cutting and joining costs ten times what looking for a run costs, and most texts hold none."""
    if any(run in text for run in _RUNS):
        return " ".join(text.split())
    return text.strip()
