"""How the requests of one revision of a pool fare: how many, how many failed, and how soon streams began.

Stands apart from the revision because it only counts: a few additions for each request, and everything that is
worked out from them once a second. The counts of several routers can be added up, and so can the numbers in each
bucket of first-byte times, which is why no percentile is told by a router itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Any, NamedTuple

from pointsman.store.revisions import FIRST_BYTE_BOUNDS, WINDOW

SLOT = 5.0
"""Seconds between two looks at the counts that are kept."""


class Counts(NamedTuple):
    """What was counted up to a moment. `seconds`: until the first bytes of `streams`; `buckets`: these by bound."""

    requests: int = 0
    errors: int = 0
    streams: int = 0
    seconds: float = 0.0
    buckets: tuple[int, ...] = (0,) * (len(FIRST_BYTE_BOUNDS) + 1)


class Tally:
    """Counts requests that were sent to replicas, a second sending of one as another request."""

    __slots__ = ("_buckets", "_kept", "errors", "requests", "seconds", "streams")

    def __init__(self) -> None:
        self.requests = 0
        """Requests that have ended, however they did."""
        self.errors = 0
        """Those that the replica failed: not reached, broken off, too late, or refused with a server error."""
        self.streams = 0
        self.seconds = 0.0
        self._buckets = [0] * (len(FIRST_BYTE_BOUNDS) + 1)
        self._kept: deque[tuple[float, Counts]] = deque([(0.0, Counts())])

    def began(self, seconds: float) -> None:
        """A stream began, so many seconds after it was asked for."""
        self.streams += 1
        self.seconds += seconds
        self._buckets[bisect_left(FIRST_BYTE_BOUNDS, seconds)] += 1

    def look(self, now: float) -> None:
        """Keep what was counted up to `now` (`monotonic` seconds), unless that was done a moment ago."""
        kept = self._kept
        if now - kept[-1][0] < SLOT:
            return
        last = kept[-1][1]
        same = last.requests == self.requests and last.streams == self.streams and last.errors == self.errors
        kept.append((now, last if same else self._counts()))
        while len(kept) > 1 and now - kept[1][0] >= WINDOW:
            kept.popleft()

    @property
    def idle(self) -> bool:
        """Whether nothing was counted within the window."""
        before = self._kept[0][1]
        return before.requests == self.requests and before.streams == self.streams

    def report(self) -> dict[str, Any]:
        """What was counted within the window, as other processes read it; empty where nothing was."""
        if self.idle:
            return {}
        before, now = self._kept[0][1], self._counts()
        return {
            "requests": now.requests - before.requests,
            "errors": now.errors - before.errors,
            "streams": now.streams - before.streams,
            "first_byte_seconds": now.seconds - before.seconds,
            "first_byte": {
                str(at): count - earlier
                for at, (count, earlier) in enumerate(zip(now.buckets, before.buckets, strict=True))
                if count > earlier
            },
        }

    def _counts(self) -> Counts:
        return Counts(self.requests, self.errors, self.streams, self.seconds, tuple(self._buckets))
