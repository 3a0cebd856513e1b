"""The token rule of the simulated engine: how text is counted and cut where no tokenizer is.

A token is the word `[simulated]`, or up to six word characters with the one space before them, or any other
single character. A text therefore never has more tokens than characters, nor more than UTF-8 bytes. A chat
message costs `MESSAGE_OVERHEAD` tokens more and the opening of the answer `ANSWER_OPENING`, as a chat template's
marks would. Pure: no state, no I/O.
"""

from __future__ import annotations

import re

MARK = "[simulated]"
"""Stands first in every text the engine makes, and is one token."""

MESSAGE_OVERHEAD = 4
"""Tokens of the template around one chat message."""

ANSWER_OPENING = 3
"""Tokens of the template that open the assistant's turn."""

_TOKEN = re.compile(re.escape(MARK) + r"| ?\w{1,6}|.", re.DOTALL)


def split(text: str) -> list[str]:
    """The tokens of `text`; joined, they are `text` again."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """Tokens of `text`."""
    return len(_TOKEN.findall(text))
