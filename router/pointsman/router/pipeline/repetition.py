"""Whether a text has come to say the same thing over and over: the commonest way in which a model never ends.

Stands apart from the streams because it is a pure function of text, looked at in stretches. What counts as the same
thing is strict, so that no table, drawing or listing is taken for it: a unit of at most `LONGEST` characters,
exactly repeated and nothing else, for longer than people ask for.
"""

from __future__ import annotations

LONGEST = 200
"""Characters of the unit that is repeated, at most."""

OFTEN = 8
"""How often it must stand in a row."""

WORDS = 2_000
"""Characters that must be repetition where the unit has words in it."""

MARKS = 6_000
"""Characters that must be repetition where it has none: rules, empty grids and rows of noughts may be long."""

STRETCH = LONGEST * OFTEN
"""Characters after which a look is worth it: the longest unit, as often as it must stand."""

_ANCHOR = 16
_WORD = 3


class Repetition:
    """Looks at one text, stretch by stretch."""

    __slots__ = ("_run", "_tail")

    def __init__(self) -> None:
        self._tail = ""
        self._run = 0  # characters at the end of the text that are known to be repetition

    @property
    def length(self) -> int:
        """Characters at the end of the text that are known to be repetition."""
        return self._run

    def skip(self) -> None:
        """What follows does not join what was looked at."""
        self._tail = ""
        self._run = 0

    def look(self, stretch: str) -> bool | None:
        """
        Take `stretch`, which follows what was taken before.

        True where the text does nothing but repeat itself; None where it may, and the next stretch will tell.
        """
        text = self._tail + stretch
        unit = _period(text)
        self._tail = text[-STRETCH:]
        if not unit:
            self._run = 0
            return False
        run = _run(text, unit)
        # A run that fills the whole text goes on from the one before it.
        self._run = self._run + len(stretch) if run == len(text) and self._run else run
        if self._run < unit * OFTEN:
            return False
        needed = WORDS if _has_word(text[-unit:] * 2) else MARKS
        return True if self._run >= needed else None


def recurs(text: str) -> bool:
    """Whether the end of `text` came before, within the longest unit of it: else it repeats nothing."""
    anchor = text[-_ANCHOR:]
    return len(anchor) < _ANCHOR or text.find(anchor, -_ANCHOR - LONGEST, -1) >= 0


def _period(text: str) -> int:
    """The length of the unit that the end of `text` repeats, or 0."""
    anchor = text[-_ANCHOR:]
    if len(anchor) < _ANCHOR:
        return 0
    end = len(text)
    at = text.rfind(anchor, 0, end - 1)
    while at >= 0 and (unit := end - _ANCHOR - at) <= LONGEST:
        if text.endswith(text[-unit:] * OFTEN):
            return unit
        at = text.rfind(anchor, 0, at + _ANCHOR - 1)
    return 0


def _run(text: str, unit: int) -> int:
    """Characters at the end of `text` that repeat a unit of so many; the greatest number is found by halving."""
    low, high = unit, len(text)
    if text[unit:] == text[:-unit]:
        return high
    while low + 1 < high:
        middle = (low + high) // 2
        tail = text[-middle:]
        if tail[unit:] == tail[:-unit]:
            low = middle
        else:
            high = middle
    return low


def _has_word(text: str) -> bool:
    """Whether there are letters in a row, as many as make a word, and not one letter alone."""
    count = 0
    for letter in text:
        count = count + 1 if letter.isalpha() else 0
        if count >= _WORD and len(set(text)) > 2:
            return True
    return False
