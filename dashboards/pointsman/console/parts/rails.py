"""Both tracks as a picture: one line comes in, the points are thrown, trains run down one track or the other.

A train stands for requests that come now, as many a second as the router says; on the thinking track they run as
slowly as its answers take. Without motion where the browser asks for that. The numbers are in the picture as text,
and in its label for who does not see it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from nicegui.element import Element


@dataclass(frozen=True, slots=True)
class Track:
    """Requests a second; seconds that an answer takes on average; requests that run and wait; in words below."""

    rate: float = 0.0
    seconds: float = 0.0
    note: str = ""


class Rails(Element, component="rails.js"):
    """The picture; `show` brings it up to date."""

    def __init__(self) -> None:
        super().__init__()
        self._props["think"] = asdict(Track())
        self._props["nothink"] = asdict(Track())
        self.classes("pm-rails")

    def show(self, think: Track, no_think: Track) -> None:
        """What goes on now."""
        told = (asdict(think), asdict(no_think))
        if told != (self._props["think"], self._props["nothink"]):
            self._props["think"], self._props["nothink"] = told
            self.update()
