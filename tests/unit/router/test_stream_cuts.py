"""Streams from the socket to the client: however bytes are cut and chunks are made, the client gets the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.exchange import Exchange
from pointsman.router.pipeline.events import Events
from pointsman.router.pipeline.relay import Relaying
from pointsman.router.pipeline.reworked import Reworked
from support.relayings import Relayings, client_of

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5,"reasoning_tokens":2}}'
DONE = b"data: [DONE]"
TEXTS = [
    b'data: {"model":"m","choices":[{"delta":{"content":"word"}}]}',
    b'data: {"model":"m","choices":[{"delta":{"content":"a","reasoning_content":null}}],"usage":null}',
    b'data: {"model":"m","choices":[{"delta":{"content":null,"reasoning_content":"hm"}}],"usage":null}',
    b'data: {"model":"m","choices":[{"delta":{"reasoning_content":"hm"}}], "usage": null}',
    b'data: {"usage":null,"model":"m","choices":[{"delta":{"content":"b"}}]}',
    b'data:{"model":"m","choices":[{"delta":{"content":"c"}}]}',
    b'data: {"model":"m","choices":[{"delta":{"content":"\\"usage\\":{ \\"error\\": [DONE] \\n\\n data: {"}}]}',
    b'data: {"model":"m","choices":[{"delta":{"content":"error"}}]}',
    b'data: {"model":"m","choices":[{"delta":{"content":"usage"},"usage":{"prompt_tokens":1}}]}',
    b'data: {"error":null,"model":"m","choices":[{"delta":{"content":"d"}}]}',
    b'data: {"model":"m","choices":[{"delta":{"content":"' + b"long " * 500 + b'"}}]}',
    b'data: {"model":"m","choices":[{"delta":{"content":"e"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}',
]
FRAME = b'data: {"model":"m","choices":[{"delta":{"role":null,"content":"%b"}}],"usage":null}'
TEXTS += [FRAME % text for text in (b"x", b"", b"error", b"usage", b"\\\\", b'\\"usage\\":{', "žluť".encode())]
TEXTS.append(FRAME % b'","reasoning_content":"hm"},"usage":{"prompt_tokens":9},"x":{"y":"')
TEXTS.append(FRAME.replace(b'"usage":null', b'"usage":{"prompt_tokens":7,"completion_tokens":4}') % b"x")
NOTHING = [b": ping", b""]
BAD = [
    FRAME % b"a\nb",
    b'data: {"error":"CUDA","model":"m","choices":[{"delta":{"content":"' + b"long " * 30 + b'"}}],"usage":null}',
    FRAME % b'"}}],"error":{"message":"CUDA"},"x":[{"y":{"z":"',
    b'data: {"error":{"message":"CUDA /root/x.py","code":500}}',
    b'data: {"code":500,"message":"CUDA","object":"error"}',
    b'data: {"model":"m","error":{"message":"CUDA"},"choices":[]}',
    b'data: {"usage":{"prompt_tokens":1}, cut',
    b"event: x",
    b"noise",
    b'data: {"error":\ndata: 1}',
]

_read_stream = Relaying._read_stream


@pytest.fixture(scope="module")
def relayings(tmp_path_factory: pytest.TempPathFactory) -> Relayings:
    return Relayings(tmp_path_factory.mktemp("metrics"))


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """The data of a stream: text and keep-alives, and one of the ways in which it can end."""
    mark = draw(st.sampled_from([b"\n\n", b"\r\n\r\n"]))
    events = draw(st.lists(st.sampled_from(TEXTS + NOTHING), min_size=1, max_size=8))
    events += draw(st.lists(st.sampled_from(TEXTS[12:]), max_size=5))  # of one frame
    events.insert(0, draw(st.sampled_from(TEXTS[:6])))
    events += draw(st.sampled_from([[USAGE, DONE], [DONE], [USAGE], *([bad, USAGE, DONE] for bad in BAD)]))
    return b"".join(event + mark for event in events)


def chunked(data: bytes, edges: Iterable[int], extension: bytes = b"") -> bytes:
    """`data` in chunks that end at `edges`."""
    ends = [0, *sorted({edge for edge in edges if 0 < edge < len(data)}), len(data)]
    chunks = [
        b"%x%b\r\n%b\r\n" % (end - start, extension, data[start:end])
        for start, end in pairwise(ends)
        if end > start
    ]
    return b"".join([*chunks, b"0\r\n\r\n"])


def one_event_a_chunk(data: bytes) -> list[int]:
    return [
        at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") for at in range(len(data)) if data.startswith(mark, at)
    ]


def outcome(relayings: Relayings, raw: bytes, cuts: list[int]) -> dict[str, Any]:
    """What comes of an engine that sends `raw` in reads cut at `cuts` and then closes the connection."""
    exchange = relayings.exchange(include_usage=True)
    connection, _ = relayings.sent(exchange)
    read: list[Events | Reworked] = []

    def reading(relaying: Relaying) -> Events | Reworked:
        read.append(_read_stream(relaying))
        return read[-1]

    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(raw)}), len(raw)]
    with patch.object(Relaying, "_read_stream", reading):
        for start, end in pairwise(edges):
            if connection.busy and end > start:
                connection.data_received(raw[start:end])
        idle = not connection.busy and connection.open
        connection.connection_lost(None)
    return {**told(exchange), "events": [(events.count, events.reasoning) for events in read], "idle": idle}


def told(exchange: Exchange) -> dict[str, Any]:
    client = client_of(exchange)
    sent = re.sub(rb'"created":\d+', b'"created":0', client.sent.replace(b"\r\n", b"\n"))  # by the clock
    return {
        "sent": [line for line in sent.split(b"\n\n") if line],
        "ended": client.ended,
        "usage": exchange.usage,
        "error": exchange.error.code if exchange.error else None,
        "attempts": exchange.attempts,
    }


@given(data=streams(), cuts=st.lists(st.integers(1, 4000), max_size=25), tail=st.sampled_from([b"", b";x=y"]))
def test_cuts_and_chunks_change_nothing(relayings: Relayings, data: bytes, cuts: list[int], tail: bytes) -> None:
    whole = outcome(relayings, HEAD + chunked(data, []), [])
    assert outcome(relayings, HEAD + chunked(data, cuts, tail), []) == whole
    events = HEAD + chunked(data, one_event_a_chunk(data))
    assert outcome(relayings, events, cuts) == whole
    each = [len(HEAD), *(at for at in range(len(events)) if events.startswith(b"\r\n", at - 2))]
    assert outcome(relayings, events, each) == whole
    ends = one_event_a_chunk(data)
    grouped = HEAD + chunked(data, {*ends[:1], *(ends[cut % len(ends)] for cut in cuts)})
    assert outcome(relayings, grouped, [at for at in each if at < len(grouped)]) == whole
    assert outcome(relayings, grouped, [len(HEAD) + len(chunked(data[: ends[0]], [])) - 5]) == whole
    assert whole["ended"]
    texts = [event for event in whole["sent"] if not event.startswith(b'data: {"error":{"message":')]
    assert all(event == DONE or orjson.loads(event[5:])["model"] == "m" for event in texts)
    assert b"CUDA" not in b"".join(whole["sent"])


@given(data=streams(), end=st.integers(1, 3000), cuts=st.lists(st.integers(1, 4000), max_size=15))
def test_a_stream_that_breaks_off_is_the_same_wherever_it_was_cut(
    relayings: Relayings, data: bytes, end: int, cuts: list[int]
) -> None:
    raw = (HEAD + chunked(data, one_event_a_chunk(data)))[: len(HEAD) + end]
    assert outcome(relayings, raw, cuts) == outcome(relayings, raw, [])


def test_a_stream_that_breaks_off_within_a_chunk_s_own_line_end_is_the_same_too(relayings: Relayings) -> None:
    chunks = [chunked(event + b"\n\n", [])[:-5] for event in TEXTS[:3]]
    start = len(HEAD) + len(chunks[0])
    raw = HEAD + b"".join(chunks)
    for end in range(start, len(raw)):
        whole = outcome(relayings, raw[:end], [])
        assert outcome(relayings, raw[:end], [start]) == whole
        assert outcome(relayings, raw[:end], [start, end - 1]) == whole


def test_a_whole_event_that_continues_another_is_not_one(relayings: Relayings) -> None:
    data = [TEXTS[0] + b"\n\n", b": ping ", TEXTS[0] + b"\n\n", TEXTS[0] + b"\n\n", DONE + b"\n\n"]
    chunks = [chunked(piece, [])[:-5] for piece in data]
    cuts = [len(HEAD) + len(b"".join(chunks[:index])) for index in range(len(chunks))]
    result = outcome(relayings, HEAD + b"".join(chunks) + b"0\r\n\r\n", cuts)
    assert result["events"] == [(2, 0)]


@pytest.mark.parametrize("bad", BAD)
def test_what_is_more_than_text_is_found_after_any_text(relayings: Relayings, bad: bytes) -> None:
    for text in TEXTS:
        data = b"".join(event + b"\n\n" for event in (text, text, text, bad, DONE))
        raw = HEAD + chunked(data, one_event_a_chunk(data))
        cuts = [at for at in range(len(raw)) if raw.startswith(b"\r\n", at - 2)]
        result = outcome(relayings, raw, cuts)
        assert result["error"] == "engine_failed"
        assert b"CUDA" not in b"".join(result["sent"])


def test_only_the_model_of_the_answer_itself_is_renamed(relayings: Relayings) -> None:
    event = b'data: {"model":"theirs","choices":[{"delta":{"content":"x"},"meta":{"model":"theirs"}}]}'
    chunks = [chunked(piece + b"\n\n", [])[:-5] for piece in (event, event, event, DONE)]
    cuts = [len(HEAD) + len(b"".join(chunks[:index])) for index in range(len(chunks))]
    sent = outcome(relayings, HEAD + b"".join(chunks), cuts)["sent"]
    chunk = {"model": "m", "choices": [{"delta": {"content": "x"}, "meta": {"model": "theirs"}}]}
    assert [orjson.loads(piece[5:]) for piece in sent[:3]] == [chunk] * 3


@given(data=streams(), cuts=st.lists(st.integers(1, 4000), max_size=15))
def test_the_model_has_the_name_that_the_client_knows(relayings: Relayings, data: bytes, cuts: list[int]) -> None:
    ours = HEAD + chunked(data, one_event_a_chunk(data))
    served = data.replace(b'"model":"m"', b'"model":"Some/served-name"')
    theirs = HEAD + chunked(served, one_event_a_chunk(served))
    spaced = data.replace(b'"model":"m"', b'"model": "other"')

    def read(raw: bytes) -> dict[str, Any]:
        result = outcome(relayings, raw, cuts)
        result["sent"] = [orjson.loads(event[5:]) if event != DONE else DONE for event in result["sent"]]
        return result

    assert read(theirs) == read(ours)
    assert read(HEAD + chunked(spaced, one_event_a_chunk(spaced))) == read(ours)


def test_a_plain_event_in_a_chunk_of_its_own_goes_on_as_it_came(relayings: Relayings) -> None:
    """Nothing is merged, and nothing framed anew."""
    exchange = relayings.exchange()
    sent: list[bytes] = []
    client_of(exchange).send_chunks = sent.append  # type: ignore[method-assign]
    connection, _ = relayings.sent(exchange)
    chunks = [chunked(TEXTS[0] + b"\n\n", [])[:-5] for _ in range(6)]
    connection.data_received(HEAD + chunks[0])
    connection.data_received(chunks[1])
    connection.data_received(chunks[2] + chunks[3])
    connection.data_received(chunks[4][:20])
    connection.data_received(chunks[4][20:] + chunks[5])
    assert b"".join(sent) == b"".join(chunks[1:])


def test_what_follows_the_end_mark_is_not_passed_on_and_not_kept(relayings: Relayings) -> None:
    exchange = relayings.exchange()
    connection, transport = relayings.sent(exchange)
    connection.data_received(HEAD + chunked(TEXTS[0] + b"\n\n" + DONE + b"\n\n", [])[:-5])
    sent = client_of(exchange).sent
    assert client_of(exchange).ended
    assert connection.busy
    connection.data_received(chunked(TEXTS[0] + b"\n\n", [])[:-5])
    assert client_of(exchange).sent == sent
    connection.sweep(100.0)
    connection.sweep(100.0 + 5)
    assert transport.closed
    assert not connection.busy


def test_an_engine_is_held_back_while_the_client_is_slow(relayings: Relayings) -> None:
    exchange = relayings.exchange()
    connection, transport = relayings.sent(exchange)
    connection.data_received(HEAD + chunked(TEXTS[0] + b"\n\n", [])[:-5])
    assert exchange.work is not None
    exchange.work.pause()
    assert transport.paused
    for now in range(10):
        connection.sweep(1000.0 * now)  # who is held back is not late
    assert connection.busy
    exchange.work.resume()
    assert not transport.paused
    connection.data_received(chunked(USAGE + b"\n\n" + DONE + b"\n\n", []))
    assert client_of(exchange).ended
    assert not connection.busy
