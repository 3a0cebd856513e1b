"""Known heads: what comes out must be what llhttp would have said, whatever is sent and however it is cut."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.router.http import heads
from pointsman.router.http.heads import Head, KnownHeads, split_head
from pointsman.router.http.reader import RequestReader
from support.http_peers import Echo, clients, converse, cut

LINES = [
    b"host: x",
    b"Host: y",
    b"authorization: Bearer k",
    b"content-length: 5",
    b"Content-Length: 5",
    b"content-length: 05",
    b"content-length: 6",
    b"CONTENT-LENGTH: 5",
    b"content-length:5",
    b"content-length: 5 ",
    b"content-length: +5",
    b"content-length: 5, 5",
    b"content-length: 99999999999999999999",
    b"content-length: 0",
    b"content-length : 5",
    b" content-length: 5",
    b"transfer-encoding: chunked",
    b"transfer-encoding: identity",
    b"x-folded: a\r\n b",
    b"x-bare: a\ncontent-length: 7",
    b"x-nul: \x00",
    b"expect: 100-continue",
    b"expect: 200-ok",
    b"connection: close",
    b"connection: keep-alive",
    b"connection: upgrade\r\nupgrade: h2c",
    b"x-empty:",
    b"",
]
STARTS = [
    b"POST /a HTTP/1.1",
    b"POST /a HTTP/1.0",
    b"HEAD /a HTTP/1.1",
    b"GET /a HTTP/1.1",
    b"\r\nPOST /a HTTP/1.1",
    b"\r\n\r\nPOST /a HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
    b"POST /a",
]
BODIES = [b"", b"abcde", b"abcdef", b"5\r\nabcde\r\n0\r\n\r\n", b"POST /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Mostly valid requests of few forms, so that heads do come again."""
    usual = [b"host: x", draw(st.sampled_from([b"content-length: 5", b"Content-Length: 5", b"content-length: 12"]))]
    lines = draw(st.one_of(st.just(usual), st.just(usual), st.lists(st.sampled_from(LINES), max_size=4)))
    start = draw(st.one_of(st.just(STARTS[0]), st.sampled_from(STARTS)))
    data = b"\r\n".join([start, *lines]) + b"\r\n\r\n" + draw(st.sampled_from(BODIES))
    if draw(st.integers(0, 9)) == 0 and data:
        place = draw(st.integers(0, len(data) - 1))
        data = data[:place] + draw(st.binary(max_size=2)) + data[place + 1 :]
    return data


class Pair:
    """Two servers that must not differ; the one with a memory keeps it from one example to the next."""

    def __init__(self) -> None:
        self.remembering, self.plain = Echo(later=True), Echo(later=True)
        self.with_memory = clients(self.remembering, max_body_bytes=1024)
        self.without = clients(self.plain, known=False, max_body_bytes=1024)

    async def compare(self, pieces: list[bytes], whole: bytes) -> None:
        self.remembering.requests.clear()
        self.plain.requests.clear()
        left = await converse(self.with_memory, pieces, end=True)
        right = await converse(self.without, [whole], end=True)
        assert self.remembering.requests == self.plain.requests
        finals = [bytes(side.sent).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"") for side in (left, right)]
        assert finals[0] == finals[1]
        assert (left.shut_down, left.closed) == (right.shut_down, right.closed)
        assert not self.remembering.failures


PAIR = Pair()


@settings(max_examples=250)
@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 400), max_size=4), st.booleans())
def test_with_and_without_memory_the_same_requests_are_read(
    messages: list[bytes], places: list[int], at_messages: bool
) -> None:
    whole = b"".join(messages)
    pieces = (
        [piece for message in messages for piece in cut(message, places)] if at_messages else cut(whole, places)
    )
    asyncio.run(PAIR.compare(pieces, whole))


def test_the_memory_was_used() -> None:
    """The comparison above says nothing unless heads are remembered and found."""

    async def compare() -> int:
        pair = Pair()
        message = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabcde"
        for _ in range(3):
            await pair.compare([message, message], message * 2)
        return len(pair.with_memory.known_heads)

    assert asyncio.run(compare()) == 1


