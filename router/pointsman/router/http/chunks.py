"""The chunked body of an answer, decoded as it arrives (RFC 9112, section 7.1).

Stands below `upstream.py`, apart from it because it is a pure function of bytes. Strict: hexadecimal sizes
alone, CR LF alone, bounded lines; extensions are read over and trailers dropped. Of what arrives whole, the
usual case, `upstream.py` knows the sizes from `SIZES` and asks nobody.
"""

from __future__ import annotations

import re

from pointsman.router.http.answer_head import BadAnswer, field

SIZES: dict[bytes, int] = {spelled: size for size in range(1, 2048) for spelled in (b"%x" % size, b"%X" % size)}
"""Size lines of small chunks, as engines spell them, with the sizes they say; never that of the last chunk."""

MAX_LINE = 1024
"""Bytes of a size line, with its extensions, at most."""

MAX_TRAILERS = 16 * 1024
"""Bytes of the trailers at most."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE_LINE = re.compile(rb"0*([0-9A-Fa-f]{1,8})(?:;%b(?:=(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))

_LINE, _DATA, _TRAILERS, _END = range(4)


class ChunkDecoder:
    """
    One chunked body. `fault` tells why it can't be read on; what came before the fault has been returned.
    `done` is set at its end, and `excess` where bytes follow it.
    """

    __slots__ = ("_held", "_left", "_state", "_trailers", "done", "excess", "fault")

    def __init__(self) -> None:
        self._state = _LINE
        self._held = b""  # of a line that has not arrived whole
        self._left = 0  # bytes of the current chunk, with the line end behind it
        self._trailers = 0
        self.done = False
        self.excess = False
        self.fault: BadAnswer | None = None

    @property
    def between(self) -> bool:
        """Whether the next byte begins a chunk."""
        return self._state == _LINE and not self._held and self.fault is None

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the body that `data` holds; none is longer than its chunk, and none empty."""
        pieces: list[bytes] = []
        if self._held:
            data = self._held + data
            self._held = b""
        try:
            self._feed(data, pieces)
        except BadAnswer as fault:
            self.fault = fault
        return pieces

    def _feed(self, data: bytes, pieces: list[bytes]) -> None:
        at, total = 0, len(data)
        while at < total:
            if self._state == _DATA:
                at = self._data(data, at, pieces)
                continue
            if self._state == _END:
                self.excess = True
                return
            end = data.find(b"\r\n", at, at + MAX_LINE + 2)
            if end < 0:
                held = data[at:]
                if len(held) > MAX_LINE + 1 or b"\n" in held or b"\r" in held[:-1]:
                    raise BadAnswer("a chunk's line is too long, or does not end in CR LF")
                self._held = held
                return
            line = data[at:end]
            at = end + 2
            if self._state == _LINE:
                self._size(line)
            else:
                self._trailer(line)

    def _size(self, line: bytes) -> None:
        size = SIZES.get(line)
        if size is None:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise BadAnswer("a chunk's size is none")
            size = int(match[1], 16)
        if size:
            self._left = size + 2
            self._state = _DATA
        else:
            self._state = _TRAILERS

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take from `data` what belongs to the current chunk; returns where that ends."""
        size = self._left - 2
        if size > 0:
            piece = data[at : at + size]
            pieces.append(piece)
            at += len(piece)
            self._left -= len(piece)
        if self._left <= 2:
            ending = data[at : at + self._left]
            if not b"\r\n"[2 - self._left :].startswith(ending):
                raise BadAnswer("a chunk is not as long as it says")
            at += len(ending)
            self._left -= len(ending)
            if self._left == 0:
                self._state = _LINE
        return at

    def _trailer(self, line: bytes) -> None:
        if not line:
            self._state = _END
            self.done = True
            return
        self._trailers += len(line) + 2
        if self._trailers > MAX_TRAILERS:
            raise BadAnswer("the trailers are too long")
        field(line)
