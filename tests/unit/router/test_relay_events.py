"""Streams cut anywhere: what reaches the client is whole events, and the usage is read whatever the cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from time import monotonic
from typing import cast
from unittest.mock import Mock

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.http.upstream import UpstreamConnection
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.place import Place
from pointsman.router.pipeline.relay import Relaying
from support.exchanges import RecordingClient
from support.relayings import Relayings

WORDS = [b'data: {"choices":[{"delta":{"content":"w%d"}}]}\n\n' % number for number in range(5)]
USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5,"reasoning_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = b"".join(WORDS) + USAGE + DONE


@pytest.fixture(scope="module")
def relayings(tmp_path_factory: pytest.TempPathFactory) -> Relayings:
    return Relayings(tmp_path_factory.mktemp("metrics"))


def feed(relaying: Relaying, data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    for start, end in pairwise(edges):
        if start < end:
            relaying.on_data(data[start:end])


@given(cuts=st.lists(st.integers(1, len(STREAM) - 1), max_size=30), asked=st.booleans())
def test_a_stream_cut_anywhere_is_passed_on_and_counted(relayings: Relayings, cuts: list[int], asked: bool) -> None:
    exchange, relaying = relayings.answering(include_usage=asked)
    feed(relaying, STREAM, cuts)
    client = cast(RecordingClient, exchange.client)
    assert client.ended
    assert client.sent.startswith(b"".join(WORDS))
    assert client.sent.endswith(DONE)
    assert (b'"usage"' in client.sent) == asked
    usage = exchange.usage
    assert usage is not None
    assert (usage.input, usage.reasoning, usage.answer, usage.estimated) == (7, 2, 3, False)
    assert exchange.cost is not None
    assert exchange.cost.total == 7 * 1000 + 5 * 2000


@given(cuts=st.lists(st.integers(1, len(STREAM)), max_size=10), end=st.integers(1, len(STREAM) - len(DONE)))
def test_a_stream_that_breaks_ends_with_a_well_formed_error(
    relayings: Relayings, cuts: list[int], end: int
) -> None:
    exchange, relaying = relayings.answering()
    feed(relaying, STREAM[:end], cuts)
    client = cast(RecordingClient, exchange.client)
    asyncio.run(_lose(relaying))
    if not exchange.stream_started:
        assert not client.ended  # it has gone back to `place`
        return
    blocks = client.sent.split(b"\n\n")
    assert blocks[-1] == b""
    assert blocks[-2] == b"data: [DONE]"
    assert orjson.loads(blocks[-3][6:])["error"]["code"] == "engine_failed"
    assert all(orjson.loads(block[6:])["choices"] for block in blocks[:-3])
    usage = exchange.usage
    assert usage is not None
    assert usage.estimated == (b"usage" not in b"".join(STREAM[:end].split(b"\n\n")[5:-1]))
    if usage.estimated:
        assert usage.answer == len(blocks) - 3


async def _lose(relaying: Relaying) -> None:
    relaying.on_lost("closed")


def test_carriage_returns_are_understood(relayings: Relayings) -> None:
    exchange, relaying = relayings.answering(include_usage=True)
    feed(relaying, STREAM.replace(b"\n\n", b"\r\n\r\n"), list(range(1, 900, 13)))
    assert exchange.usage is not None
    assert exchange.usage.prompt_tokens == 7
    assert cast(RecordingClient, exchange.client).ended


def test_an_error_event_of_the_engine_is_told_in_our_words(relayings: Relayings) -> None:
    exchange, relaying = relayings.answering()
    feed(relaying, WORDS[0] + b'data: {"error": {"message": "CUDA /root/x.py", "code": 500}}\n\n' + DONE, [])
    sent = cast(RecordingClient, exchange.client).sent
    assert b"CUDA" not in sent
    assert b'"engine_failed"' in sent
    assert sent.endswith(DONE)


def test_an_event_without_end_is_given_up(relayings: Relayings) -> None:
    exchange, relaying = relayings.answering()
    for _ in range(20):
        relaying.on_data(b"data: {" + b"x" * 10_000)
    assert exchange.error is not None
    assert exchange.error.status == 502


def test_the_word_error_in_an_answer_is_no_error(relayings: Relayings) -> None:
    exchange, relaying = relayings.answering()
    event = b'data: {"choices":[{"delta":{"content":"the \\"error\\" and [DONE] and \\"usage\\":{"}}]}\n\n'
    feed(relaying, event + USAGE + DONE, [])
    assert cast(RecordingClient, exchange.client).sent.startswith(event)
    assert exchange.error is None


def test_a_request_that_was_sent_is_held_anew_when_its_replica_fails(relayings: Relayings) -> None:
    """Time that it waited or ran before must not count against the time it is held."""
    exchange, relaying = relayings.answering()
    exchange.place_deadline = monotonic() - 1
    sent = Mock(spec=UpstreamConnection)
    relaying._send(sent)
    assert sent.send.called
    place = Place(relaying._relay.fleet)
    place.pipeline = relaying._relay.pipeline

    async def placed() -> Outcome:
        outcome = place(exchange)
        assert exchange.work is not None
        exchange.work.abort()
        return outcome

    assert asyncio.run(placed()) is Outcome.WAIT