HEAD = b"POST /a HTTP/1.1\r\nhost: x\r\nauthorization: k\r\ncontent-length: "
BODY_LENGTHS = [0, 1, 9, 10, 11, 98, 99, 100, 101, 102, 998, 999, 1000, 1001, 1002, 1003, 9_999, 10_003]


@pytest.mark.parametrize("after", [b"\r\n\r\n", b"\r\nx-last: 1\r\n\r\n"])
@pytest.mark.parametrize("split", ["whole", "head first", "in the body", "two at once", "byte by byte"])
def test_known_heads_serve_bodies_of_every_length(
    monkeypatch: pytest.MonkeyPatch, after: bytes, split: str
) -> None:
    """Also where the number of digits changes; llhttp is not asked, but where two come at once."""

    async def run() -> None:
        echo = Echo(key=b"k")
        made = clients(echo)
        teach = HEAD + b"1" + after + b"a"
        await converse(made, [teach, teach, teach])
        assert len(made.known_heads) == 1
        if split != "two at once":
            monkeypatch.setattr(RequestReader, "feed", None)
        for length in BODY_LENGTHS:
            if split == "byte by byte" and length > 1003:
                continue
            echo.requests.clear()
            body = b"b" * length
            head = HEAD + b"%d" % length + after
            pieces = {
                "whole": [head + body],
                "head first": [head, body],
                "in the body": [head + body[:3], body[3:]],
                "two at once": [head + body + head + body],
                "byte by byte": [head, *(body[at : at + 1] for at in range(length))],
            }[split]
            times = 2
            transport = await converse(made, pieces * times)
            expected = times * (2 if split == "two at once" else 1)
            assert [request[-1] for request in echo.requests] == [body] * expected
            assert transport.sent.count(b"HTTP/1.1 200 OK\r\n") == expected
            assert transport.sent.endswith(b"content-length: %d\r\n\r\n%b" % (length, body))

    asyncio.run(run())


@pytest.mark.parametrize(
    "line",
    [
        b"connection: close",
        b"expect: 100-continue",
        b"transfer-encoding: chunked",
    ],
)
def test_heads_that_ask_for_more_are_not_remembered(line: bytes) -> None:
    async def run() -> int:
        made = clients(Echo())
        message = b"POST /a HTTP/1.1\r\nhost: x\r\n" + line + b"\r\ncontent-length: 1\r\n\r\na"
        for _ in range(4):
            await converse(made, [message])
        return len(made.known_heads)

    assert asyncio.run(run()) == 0


def test_strangers_heads_are_not_remembered() -> None:
    async def run() -> int:
        made = clients(Echo(key=b"k"))
        message = b"POST /a HTTP/1.1\r\nhost: x\r\nauthorization: other\r\ncontent-length: 1\r\n\r\na"
        for _ in range(4):
            await converse(made, [message])
        return len(made.known_heads)

    assert asyncio.run(run()) == 0


def head_of(number: int) -> tuple[bytes, int, Head]:
    key = b"POST /%d HTTP/1.1\r\ncontent-length: \r\n\r\n" % number
    return key, key.index(b": ") + 2, Head("POST", f"/{number}", {}, http_10=False, keep_alive=True)


def test_the_memory_is_bounded_and_keeps_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "GENERATION", 8)
    known = KnownHeads()
    known.add(*head_of(0))
    for number in range(1, 100):
        known.add(*head_of(number))
        assert known.get(head_of(0)[0]) is not None
        assert len(known) <= 16
    assert known.get(head_of(1)[0]) is None


def test_a_head_that_comes_once_leaves_only_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "GENERATION", 8)

    async def run() -> Any:
        made = clients(Echo())
        for number in range(100):
            message = b"POST /a HTTP/1.1\r\nhost: x\r\nx-id: %d\r\ncontent-length: 1\r\n\r\na" % number
            await converse(made, [message])
        return made.known_heads

    known = asyncio.run(run())
    assert len(known) == 0
    assert len(known._young_hashes) + len(known._old_hashes) <= 16


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: \r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5 \r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: +5\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 12345678901\r\n\r\n",
        b"POST / HTTP/1.1\r\nx: " + b"a" * heads.MAX_KNOWN_HEAD + b"\r\ncontent-length: 5\r\n\r\n",
    ],
)
def test_what_is_spelled_otherwise_is_left_to_llhttp(data: bytes) -> None:
    assert split_head(data) is None
