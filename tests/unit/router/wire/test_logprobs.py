"""Log-probabilities in Responses: those of the answer's own tokens, whole and streamed alike."""

from __future__ import annotations

import itertools
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Answer, Endpoint, Exchange
from pointsman.router.snapshot import ModelView
from pointsman.router.wire import formats
from pointsman.router.wire.logprobs import AnswersTokens
from support.exchanges import RecordingClient

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def token(text: str | bytes, logprob: float = -0.5) -> dict[str, Any]:
    """An entry of a chat's; the bytes of a part of a character have no text."""
    written = text.encode() if isinstance(text, str) else text
    told = {"token": written.decode(errors="replace"), "bytes": list(written), "logprob": logprob}
    return {**told, "top_logprobs": [told]}


def of(*texts: str | bytes) -> dict[str, Any]:
    return {"content": [token(text) for text in texts]}


def spelled(entries: list[Any]) -> list[str]:
    return [entry["token"] if isinstance(entry, dict) else entry.token for entry in entries]


def asked(*, stream: bool) -> Exchange:
    body = {"model": "m", "input": "x", "stream": stream, "include": ["message.output_text.logprobs"]}
    exchange = Exchange(RecordingClient(), Endpoint.RESPONSES, {}, orjson.dumps({**body, "top_logprobs": 1}))
    formats.wear(exchange)
    assert exchange.face is not None
    exchange.face.read(exchange)
    assert (exchange.payload["logprobs"], exchange.payload["top_logprobs"]) == (True, 1)
    exchange.rid, exchange.request_id, exchange.usage = "0" * 32, "req-0", Usage(1, 0, 0, 1)
    exchange.model = ModelView("m", {}, frozenset())
    exchange.face.understood(exchange)
    return exchange


def whole(**choice: Any) -> list[Any]:
    """The log-probabilities that an answer tells."""
    exchange = asked(stream=False)
    face = exchange.face
    assert face is not None
    exchange.answer = Answer(200, b"", orjson.dumps({"choices": [{"index": 0, "finish_reason": "stop", **choice}]}))
    face.finish(exchange)
    response = Response.model_validate_json(face._client.sent)  # type: ignore[attr-defined]
    (item,) = [item for item in response.output if item.type == "message"]
    assert item.content[0].type == "output_text"
    return item.content[0].logprobs or []


def streamed(*chunks: tuple[dict[str, Any], Any]) -> tuple[list[list[str]], list[Any]]:
    """What each delta tells, and what the end of the text does; the same stands in the answer at the end."""
    exchange = asked(stream=True)
    face, client = exchange.face, cast(Any, exchange.client)
    assert face is not None
    client.start_stream(b"")
    exchange.stream_started = True
    for delta, logprobs in [*chunks, ({}, None)]:
        finish = None if delta else "stop"
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        client.send(b"data: %b\n\n" % orjson.dumps({"id": "c", "choices": [choice]}))
    face.finish(exchange)
    events = [
        EVENT.validate_json(event.partition(b"data: ")[2])
        for event in face._client.sent.split(b"\n\n")[:-1]  # type: ignore[attr-defined]
    ]
    deltas = [spelled(event.logprobs) for event in events if event.type == "response.output_text.delta"]
    (done,) = [event for event in events if event.type == "response.output_text.done"]
    (item,) = [item for item in events[-1].response.output if item.type == "message"]
    assert spelled(item.content[0].logprobs) == spelled(done.logprobs)
    return deltas, item.content[0].logprobs


def test_what_was_thought_and_the_mark_of_the_end_are_no_part_of_the_answer() -> None:
    logprobs = of("Hm", ".", "</think>", "\n\n", "Hm", " yes", ".", "<|im_end|>")
    found = whole(message={"reasoning_content": "Hm.", "content": "Hm yes."}, logprobs=logprobs)
    assert spelled(found) == ["Hm", " yes", "."]
    assert found[0].bytes == list(b"Hm")
    assert (found[0].logprob, found[0].top_logprobs[0].token) == (-0.5, "Hm")


def test_each_piece_of_a_stream_tells_its_own() -> None:
    deltas, told = streamed(
        ({"role": "assistant", "content": ""}, None),
        ({"reasoning_content": "Hm"}, of("Hm")),
        ({"reasoning_content": "."}, of(".", "</think>", "\n\n", "Oh")),  # as engines tell several steps at once
        ({"content": "Oh"}, None),
        ({"content": " yes"}, of(" yes")),
        ({"content": " yes"}, of(" yes")),
        ({"content": "!"}, of("!", "<|im_end|>")),
    )
    assert deltas == [["Oh"], [" yes"], [" yes"], ["!"]]
    assert spelled(told) == ["Oh", " yes", " yes", "!"]


def test_text_that_was_held_back_comes_with_the_tokens_that_were_told_before_it() -> None:
    held: dict[str, Any] = {"content": None}
    deltas, _ = streamed((held, of("<")), (held, of("b")), ({"content": "<b>"}, of(">")))
    assert deltas == [["<", "b", ">"]]


def test_a_character_in_several_tokens_has_them_all() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    (entries,) = [whole(message={"content": "né"}, logprobs=of("n", first, second, "<end>"))]
    assert [entry.bytes for entry in entries] == [list(b"n"), list(first), list(second)]
    deltas, _ = streamed(({"content": "n"}, of("n")), ({"content": "é"}, of(second)))  # the first one was not told
    assert deltas[1] == ["\ufffd"]


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"content": None}, {"content": [7, {"token": 1}, {"token": "x"}]}, [], "x"]
)
def test_what_has_no_known_shape_is_left_out(logprobs: Any) -> None:
    assert whole(message={"content": "x"}, logprobs=logprobs) == []


def test_bytes_that_an_engine_does_not_tell_are_those_of_the_text() -> None:
    logprobs = {"content": [{"token": "Oh", "logprob": -1, "bytes": None}]}
    (entry,) = whole(message={"content": "Oh"}, logprobs=logprobs)
    assert (entry.bytes, entry.top_logprobs) == (list(b"Oh"), [])


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=4), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 8), max_size=3),
)
def test_an_answers_tokens_are_told_once_each_whatever_chunks_they_come_in(
    pieces: list[str], cuts: list[int]
) -> None:
    tokens = AnswersTokens()
    edges = sorted({0, len(pieces), *(cut for cut in cuts if cut < len(pieces))})
    for begin, end in itertools.pairwise(edges):
        tokens.add(of(*pieces[begin:end]))
        assert spelled(tokens.take("".join(pieces[begin:end]))) == pieces[begin:end]
    assert spelled(tokens.taken) == pieces
