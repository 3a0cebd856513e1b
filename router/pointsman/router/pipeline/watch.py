"""What a stream says that is passed on unread, looked at now and then for repetition.

Stands between `events.py` and the client for a stretch at a time: what is passed on meanwhile is kept, and its text
is taken out once, at the end of the stretch. In between nothing is kept, and the stream pays for nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from pointsman.router.http.wire import unframed
from pointsman.router.pipeline.repetition import Repetition

Send = Callable[[bytes], None]


class Watch:
    """
    Keeps what goes to the client by `to_client` (pieces) and `chunks_to_client` (whole chunks) while it is `on`.
    """

    __slots__ = ("_kept", "_repetition", "chunks_to_client", "on", "to_client")

    def __init__(self, to_client: Send, chunks_to_client: Send) -> None:
        self.to_client = to_client
        self.chunks_to_client = chunks_to_client
        self.on = False
        self._kept: list[tuple[bool, bytes]] = []
        self._repetition = Repetition()

    def begin(self) -> None:
        """Keep what comes from now on."""
        self.on = True
        self._repetition.skip()

    def send(self, data: bytes) -> None:
        self._kept.append((False, data))
        self.to_client(data)

    def send_chunks(self, chunks: bytes) -> None:
        self._kept.append((True, chunks))
        self.chunks_to_client(chunks)

    def look(self, opening: bytes) -> bool | None:
        """
        Whether the text since `begin`, or since the last look, is repetition; None where more of it will tell.

        `opening` is what stands before the text of an event of the frame that is known.
        """
        texts: list[str] = []
        for framed, data in self._kept:
            texts.append(
                _texts(data, opening) if framed and opening in data else _parsed_texts(data, framed=framed)
            )
        self._kept.clear()
        return self._repetition.look("".join(texts))


def _texts(chunks: bytes, opening: bytes) -> str:
    """The text of events that all have the known frame, and no quote in them."""
    text = b"".join([piece[: piece.index(b'"')] for piece in chunks.split(opening)[1:]])
    return str(orjson.loads(b'"%b"' % text)) if b"\\" in text else text.decode()


def _parsed_texts(data: bytes, *, framed: bool) -> str:
    """The text of any events."""
    texts = []
    for line in (unframed(data) if framed else data).splitlines():
        if not line.startswith(b"data:") or not line.endswith(b"}"):
            continue
        try:
            choices = orjson.loads(line[5:])["choices"]
            for choice in choices:
                delta = choice.get("delta") or choice
                texts.append(delta.get("content") or delta.get("reasoning_content") or delta.get("text") or "")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            texts.append("\0")
    return "".join(text for text in texts if isinstance(text, str))
