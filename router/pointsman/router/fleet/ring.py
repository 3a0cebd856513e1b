"""A consistent-hash ring: which replica a conversation prefers.

Pure, and apart from the pool, so that its one promise can be tested alone: a replica that leaves moves the
conversations that preferred it and no others; one that comes takes its share from everybody.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Generic, TypeVar

POINTS = 64
"""Points of each replica on the ring: shares differ by about an eighth, which the bound on the load evens out."""

Owner = TypeVar("Owner")


class Ring(Generic[Owner]):
    """
    Who owns which part of the 32-bit hash space. `names` and `owners` go together, at least one.

    The owner of a hash is `owners[bisect_right(starts, hash)]`: written out where it is needed, in the hot path.
    """

    __slots__ = ("owners", "starts")

    def __init__(self, names: Sequence[str], owners: Sequence[Owner]) -> None:
        # A tie goes to the one that was named first, in every process alike.
        placed = sorted((point, index) for index, name in enumerate(names) for point in _points(name))
        self.starts = [point for point, _ in placed]
        self.owners = [owners[index] for _, index in placed]
        self.owners.append(self.owners[0])  # who is past the last point begins anew

    def successors(self, at: int, count: int) -> list[Owner]:
        """The first `count` different owners from the place `at` on, its own first; fewer where there are fewer."""
        found: dict[int, Owner] = {}
        owners, size = self.owners, len(self.starts)
        for index in range(at, at + size):
            owner = owners[index % size]
            found[id(owner)] = owner
            if len(found) == count:
                break
        return list(found.values())


def _mixed(value: int) -> int:
    """`value`, 32 bits, spread over the whole ring: a finalizer of the kind that MurmurHash has."""
    value ^= value >> 16
    value = value * 0x7FEB352D & 0xFFFFFFFF
    value ^= value >> 15
    value = value * 0x846CA68B & 0xFFFFFFFF
    return value ^ value >> 16


def _points(name: str) -> list[int]:
    """The same in every process and on every machine: `hash()` would be salted."""
    base = zlib.crc32(name.encode())
    return [_mixed((base + number * 0x9E3779B9) & 0xFFFFFFFF) for number in range(POINTS)]
