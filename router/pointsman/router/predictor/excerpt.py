"""The part of a text that is read: the question apart from pasted documents, its head and its tail.

Stands before the features. Whatever the length of a text, only a few thousand characters from each end are looked
at, so a request of 8 MB costs what a request of 8 KB costs. Of those, the lines that ask are read, where others
stand beside them (`asking.py`). Their first and last lines count once more by themselves: most people say there
what they want. Pure string work, no NumPy.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pointsman.router.predictor import asking
from pointsman.router.predictor.alphabet import PAD
from pointsman.router.predictor.asking import Focus

HEAD, TAIL = 400, 200
LONGEST = HEAD + TAIL + 1
_REACH = 2000
_OPENING, _CLOSING = 120, 160
_COLONS = (":", "：")
_RULES = "-=*_`#~> \t\r\n"
"""What a line that only closes a block is made of."""
_SENTENCE_END = re.compile(r"[.!?]\s|[。！？]")
TAGS = (
    *("document", "documents", "doc", "context", "article", "file", "files", "file_content", "file_contents"),
    *("source", "sources", "passage", "passages", "transcript", "search_result", "search_results", "attachment"),
    *("email", "log", "logs", "data", "report", "paper", "page", "webpage", "content", "background", "reference"),
    *("references", "history", "conversation", "文档", "资料", "文章", "文書", "資料", "本文"),
)
"""What the tags around a document are called, in capitals or not."""
_NAMES = "|".join(TAGS)
_DOCUMENT_ENDS = re.compile(rf"</(?:{_NAMES})\s*>", re.IGNORECASE)
_DOCUMENT_BEGINS = re.compile(rf"<(?:{_NAMES})(?:\s[^<>]{{0,200}})?>", re.IGNORECASE)


class Excerpt(NamedTuple):
    """
    What the model reads of a text.

    `text`: at most `LONGEST` characters; `opening`, `closing`: how many characters of it, from the start and from
    the end, are its first and its last lines or sentences; `document`: whether a long text beside the question was
    left out; `focus`: the sentence of it that asks the most; `around`: where lines were left out, the beginning and
    the end of all, cut as `text` is.
    """

    text: str
    opening: int
    closing: int
    document: bool
    focus: Focus = Focus(0, 0, 0, 0, 0, 0)
    around: str = ""


def excerpt(text: str) -> Excerpt:
    """What is read of `text`, of whatever length, in constant time. Any string is welcome, an empty one too."""
    rest, document = without_documents(text)
    return excerpt_of_rest(rest, document)


def excerpt_of_rest(text: str, document: bool) -> Excerpt:
    """What is read of a text whose marked documents are left out already, as `document` says."""
    seen = text if len(text) <= 2 * _REACH else f"{text[:_REACH]}\n{text[-_REACH:]}"
    question = asking.asked(seen)
    cut = _ends(text if question is None else question)
    around = "" if question is None else _ends(text)
    opening, closing = _first_lines(cut), _last_lines(cut)
    return Excerpt(cut, opening, closing, document or question is not None, asking.focus(cut), around)


def _ends(text: str) -> str:
    return text.strip() if len(text) <= HEAD + TAIL else f"{text[:HEAD].lstrip()}{PAD}{text[-TAIL:].rstrip()}"


def without_documents(text: str) -> tuple[str, bool]:
    """`text` without documents between tags, and whether there were any; of a long text then only its ends."""
    if text.find("</", 0, _REACH) >= 0 or text.find("</", max(_REACH, len(text) - _REACH)) >= 0:
        return _without_documents(shortened(text))
    return text, False


def shortened(text: str) -> str:
    """`text`, or of a long one only its two ends."""
    return text if len(text) <= 2 * _REACH else f"{text[:_REACH]}{PAD}{text[-_REACH:]}"


def _without_documents(text: str) -> tuple[str, bool]:
    """Drop what lies between the first opening and the last closing tag of a document, unless nothing is left."""
    begin = _DOCUMENT_BEGINS.search(text)
    ends = [match.end() for match in _DOCUMENT_ENDS.finditer(text)]
    if not ends or begin is None:
        return text, False
    rest = f"{text[: begin.start()]}\n{text[ends[-1] :]}"
    return (rest, True) if rest.strip() else (text, False)


def _first_lines(text: str) -> int:
    """Characters of the first line, with the next where it is a mere heading; of a long one its first sentences."""
    end = text.find("\n", 0, _OPENING)
    if 0 < end <= 40 and text[:end].rstrip().endswith(_COLONS):
        end = text.find("\n", end + 2, _OPENING + end)
    if end > 0:
        return end
    if len(text) <= _OPENING:
        return len(text)
    sentence = _SENTENCE_END.search(text, 40, _OPENING)
    return sentence.end() if sentence else _OPENING


def _last_lines(text: str) -> int:
    """Characters of the last line, with the one before where it is a mere cue; of a long one its last sentences."""
    length = len(text)
    said = len(text.rstrip(_RULES)) if text[-1:] in _RULES else length
    start = text.rfind("\n", max(0, length - _CLOSING), said)
    if start >= 0 and said - start <= 24 and text[:said].endswith(_COLONS):
        start = text.rfind("\n", max(0, length - _CLOSING), len(text[:start].rstrip()))
    if start >= 0:
        return length - start - 1
    if length <= _CLOSING:
        return length
    sentence = _SENTENCE_END.search(text, length - _CLOSING, length - 20)
    return length - sentence.end() if sentence else _CLOSING
