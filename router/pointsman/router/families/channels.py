"""Tell thinking from the answer in an output that consists of messages, each of a channel: the harmony format.

Stands beside `output.py`, whose tags are about the text that follows them; here a message has a header, which is no
text, and its channel says what the message is. Most engines read the format by its tokens; this is for those that
give it as text:

    <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>

`analysis` is thinking. `final` is the answer and the last message: what looks like a tag in it changes nothing any
more. `commentary` is said to the user, or to a tool where no parser of the engine's has taken it out. What stands
where a header should be and is none is text: no text is ever lost.
"""

from __future__ import annotations

import re

from pointsman.contracts.modes import Mode
from pointsman.router.families.output import ANSWER, MOST_HEADER, REASONING, Kind, Piece, Tag, Tags, joined

_START, _CHANNEL, _CONSTRAIN, _MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"

_HEADER = re.compile(
    r"\s*(?:assistant)?\s*(?P<channel>analysis|commentary|final)?\s*(?:to(?:=\S{0,200})?)?\s*(?:json|code)?\s*"
)

CHANNEL_TAGS = Tags(
    {tag: Tag(ANSWER) for tag in (_START, _CHANNEL, _CONSTRAIN, _MESSAGE, "<|end|>", "<|return|>", "<|call|>")},
    headed={_START, _CHANNEL, _CONSTRAIN},
    is_header=lambda text: len(text) <= MOST_HEADER and _HEADER.fullmatch(text) is not None,
)


class ChannelParser:
    """Parses the output of one choice of one answer; `output.Parser`. Nothing in it is a judgement."""

    __slots__ = ("_begun", "_fresh", "_header", "_held", "_kind", "_said", "_tail", "judgement")

    def __init__(self) -> None:
        self._kind = ANSWER
        self._begun = False  # the answer, which nothing ends
        self._fresh = False  # a message has begun, and has no text yet
        self._said: set[Kind] = set()
        self._header: str | None = None  # what has come of one
        self._held = ""  # may turn out to be a tag
        self._tail = ""
        self.judgement: Mode | None = None

    @property
    def kind(self) -> Kind:
        return self._kind

    def feed(self, text: str) -> list[Piece]:
        parts = CHANNEL_TAGS.split(self._held + text)
        cut = CHANNEL_TAGS.begun_at(parts[-1])
        self._held = parts[-1][cut:]
        parts[-1] = parts[-1][:cut]
        return self._take(parts)

    def begin_answer(self) -> None:
        self._kind, self._begun = ANSWER, True

    def finish(self) -> list[Piece]:
        held, self._held = self._held, ""
        pieces = self._take([held])
        header, self._header = self._header, None
        if header and _HEADER.fullmatch(header) is None:
            self._say(header, pieces)
        return joined(pieces)

    def _take(self, parts: list[str]) -> list[Piece]:
        """The pieces of `parts`: text and tags by turns, text first and last."""
        pieces: list[Piece] = []
        for at, part in enumerate(parts):
            if at % 2:
                self._pass(part, pieces)
            elif self._header is None:
                self._say(part, pieces)
            else:
                self._header += part
                if len(self._header) > MOST_HEADER:
                    header, self._header = self._header, None
                    self._say(header, pieces)
        return joined(pieces)

    def _pass(self, tag: str, pieces: list[Piece]) -> None:
        header, self._header = self._header, None
        found = None if header is None else _HEADER.fullmatch(header)
        if header and found is None:
            self._say(header, pieces)
        if CHANNEL_TAGS.begun_at(self._tail) < len(self._tail):
            self._say(" ", pieces)  # else what stands around this tag might make one itself
        if self._begun:
            return
        if tag in CHANNEL_TAGS.headed:
            self._header = f"{header} " if header and found else ""
        elif tag == _MESSAGE:
            if found is not None:
                self._kind = REASONING if found["channel"] == "analysis" else ANSWER
                self._begun = found["channel"] == "final"
                self._fresh = self._kind in self._said
        else:
            self._kind = ANSWER

    def _say(self, text: str, pieces: list[Piece]) -> None:
        if not text:
            return
        if self._fresh:
            text = "\n\n" + text  # two messages of a kind are two paragraphs
            self._fresh = False
        self._said.add(self._kind)
        self._tail = (self._tail + text)[-CHANNEL_TAGS.longest :]
        pieces.append(Piece(self._kind, text))
