"""Take the tags out of the log-probabilities of an output, which come token by token.

Stands beside `output.py`, which does so with the text: a client that gets a list of tokens with their probabilities
must not read in it what is no text. A tag may be one token or several, and a token that holds any of a tag goes; so
does an alternative that is one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pointsman.router.families.output import MOST_HEADER, Tags

Entry = dict[str, Any]
"""One token as engines tell it: `token`, `logprob`, `bytes`, `top_logprobs`."""


class _Held(NamedTuple):
    """Text that may be part of a tag, and the token that it is of; None where that holds another tag."""

    text: str
    entry: Entry | None


class TagFreeTokens:
    """Passes on the tokens of one choice that are text, as soon as that is certain of each."""

    __slots__ = ("_header", "_held", "_tags")

    def __init__(self, tags: Tags) -> None:
        self._tags = tags
        self._held: list[_Held] = []
        self._header: list[_Held] | None = None  # what has come of one

    def feed(self, entries: list[Entry]) -> list[Entry]:
        """The tokens that are certain once `entries` have come."""
        passed: list[Entry] = []
        for entry in entries:
            if text := _text(entry):
                self._held.append(_Held(text, entry))
                self._look(passed)
            else:
                passed.append(self._cleared(entry))  # part of a character, say
        return passed

    def finish(self) -> list[Entry]:
        """Those that were held back, now that the output has ended."""
        passed: list[Entry] = []
        self._release(len(_joined(self._held)), passed)
        self._end_header(passed)
        return passed

    def _look(self, passed: list[Entry]) -> None:
        tags = self._tags
        text = _joined(self._held)
        while len(parts := tags.split(text)) > 1:
            before, tag = parts[0], parts[1]
            # What may be the beginning of a tag goes too: what follows this one could be its end.
            self._release(tags.begun_at(before), passed)
            self._end_header(passed)
            text = text[len(before) + len(tag) :]
            self._drop(len(_joined(self._held)) - len(text))
            if tag in tags.headed:
                self._header = []
        self._release(tags.begun_at(text), passed)

    def _drop(self, length: int) -> None:
        """Forget so much of the held text, and every token that it is of."""
        while length > 0:
            text, _ = self._held.pop(0)
            if len(text) > length:
                self._held.insert(0, _Held(text[length:], None))
            length -= len(text)

    def _release(self, end: int, passed: list[Entry]) -> None:
        """Pass on the tokens that lie before `end` of the held text."""
        taken = at = 0
        for held in self._held:
            at += len(held.text)
            if at > end:
                break
            taken += 1
        released, self._held = self._held[:taken], self._held[taken:]
        if self._header is None:
            passed += [self._cleared(entry) for _, entry in released if entry is not None]
            return
        self._header += released
        if len(_joined(self._header)) > MOST_HEADER:
            self._end_header(passed)

    def _end_header(self, passed: list[Entry]) -> None:
        header, self._header = self._header, None
        if header and not self._tags.is_header(_joined(header)):
            passed += [self._cleared(entry) for _, entry in header if entry is not None]

    def _cleared(self, entry: Entry) -> Entry:
        """`entry` without the alternatives that hold a tag."""
        others = entry.get("top_logprobs")
        if not isinstance(others, list):
            return entry
        kept = [other for other in others if isinstance(other, dict) and not self._tags.are_in(_text(other))]
        return entry if len(kept) == len(others) else {**entry, "top_logprobs": kept}


def _text(entry: Entry) -> str:
    text = entry.get("token")
    return text if isinstance(text, str) else ""


def _joined(held: list[_Held]) -> str:
    return "".join([text for text, _ in held])
