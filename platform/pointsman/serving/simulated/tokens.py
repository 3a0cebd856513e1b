"""The token rule of the simulated engine: how text is counted and cut where no tokenizer is.

A token is the word `[simulated]`, or up to six word characters with the one space before them, or any other
single character. A text therefore never has more tokens than characters, nor more than UTF-8 bytes. Each message
of a chat costs four tokens more and the opening of the answer three, the template's marks. Pure: no state, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MARK = "[simulated]"
"""Stands first in every text the engine makes, and is one token."""

_TOKEN = re.compile(re.escape(MARK) + r"| ?\w{1,6}|.", re.DOTALL)


def split(text: str) -> list[str]:
    """The tokens of `text`; joined, they are `text` again."""
    return _TOKEN.findall(text)


def chat_prompt(turns: Iterable[tuple[str, str]]) -> list[str]:
    """The tokens of a chat, given as pairs of role and text, with the template's marks."""
    prompt: list[str] = []
    for role, text in turns:
        prompt += ["<|im_start|>", role, "\n", *split(text), "<|im_end|>"]
    return [*prompt, "<|im_start|>", "assistant", "\n"]
