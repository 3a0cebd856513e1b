"""What requests need of a tenant's limits, and how much of each is kept in stock.

Below purses and buckets, which are stocks of money and of what is limited by the minute. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

BOUNDLESS = 1 << 62
"""What is not limited; so much that what is taken of it is never missed."""


HORIZON = 1.5
"""Seconds for which a stock lasts at the pace of late: until Redis is asked again, and is known not to answer."""

SHORTEST = 0.25
"""Seconds, at least, over which a pace is taken."""

MOST_SHARE = 20
"""What part of a limit, at most, is held for the sake of a pace."""


class Need(NamedTuple):
    """What a request uses at most: tokens of prompt and output, and nano-dollars."""

    input: int
    output: int
    nano: int


class Shortage(NamedTuple):
    """What a request lacks: a limit by its name, or money (`daily`, `monthly`); and seconds until there is more."""

    limit: str
    seconds: float
    spent: bool = False
    """Whether it is money, and spent for good."""


class Waiter(Protocol):
    """A request that waits for a lease."""

    @property
    def need(self) -> Need:
        """What it needs."""

    def look(self, now: float) -> None:
        """Something has changed: go on or give up, where that is clear by now."""


def kept(left: int, needs: Sequence[int], target: int) -> int:
    """
    How much of what is `left` here is kept; the rest is given back.

    Nothing where requests wait that need more: two routers that each keep a half would wait for each other. It is
    given back and asked for in one step.
    """
    if needs and left < sum(needs):
        return 0
    return max(0, min(left, max(sum(needs), 2 * target)))


def missing(kept: int, needs: Sequence[int], target: int) -> tuple[int, int, int]:
    """What is missing for the first that waits, for all that do, and beside that for a stock of `target`."""
    every = max(0, sum(needs) - kept)
    return (needs[0] if every else 0), every, max(0, target - kept)


class Aim:
    """
    How much of something to have in stock: twice as much as was too little, and slowly less again, but never less
    than was used in `HORIZON` of late. `goal` is both together, as it was worked out last.
    """

    __slots__ = ("goal", "pace", "starved", "target", "unit")

    def __init__(self) -> None:
        self.target = 0
        self.starved = False
        self.unit = 1
        self.pace = 0.0
        self.goal = 0

    def follow(self, used: int, seconds: float) -> None:
        """So much was used in the last `seconds`."""
        self.pace = max(used / max(seconds, SHORTEST), self.pace / 2)

    def adjusted(self, most: int) -> int:
        """The stock to aim at from now on, `most` at most."""
        if self.starved:
            self.target = min(most, max(2 * self.target, 2 * self.unit))
        else:
            self.target -= self.target // 16
        self.starved = False
        self.goal = max(self.target, min(int(self.pace * HORIZON), most // MOST_SHARE))
        return self.goal
