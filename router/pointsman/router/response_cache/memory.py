"""Answers that this process has recorded or read lately: those are given without asking Redis.

Bounded by bytes; what was asked for longest ago goes first. Nothing here is older than it may be, by the monotonic
clock, which nobody can set back.
"""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic, time

from pointsman.router.metrics import Cell
from pointsman.router.response_cache.recorded import Recorded
from pointsman.store.response_cache import AnswerKey

_OVERHEAD = 2048
"""Bytes that an answer takes beside its body, about."""


class Memory:
    """Answers by their keys: `most` bytes of them together. `size` shows how many there are."""

    def __init__(self, most: int, size: Cell) -> None:
        self._most = most
        self._size = size
        self._bytes = 0
        self._answers: OrderedDict[AnswerKey, tuple[Recorded, float]] = OrderedDict()
        size.set(0)

    def get(self, key: AnswerKey) -> Recorded | None:
        """The answer under `key`, unless it has expired."""
        found = self._answers.get(key)
        if found is None:
            return None
        recorded, deadline = found
        if monotonic() >= deadline:
            self.drop(key)
            return None
        self._answers.move_to_end(key)
        return recorded

    def put(self, key: AnswerKey, recorded: Recorded) -> None:
        """Keep `recorded` under `key` until it expires, or has to make room."""
        self.drop(key)
        left = recorded.expires_at - time()
        size = len(recorded.body) + _OVERHEAD
        if left <= 0 or size > self._most:
            return
        self._answers[key] = recorded, monotonic() + left
        self._bytes += size
        while self._bytes > self._most:
            self.drop(next(iter(self._answers)))
        self._size.set(self._bytes)

    def drop(self, key: AnswerKey) -> None:
        """Forget what is under `key`, if anything is."""
        found = self._answers.pop(key, None)
        if found is not None:
            self._bytes -= len(found[0].body) + _OVERHEAD
            self._size.set(self._bytes)

    def clear(self) -> None:
        """Forget all."""
        self._answers.clear()
        self._bytes = 0
        self._size.set(0)
