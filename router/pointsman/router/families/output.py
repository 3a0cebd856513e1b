"""Tell thinking from the answer in a model's output, however it is cut.

Stands beneath the families, which say what their tags are, and above nothing: text comes in, text comes out. The
engine's own parser does this where a pool has one; this one serves the rest, KAT above all, which no engine parses.

Tags vanish, whatever state they turn up in, and no text ever does. A model thinks once, before it answers: once
the answer has begun a tag no longer changes what follows it, so that an answer *about* tags stays an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import NamedTuple, Protocol

from pointsman.contracts.modes import Mode

_TRIMMED = 2
"""Line ends before a closing tag that belong to the tag."""


MOST_HEADER = 256
"""Characters of what follows a tag and is part of the markup; more is text."""


class Kind(Enum):
    """What a piece of output is."""

    REASONING = "reasoning_content"
    ANSWER = "content"


REASONING, ANSWER = Kind.REASONING, Kind.ANSWER


class Piece(NamedTuple):
    """Output of one kind."""

    kind: Kind
    text: str


class Tag(NamedTuple):
    """What a tag says about the text that follows it."""

    follows: Kind
    answers: bool = False
    """Whether what follows is the answer, whatever it looks like."""
    ends: bool = False
    """Whether it closes the answer: line ends before it belong to it."""
    judgement: Mode | None = None
    """The mode that the model thereby judges right."""


class Tags:
    """
    The tags of a family, prepared once. Each begins with the one `<` that is in it.

    What follows one that is `headed`, up to the next tag, is part of the markup where `is_header` says so.
    """

    __slots__ = ("by_text", "headed", "is_header", "longest", "partial", "split")

    def __init__(
        self,
        by_text: Mapping[str, Tag],
        *,
        headed: AbstractSet[str] = frozenset(),
        is_header: Callable[[str], bool] = bool,
    ) -> None:
        self.by_text = dict(by_text)
        self.headed = frozenset(headed)
        self.is_header = is_header
        self.split = re.compile("(" + "|".join(map(re.escape, by_text)) + ")").split
        self.partial = frozenset(tag[:end] for tag in by_text for end in range(1, len(tag)))
        self.longest = max(map(len, by_text))

    def are_in(self, text: str) -> bool:
        """Whether `text` holds one."""
        return len(self.split(text)) > 1

    def removed_from(self, text: str) -> str:
        """`text` without the tags that are in it."""
        return "".join(self.split(text)[::2])

    def begun_at(self, text: str) -> int:
        """Where the tag begins that `text` ends in the middle of; the length of `text` where there is none."""
        at = text.rfind("<", -self.longest)
        return at if at >= 0 and text[at:] in self.partial else len(text)


class Parser(Protocol):
    """Tells thinking from the answer in the output of one choice of one answer."""

    judgement: Mode | None
    """The mode that the model itself judged right, where it has said so."""

    @property
    def kind(self) -> Kind:
        """What the text that was given last is."""

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain once `text` has come, neighbours always of different kinds."""

    def begin_answer(self) -> None:
        """What comes now is the answer: somebody else has taken the thinking out."""

    def finish(self) -> list[Piece]:
        """What was held back, now that the output has ended."""


THINK_TAGS = Tags({"<think>": Tag(REASONING), "</think>": Tag(ANSWER)})
"""The tags that most families share."""


class OutputParser:
    """
    Parses the output of one choice of one answer.

    `thinking`: the prompt has opened the thinking. `answering`: it has opened the answer, which nothing ends.
    `judgement` is the mode that the model itself judged right, where it has said so. Takes time and memory
    proportional to the text, whatever it consists of.
    """

    __slots__ = ("_begun", "_fresh", "_held", "_kind", "_reasoned", "_tags", "_tail", "judgement")

    def __init__(self, tags: Tags, *, thinking: bool = False, answering: bool = False) -> None:
        self._tags = tags
        self._kind = REASONING if thinking else ANSWER
        self._begun = answering
        self._fresh = True  # line ends are left out until there is other text
        self._reasoned = False
        self._tail = ""  # of the answer
        self._held = ""  # may turn out to be a tag, or line ends before one
        self.judgement: Mode | None = None

    @property
    def kind(self) -> Kind:
        """What the text that was given last is."""
        return self._kind

    def feed(self, text: str) -> list[Piece]:
        """The pieces that are certain once `text` has come, neighbours always of different kinds."""
        parts = self._tags.split(self._held + text)
        last = parts[-1]
        cut = self._tags.begun_at(last)
        lines = 0
        while lines < _TRIMMED and last.endswith("\n", 0, cut):
            lines += 1
            cut -= 1
        self._held = last[cut:]
        parts[-1] = last[:cut]
        return self._take(parts)

    def begin_answer(self) -> None:
        """What comes now is the answer: somebody else has taken the thinking out."""
        if not self._begun:
            self._kind, self._begun = ANSWER, True

    def finish(self) -> list[Piece]:
        """What was held back, now that the output has ended."""
        held, self._held = self._held, ""
        return self._take([held])

    def _take(self, parts: list[str]) -> list[Piece]:
        """The pieces of `parts`: text and tags by turns, text first and last."""
        pieces: list[tuple[Kind, list[str]]] = []
        ahead = iter(parts)
        for text in ahead:
            tag = self._tags.by_text.get(next(ahead, ""))
            if tag is not None and (self._kind is REASONING or tag.ends):
                for _ in range(_TRIMMED):
                    text = text.removesuffix("\n")
            text = self._worth(text)
            if self._begun:
                self._tail = (self._tail + text)[-self._tags.longest :]
                if tag is not None and self._tags.begun_at(self._tail) < len(self._tail):
                    text += " "  # else what stands around this tag might make one itself
                    self._tail = ""
            if text:
                if not pieces or pieces[-1][0] is not self._kind:
                    pieces.append((self._kind, []))
                pieces[-1][1].append(text)
            if tag is not None:
                self._pass(tag)
        return [Piece(kind, "".join(texts)) for kind, texts in pieces]

    def _worth(self, text: str) -> str:
        """What is given out of `text`, which stands between two tags or goes on from there."""
        if self._fresh:
            text = text.lstrip("\n")
            if not text:
                return ""
            self._fresh = False
            if self._kind is REASONING and self._reasoned:
                text = "\n\n" + text  # a judgement and the thinking after it are two paragraphs
        if self._kind is REASONING:
            self._reasoned = self._reasoned or bool(text)
        elif not self._begun and text and not text.isspace():
            self._begun = True
        return text

    def _pass(self, tag: Tag) -> None:
        if self._begun:
            return
        if self.judgement is None:
            self.judgement = tag.judgement
        self._kind = tag.follows
        self._begun = tag.answers
        self._fresh = True


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """`pieces`, neighbours of one kind made one."""
    found: list[Piece] = []
    for piece in pieces:
        if found and found[-1].kind is piece.kind:
            found[-1] = Piece(piece.kind, found[-1].text + piece.text)
        else:
            found.append(piece)
    return found
