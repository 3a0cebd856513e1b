"""Chunked bodies: the same pieces wherever they are cut, and nothing accepted that llhttp would read otherwise."""

from __future__ import annotations

from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.http.chunks import MAX_LINE, MAX_TRAILERS, SIZES, ChunkDecoder

EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';a="q u"', b";x=1;y=2"])
TRAILERS = st.sampled_from([b"", b"x: y\r\n", b"a-b:\r\nc: d e\r\n"])


def decoded(data: bytes, cuts: list[int]) -> tuple[bytes, bool, bool, bool]:
    """Body, whether it has ended, whether it is faulty, and whether something follows it."""
    decoder, body = ChunkDecoder(), b""
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    for start, end in pairwise(edges):
        if decoder.fault is None and not decoder.excess:
            body += b"".join(decoder.feed(data[start:end]))
    return body, decoder.done, decoder.fault is not None, decoder.excess


def by_llhttp(data: bytes) -> tuple[bytes, bool, bool]:
    """Body, whether it has ended, and whether it is faulty."""

    class Peer:
        body = b""
        done = False

        def on_body(self, data: bytes) -> None:
            if not self.done:
                self.body += data

        def on_message_complete(self) -> None:
            self.done = True

    peer = Peer()
    parser = httptools.HttpResponseParser(peer)
    try:
        parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + data)
    except httptools.HttpParserError:
        return peer.body, peer.done, True
    return peer.body, peer.done, False


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A chunked body and its payload."""
    payloads = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    chunks = [b"%x%b\r\n%b\r\n" % (len(piece), draw(EXTENSIONS), piece) for piece in payloads]
    last = draw(st.sampled_from([b"0", b"000"])) + draw(EXTENSIONS) + b"\r\n"
    return b"".join([*chunks, last, draw(TRAILERS), b"\r\n"]), b"".join(payloads)


@given(
    made=bodies(), cuts=st.lists(st.integers(1, 400), max_size=30), rest=st.sampled_from([b"", b"x", b"0\r\n\r\n"])
)
def test_a_proper_body_is_read_wherever_it_is_cut(made: tuple[bytes, bytes], cuts: list[int], rest: bytes) -> None:
    data, payload = made
    assert decoded(data + rest, cuts) == (payload, True, False, bool(rest))
    assert by_llhttp(data) == (payload, True, False)


@given(
    made=bodies(),
    at=st.integers(0, 400),
    to=st.sampled_from(b"\r\n0123ghfF ;:-_+x\x00\xff"),
    cut=st.integers(1, 400),
)
def test_a_spoilt_body_is_never_read_otherwise_than_llhttp_reads_it(
    made: tuple[bytes, bytes], at: int, to: int, cut: int
) -> None:
    spoilt = bytearray(made[0])
    spoilt[at % len(spoilt)] = to
    data = bytes(spoilt)
    body, done, faulty, excess = decoded(data, [])
    assert decoded(data, [cut]) == (body, done, faulty, excess)
    theirs, they_ended, they_fail = by_llhttp(data)
    if not faulty and not excess:
        assert (body, done) == (theirs, they_ended)
        assert not they_fail
    elif faulty:
        assert theirs.startswith(body) or body.startswith(theirs)


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(1, 60), max_size=8))
def test_noise_is_the_same_noise_wherever_it_is_cut(data: bytes, cuts: list[int]) -> None:
    assert decoded(data, cuts) == decoded(data, [])


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"g\r\n",
        b"100000000\r\n",
        b"5\nhello\n0\r\n",
        b"5;\nx\r\nhello",
        b"5\r\nhello\n",
        b"5\r\nhello!",
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"1;" + b"x" * MAX_LINE + b"\r\n",
        b"0\r\n" + b"a: b\r\n" * (MAX_TRAILERS // 6 + 1) + b"\r\n",
    ],
)
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    _, done, faulty, _ = decoded(data, [])
    assert faulty
    assert not done
    assert decoded(data, list(range(1, len(data))))[2]


@given(st.integers(1, MAX_LINE + 3), st.integers(1, MAX_LINE + 8))
def test_the_limit_of_a_line_is_the_same_wherever_it_is_cut(length: int, cut: int) -> None:
    data = b"1;" + b"x" * length + b"\r\na\r\n0\r\n\r\n"
    assert decoded(data, [cut]) == decoded(data, [])
    assert decoded(data, [])[2] == (2 + length > MAX_LINE)


def test_known_sizes_are_what_they_say_and_never_the_last() -> None:
    assert all(size == int(line, 16) > 0 for line, size in SIZES.items())
    assert len(SIZES) > 2047
