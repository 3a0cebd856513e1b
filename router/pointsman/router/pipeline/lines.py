"""A stream of server-sent events, cut into its events.

Stands below the streams that look at each of their events; the one that passes them on as they came finds their
borders itself.
"""

from __future__ import annotations


class EventTooLarge(Exception):
    """An event is longer than any may be."""


class EventLines:
    """Holds back what has not arrived whole. No event may be longer than `most` bytes."""

    __slots__ = ("_held", "_most")

    def __init__(self, most: int) -> None:
        self._held = bytearray()
        self._most = most

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are whole once `data` has come, without empty lines. Raises `EventTooLarge`."""
        held = self._held
        look = 0
        if held:
            look = max(0, len(held) - 2)  # the line end before an empty line may be there already
            held += data
            if end_of_event(held, look)[0] < 0:
                self._check()
                return []
            data = bytes(held)
            held.clear()
        events = []
        at = 0
        while True:
            end, following = end_of_event(data, max(at, look))
            if end < 0:
                break
            if event := data[at:end].strip(b"\r\n"):
                events.append(event)
            at = following
        held += data[at:]
        self._check()
        return events

    def _check(self) -> None:
        if len(self._held) > self._most:
            raise EventTooLarge


def end_of_event(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Where the event that `at` lies in ends, and where the next one begins; -1 twice where it goes on."""
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            return -1, -1
        if data.startswith(b"\n", end + 1):
            return end, end + 2
        if data.startswith(b"\r\n", end + 1):
            return end, end + 3
        at = end + 1
