"""The prefix cache: how much of a prompt the engine has read before.

Stands in for SGLang's radix cache: prompts are remembered in blocks of `BLOCK` tokens, each known by all that
stands before it, the least recently used forgotten first. `cache_salt` keeps tenants apart, as it does there.
What the engine says itself is not remembered. Pure: no socket, no clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

BLOCK = 16
"""Tokens of one block."""


class PrefixCache:
    """Remembers about `capacity` tokens of prompts; 0: none."""

    def __init__(self, capacity: int) -> None:
        self._blocks = capacity // BLOCK
        self._known: OrderedDict[int, None] = OrderedDict()

    def read(self, salt: str, prompt: Sequence[str]) -> int:
        """
        How many of the first tokens of `prompt` were known, and remember all of them.

        Always less than the whole prompt: the last token is read anew, as its outcome starts the answer.
        """
        cached, missed = 0, False
        place = hash(salt)
        for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
            place = hash((place, *prompt[start : start + BLOCK]))
            if place in self._known:
                self._known.move_to_end(place)
                cached += 0 if missed else BLOCK
            else:
                missed = True
                self._known[place] = None
        while len(self._known) > self._blocks:
            self._known.popitem(last=False)
        return max(min(cached, len(prompt) - 1), 0)
