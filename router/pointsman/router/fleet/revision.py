"""One revision of a pool: the replicas that were started by one description, and their share of new requests.

Stands between the pool and its replicas while a pool is upgraded: an old and a new revision answer side by side,
and the pool's traffic says how new requests are divided. Which revision takes a conversation depends on nothing but
the conversation and the weights (weighted rendezvous hashing), so that it stays where it is cached, all routers
agree, and a weight that grows takes conversations over without moving any other.
"""

from __future__ import annotations

from math import log
from zlib import crc32

from pointsman.router.fleet.group import Group
from pointsman.router.fleet.tally import Tally

_RANGE = 2.0**32


class Revision(Group):
    """The replicas of the revision `name`. `weight`: its share beside the others'; `tally`: how it fares."""

    __slots__ = ("_seed", "name", "tally", "weight")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.weight: float | None = None
        self.tally = Tally()
        self._seed = crc32(name.encode())

    def score(self, key: int) -> float:
        """How much the conversation `key` (32 bits) prefers this revision, 0 or less: the greatest takes it."""
        assert self.weight
        # A key's bits choose the replica too, and must say something else here.
        mixed = ((key ^ self._seed) * 0x9E3779B1) & 0xFFFFFFFF
        mixed = ((mixed ^ mixed >> 15) * 0x85EBCA77) & 0xFFFFFFFF
        return log(((mixed ^ mixed >> 13) + 1) / _RANGE) / self.weight
