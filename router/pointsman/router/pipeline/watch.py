"""What a stream says that is passed on unread, looked at now and then for repetition.

Stands between `events.py` and the client for a stretch at a time: what is passed on meanwhile is kept, and its text
is taken out at the end of the stretch. A short stretch tells of most streams that there is nothing to be seen; only
where something came twice in it a longer one is watched. In between nothing is kept, and the stream pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from pointsman.router.pipeline.repetition import LONGEST, STRETCH, Repetition, recurs

MOST_LOOKS = 40
"""Looks after which a stretch is done with, however little text it has."""

GLANCE = LONGEST + 56
"""Characters that are enough to tell that nothing is repeated: the longest unit, and some of what is before it."""

MOST_KEPT = 256 * 1024
"""Bytes that are kept at a time; a stream of larger events is begun upon anew."""

MOST_GLANCES = 4
"""Looks after which a glance is done with, however little text it has."""

Send = Callable[[bytes], None]

_KEYS = (b'"content":"', b'"content": "', b'"reasoning_content":"', b'"reasoning_content": "', b'"text":"')
_BACKSLASH = b"\\"


class Watch:
    """Keeps what goes to the client by `to_client` (events) and `chunks_to_client` (chunks) while it is `on`."""

    __slots__ = (
        "_glance",
        "_kept",
        "_kept_bytes",
        "_looks",
        "_repetition",
        "_text",
        "chunks_to_client",
        "on",
        "to_client",
    )

    def __init__(self, to_client: Send, chunks_to_client: Send) -> None:
        self.to_client = to_client
        self.chunks_to_client = chunks_to_client
        self.on = False
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._glance = True
        self._looks = 0
        self._text = ""
        self._repetition = Repetition()

    def begin(self) -> None:
        """Keep what comes from now on."""
        self.on = self._glance = True
        self._looks = 0
        self._text = ""
        self._repetition.skip()

    def send(self, data: bytes) -> None:
        self._keep(data)
        self.to_client(data)

    def send_chunks(self, chunks: bytes) -> None:
        self._keep(chunks)
        self.chunks_to_client(chunks)

    def look(self) -> bool | None:
        """Whether the text since `begin`, or the last look, is repetition; None where more of it will tell."""
        self._text += _text(b"".join(self._kept))
        self._kept.clear()
        self._kept_bytes = 0
        self._looks += 1
        if self._glance:
            if len(self._text) < GLANCE and self._looks < MOST_GLANCES:
                return None
            if not recurs(self._text):
                return False
            self._glance = False
        if len(self._text) < STRETCH and self._looks < MOST_LOOKS:
            return None
        stretch, self._text = self._text, ""
        return self._repetition.look(stretch)

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes > MOST_KEPT:
            self._kept.clear()
            self._kept_bytes = 0
            self._text = ""
            self._repetition.skip()


def _text(events: bytes) -> str:
    """The text of some events, of one kind. (A quote inside a text is escaped, so text is never such a key.)"""
    for key in _KEYS:
        pieces = events.split(key)[1:]
        text = b"".join([piece[: piece.find(b'"')] for piece in pieces])
        if _BACKSLASH in text:
            text = b"".join([piece[: _end(piece)] for piece in pieces])
        if text:
            try:
                return str(orjson.loads(b'"%b"' % text))
            except orjson.JSONDecodeError:
                return text.decode(errors="replace")
    return ""


def _end(piece: bytes) -> int:
    """Where the text that `piece` begins with ends: at its first quote that is not escaped."""
    end = piece.find(b'"')
    while end > 0 and (end - len(piece[:end].rstrip(_BACKSLASH))) % 2:
        end = piece.find(b'"', end + 1)
    return end
