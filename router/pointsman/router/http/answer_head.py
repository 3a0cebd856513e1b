"""The head of an engine's answer: status line, fields and what they say about the body's framing.

Stands below `upstream.py`, apart from it because it is a pure function of bytes. An engine sends the same lines
again and again, so each line is checked once and remembered. Strict: whatever two readers could read in two
ways is refused, since a misread end of an answer would make the rest of it somebody else's.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pointsman.router.exchange import Headers
from pointsman.router.http.wire import BODILESS

MAX_FIELDS = 256
"""Fields of one answer at most."""

CHUNKED = -1
"""The length of a body that comes in chunks."""

UNTIL_CLOSE = -2
"""The length of a body that ends with its connection."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_LONGEST_LENGTH = 15
_REMEMBERED = 512
_LONGEST_REMEMBERED = 128

_status_lines: dict[bytes, tuple[int, bool]] = {}
_fields: dict[bytes, tuple[bytes, bytes]] = {}


class BadAnswer(Exception):
    """The engine did not answer in HTTP/1.1 as asked. The message holds nothing of what it sent."""


class Head(NamedTuple):
    """
    `length` is the body's in bytes, or `CHUNKED` or `UNTIL_CLOSE`, and no longer among `headers`; `keep` tells
    whether the connection stays.
    """

    status: int
    headers: Headers
    length: int
    keep: bool


def parse_head(data: bytes) -> Head:
    """The head whose lines are `data`, without the empty line that ends it. Raises `BadAnswer`."""
    lines = data.split(b"\r\n")
    if len(lines) > MAX_FIELDS:
        raise BadAnswer("too many header fields")
    first = lines[0]
    status, keep = _status_lines.get(first) or _status_line(first)
    headers: Headers = {}
    del lines[0]
    for line in lines:
        name, value = _fields.get(line) or field(line)
        if name in headers:
            headers[name] += b", " + value
        else:
            headers[name] = value
    if b"connection" in headers:
        options = [option.strip() for option in headers[b"connection"].lower().split(b",")]
        keep = b"close" not in options and (keep or b"keep-alive" in options)
    if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
        raise BadAnswer("a content-encoding, though none was asked for")
    length = headers.pop(b"content-length", None)
    if b"transfer-encoding" in headers:
        if headers[b"transfer-encoding"].lower() != b"chunked":
            raise BadAnswer("a transfer-encoding that is not chunked")
        if length is not None or first.startswith(b"HTTP/1.0"):
            raise BadAnswer("a transfer-encoding where there may be none")
        size = CHUNKED
    elif length is not None:
        if not length.isdigit() or len(length) > _LONGEST_LENGTH:
            raise BadAnswer("a content-length that is no single number")
        size = int(length)
    else:
        size = UNTIL_CLOSE
    if status in BODILESS:
        size = 0
    return Head(status, headers, size, keep and size != UNTIL_CLOSE)


class KnownHead:
    """A head that has been parsed, so that the next one which differs in nothing but its length need not be."""

    __slots__ = ("_after", "_before", "_digits", "head")

    def __init__(self, data: bytes, head: Head) -> None:
        """`data` are all bytes of `head`, with the empty line at its end."""
        self.head = head
        self._before = data
        self._after = b""
        self._digits = len(data)  # where they begin
        if head.length >= 0:
            match = _LENGTH.search(data)
            assert match is not None
            self._before, self._after = data[: match.start(1)], data[match.end(1) :]
            self._digits = match.start(1)

    def match(self, data: bytes) -> tuple[int, int] | None:
        """The length of the body and where in `data` it begins, or None where `data` begin with another head."""
        if not data.startswith(self._before):
            return None
        start = self._digits
        if not self._after:
            return self.head.length, start
        end = data.find(self._after, start, start + _LONGEST_LENGTH + len(self._after))
        digits = data[start:end]
        if end < 0 or not digits.isdigit():
            return None
        return int(digits), end + len(self._after)


def field(line: bytes) -> tuple[bytes, bytes]:
    """Name in lower case and value of a field's `line`, which has no line end. Raises `BadAnswer`."""
    match = _FIELD.fullmatch(line)
    if match is None:
        raise BadAnswer("a header field that is none")
    parsed = match[1].lower(), match[2].strip(b" \t")
    if len(line) <= _LONGEST_REMEMBERED:
        if len(_fields) >= _REMEMBERED:
            _fields.clear()
        _fields[line] = parsed
    return parsed


def _status_line(line: bytes) -> tuple[int, bool]:
    """Status, and whether the version keeps connections by default."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise BadAnswer("no HTTP/1.1 status line")
    parsed = int(match[2]), match[1] == b"1"
    if len(line) <= _LONGEST_REMEMBERED:
        if len(_status_lines) >= _REMEMBERED:
            _status_lines.clear()
        _status_lines[line] = parsed
    return parsed
