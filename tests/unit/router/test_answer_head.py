"""Heads of answers: what is accepted is read as llhttp reads it; what could be read in two ways is refused."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.http.answer_head import (
    CHUNKED,
    MAX_FIELDS,
    UNTIL_CLOSE,
    BadAnswer,
    Head,
    KnownHead,
    parse_head,
)

UVICORN = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 06:30:00 GMT\r\nserver: uvicorn\r\n"
    b"content-length: 512\r\ncontent-type: application/json"
)
PIECES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 200",
    b"HTTP/1.1 404 ",
    b"HTTP/1.1 204 No Content",
    b"\r\n",
    b"\n",
    b"\r",
    b"content-length: 5",
    b"Content-Length:6 ",
    b"transfer-encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"connection: close",
    b"connection: keep-alive, x",
    b"x-name: a value\twith \xff",
    b"content-encoding: identity",
    b" folded",
    b": nameless",
    b"spaced : x",
    b"\x00",
    b"a:",
]


class Peer:
    """What llhttp makes of a head."""

    def __init__(self, data: bytes) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.begun = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(data + b"\r\n\r\n")
        assert self.begun
        self.status = parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.strip(b" \t")
        self.fields[name] = self.fields[name] + b", " + value if name in self.fields else value

    def on_headers_complete(self) -> None:
        self.begun = True


def check_with_peer(data: bytes) -> Head:
    """Parse `data`; whatever is accepted must be what llhttp reads. Raises `BadAnswer`."""
    head = parse_head(data)
    peer = Peer(data)
    length = peer.fields.pop(b"content-length", None)
    assert head.headers == peer.fields
    assert head.status == peer.status
    if head.status not in (204, 304):
        if b"transfer-encoding" in peer.fields:
            assert head.length == CHUNKED
        else:
            assert head.length == (UNTIL_CLOSE if length is None else int(length))
    return head


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_what_is_accepted_is_read_as_llhttp_reads_it(pieces: list[bytes]) -> None:
    try:
        check_with_peer(b"".join(pieces))
    except BadAnswer:
        return


TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_.!~", min_size=1, max_size=12).map(str.encode)
VALUE = st.lists(st.integers(0x21, 0x7E) | st.integers(0x80, 0xFF), max_size=20).map(bytes)
FRAMING = {b"content-length", b"transfer-encoding", b"content-encoding", b"connection", b"upgrade"}


@given(
    fields=st.lists(st.tuples(TOKEN.filter(lambda name: name.lower() not in FRAMING), VALUE), max_size=8),
    length=st.integers(0, 10**9),
    status=st.integers(200, 599),
)
def test_every_proper_head_is_accepted(fields: list[tuple[bytes, bytes]], length: int, status: int) -> None:
    lines = [b"HTTP/1.1 %d Some Reason" % status, *(b"%b: %b" % field for field in fields)]
    head = check_with_peer(b"\r\n".join([*lines, b"Content-Length: %d" % length]))
    assert head.length == (0 if status in (204, 304) else length)
    assert head.keep


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/2 200",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2000",
        b"HTTP/1.1 200 OK\nx: y",
        b"HTTP/1.1 200 OK\r\n x: y",
        b"HTTP/1.1 200 OK\r\nx : y",
        b"HTTP/1.1 200 OK\r\nx",
        b"HTTP/1.1 200 OK\r\nx: a\x00b",
        b"HTTP/1.1 200 OK\r\nx: a\rb",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1, 1",
        b"HTTP/1.1 200 OK\r\ncontent-length: +1",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0x10",
        b"HTTP/1.1 200 OK\r\ncontent-length: \xb2",
        b"HTTP/1.1 200 OK\r\ncontent-length:",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 30,
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip",
        b"HTTP/1.1 200 OK" + b"\r\nx: y" * MAX_FIELDS,
    ],
)
def test_what_is_no_head_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer) as refusal:
        parse_head(data)
    assert len(str(refusal.value)) < 80


@pytest.mark.parametrize(
    ("lines", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: Close", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x, close", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive", True),
        (b"HTTP/1.1 200 OK", False),
        (b"HTTP/1.1 304 Not Modified", True),
    ],
)
def test_whether_the_connection_stays(lines: bytes, keep: bool) -> None:
    assert parse_head(lines).keep is keep


@given(
    length=st.integers(0, 10**6),
    flip=st.integers(0, len(UVICORN) + 3),
    to=st.sampled_from(b"\r\n0123456789: ,-;xX\x00"),
    body=st.binary(max_size=20),
)
def test_a_known_head_is_known_for_what_it_is(length: int, flip: int, to: int, body: bytes) -> None:
    """Whatever comes: what the memory takes for the head that it knows is read alike by the parser."""
    known = KnownHead(UVICORN + b"\r\n\r\n", parse_head(UVICORN))
    plain = UVICORN.replace(b"512", b"%d" % length) + b"\r\n\r\n"
    assert known.match(plain + body) == (length, len(plain))
    changed = bytearray(plain)
    changed[min(flip, len(changed) - 1)] = to
    match = known.match(bytes(changed) + body)
    if match is not None:
        found, at = match
        assert parse_head(bytes(changed)[: at - 4]) == known.head._replace(length=found)


def test_a_known_head_of_a_stream_must_be_the_same_to_the_last_byte() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    known = KnownHead(head, parse_head(head[:-4]))
    assert known.match(head + b"5\r\n") == (CHUNKED, len(head))
    for end in range(len(head)):
        assert known.match(head[:end]) is None
    assert known.match(head[:-2] + b"x: y\r\n\r\n") is None
