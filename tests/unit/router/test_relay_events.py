"""Streams cut anywhere: what reaches the client is whole events, and the usage is read whatever the cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, cast
from unittest.mock import Mock

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.config import Config
from pointsman.contracts.modes import Mode, ModeDecision, ModePolicy, Source
from pointsman.router.exchange import Exchange
from pointsman.router.fleet import Fleet, Replica
from pointsman.router.http.upstream import UpstreamConnection
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline import Pipeline
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.place import Place
from pointsman.router.pipeline.relay import Relay, Relaying
from pointsman.router.pipeline.settle import Settle
from pointsman.router.snapshot import ModelView, TenantView, compile_snapshot
from support.exchanges import RecordingClient, exchange_with

CONFIG = Config.model_validate(
    {
        "pools": [
            {
                "name": "p",
                "model": "m",
                "modes": ["think"],
                "engine": "simulated",
                "prices": {"input": 1, "output": 2},
            }
        ]
    }
)
WORDS = [b'data: {"choices":[{"delta":{"content":"w%d"}}]}\n\n' % number for number in range(5)]
USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5,"reasoning_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = b"".join(WORDS) + USAGE + DONE


class _StandIn:
    """A step under the name of a real one, that waits for ever."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, exchange: Exchange) -> Outcome:
        return Outcome.WAIT


Make = Callable[..., tuple[Exchange, Relaying]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """An exchange whose replica has just answered 200 with a stream, and its relaying."""
    folder: Path = tmp_path_factory.mktemp("metrics")
    metrics = Metrics(folder, lambda seconds, flush: None)
    fleet = Fleet(CONFIG, cast(Any, None), metrics, secret="s")
    relay = Relay(fleet, metrics, max_response_bytes=100_000)
    steps = [_StandIn(Place.name), relay, Settle(compile_snapshot(CONFIG), metrics)]
    relay.pipeline = Pipeline(steps, metrics)

    def made(**asked: bool) -> tuple[Exchange, Relaying]:
        exchange = exchange_with({"model": "m"})
        exchange.stream = True
        exchange.include_usage = asked.get("include_usage", False)
        exchange.decision = ModeDecision(Mode.THINK, Source.CLIENT, 0.5, None, "model")
        exchange.pool = CONFIG.pools[0]
        exchange.model = ModelView("m", {Mode.THINK: CONFIG.pools}, frozenset({Mode.THINK}))
        exchange.replica = Replica("p", "127.0.0.1:1", "i")
        exchange.position = 1
        exchange.attempts = 1
        relaying = Relaying(relay, exchange)
        exchange.work = relaying
        relaying.on_head(200, {b"content-type": b"text/event-stream"})
        return exchange, relaying

    return made


def feed(relaying: Relaying, data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    for start, end in pairwise(edges):
        if start < end:
            relaying.on_data(data[start:end])


@given(cuts=st.lists(st.integers(1, len(STREAM) - 1), max_size=30), asked=st.booleans())
def test_a_stream_cut_anywhere_is_passed_on_and_counted(make: Make, cuts: list[int], asked: bool) -> None:
    exchange, relaying = make(include_usage=asked)
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
def test_a_stream_that_breaks_ends_with_a_well_formed_error(make: Make, cuts: list[int], end: int) -> None:
    exchange, relaying = make()
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


def test_carriage_returns_are_understood(make: Make) -> None:
    exchange, relaying = make(include_usage=True)
    feed(relaying, STREAM.replace(b"\n\n", b"\r\n\r\n"), list(range(1, 900, 13)))
    assert exchange.usage is not None
    assert exchange.usage.prompt_tokens == 7
    assert cast(RecordingClient, exchange.client).ended


def test_an_error_event_of_the_engine_is_told_in_our_words(make: Make) -> None:
    exchange, relaying = make()
    feed(relaying, WORDS[0] + b'data: {"error": {"message": "CUDA /root/x.py", "code": 500}}\n\n' + DONE, [])
    sent = cast(RecordingClient, exchange.client).sent
    assert b"CUDA" not in sent
    assert b'"engine_failed"' in sent
    assert sent.endswith(DONE)


def test_an_event_without_end_is_given_up(make: Make) -> None:
    exchange, relaying = make()
    for _ in range(20):
        relaying.on_data(b"data: {" + b"x" * 10_000)
    assert exchange.error is not None
    assert exchange.error.status == 502


def test_the_word_error_in_an_answer_is_no_error(make: Make) -> None:
    exchange, relaying = make()
    event = b'data: {"choices":[{"delta":{"content":"the \\"error\\" and [DONE] and \\"usage\\":{"}}]}\n\n'
    feed(relaying, event + USAGE + DONE, [])
    assert cast(RecordingClient, exchange.client).sent.startswith(event)
    assert exchange.error is None


def test_a_request_that_was_sent_is_held_anew_when_its_replica_fails(make: Make) -> None:
    """Time that it waited or ran before must not count against the time it is held."""
    exchange, relaying = make()
    exchange.payload = {"messages": []}
    exchange.tenant = TenantView("t", {}, ModePolicy(), "salt")
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
