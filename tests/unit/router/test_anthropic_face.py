"""Answers in Anthropic's format, read by Anthropic's own SDK: streamed in whatever pieces, and whole."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pointsman.contracts.errors import UpstreamFailed
from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Answer, Endpoint, Exchange
from pointsman.router.wire import formats
from support.exchanges import RecordingClient

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
USAGE = Usage(input=7, cached_input=3, reasoning=2, answer=5)


class Model:
    name = "small"


def asking(*, stops: list[str] | None = None, thinking: dict[str, Any] | None = None) -> Exchange:
    """An exchange whose answer is awaited."""
    body = {
        "model": "small",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}],
        "stop_sequences": stops,
        "thinking": thinking,
    }
    exchange = Exchange(RecordingClient(), Endpoint.MESSAGES, {}, orjson.dumps(body))
    formats.wear(exchange)
    assert exchange.face is not None
    exchange.face.read(exchange)
    exchange.rid, exchange.request_id = "r1", "req-r1"
    exchange.model = Model  # type: ignore[assignment]
    exchange.face.understood(exchange)
    exchange.usage = USAGE
    return exchange


def chunk(reason: str | None = None, *, spaced: bool = False, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, "matched_stop": None}
    event = {"id": "c", "object": "chat.completion.chunk", "model": "small", "choices": [choice]}
    return b"data: " + (json.dumps(event).encode() if spaced else orjson.dumps(event)) + b"\n\n"


def framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def events_of(sent: bytes) -> list[dict[str, Any]]:
    found = []
    for event in sent.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        found.append(told)
    return found


def message_of(sent: bytes) -> dict[str, Any]:
    """What Anthropic's SDK makes of the events, once it is sure that they come in order."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    open_block = -1
    for told in events_of(sent):
        if told["type"] == "content_block_start":
            assert told["index"] == len(snapshot.content)
            open_block = told["index"]
        elif told["type"] in ("content_block_delta", "content_block_stop"):
            assert told["index"] == open_block
            if told["type"] == "content_block_stop":
                open_block = -1
        elif told["type"].startswith("message_"):
            assert open_block == -1
        snapshot = accumulate_event(event=EVENT.validate_python(told), current_snapshot=snapshot, json_bufs=buffers)
    assert events_of(sent)[-1]["type"] == "message_stop"
    message: dict[str, Any] = snapshot.to_dict()
    message.pop("stop_details")  # which the SDK adds
    return message


def streamed(exchange: Exchange, pieces: list[tuple[bytes, bool]]) -> dict[str, Any]:
    """The message that a stream of `pieces` (bytes, and whether they are HTTP chunks) amounts to."""
    connection = exchange.face._client  # type: ignore[union-attr]
    exchange.client.start_stream(b"")
    exchange.stream_started = True
    for piece, chunks in pieces:
        (exchange.client.send_chunks if chunks else exchange.client.send)(piece)
    assert exchange.face is not None
    exchange.face.finish(exchange)
    return message_of(connection.sent)


def whole(exchange: Exchange, message: dict[str, Any], reason: str = "stop", **choice: Any) -> dict[str, Any]:
    connection = exchange.face._client  # type: ignore[union-attr]
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": reason, **choice}]}
    exchange.answer = Answer(200, b"", orjson.dumps(answer))
    assert exchange.face is not None
    exchange.face.finish(exchange)
    told: dict[str, Any] = json.loads(connection.sent)
    return told


texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=6)
calls = st.lists(
    st.tuples(
        st.from_regex(r"[a-z]{1,5}", fullmatch=True),
        st.dictionaries(st.text(max_size=3), st.one_of(st.text(max_size=5), st.integers(-9, 9)), max_size=2),
    ),
    max_size=2,
)


@given(st.data(), texts, texts, calls, st.booleans())
def test_a_stream_amounts_to_the_whole_answer(
    data: st.DataObject, thought: list[str], said: list[str], called: list[tuple[str, Any]], spaced: bool
) -> None:
    events = [chunk(role="assistant", content="", spaced=spaced)]
    events += [chunk(reasoning_content=text, spaced=spaced) for text in thought]
    events += [chunk(content=text, spaced=spaced) for text in said]
    whole_calls = []
    for index, (name, arguments) in enumerate(called):
        written, identity = json.dumps(arguments), f"call_{index}"
        whole_calls.append({"id": identity, "type": "function", "function": {"name": name, "arguments": written}})
        cut = data.draw(st.integers(0, len(written)))
        head = {"index": index, "id": identity, "type": "function", "function": {"name": name, "arguments": ""}}
        rest = [{"index": index, "function": {"arguments": part}} for part in (written[:cut], written[cut:])]
        events += [chunk(tool_calls=[piece], spaced=spaced) for piece in (head, *rest)]
    reason = "tool_calls" if called else "stop"
    events.append(chunk(reason, spaced=spaced))
    pieces: list[tuple[bytes, bool]] = []
    while events:
        together = data.draw(st.integers(1, len(events)))
        chunks = data.draw(st.booleans())
        taken, events = events[:together], events[together:]
        pieces.append((b"".join(map(framed, taken)) if chunks else b"".join(taken), chunks))
    message = {
        "role": "assistant",
        "content": "".join(said) or None,
        "reasoning_content": "".join(thought) or None,
        "tool_calls": whole_calls or None,
    }
    told = whole(asking(), message, reason)
    assert streamed(asking(), pieces) == told
    assert told["usage"] == {
        "input_tokens": 7,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 3,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    kinds = ["thinking"] * bool(thought) + ["text"] * bool(said) + ["tool_use"] * len(called)
    assert [block["type"] for block in told["content"]] == kinds


REASONS = {
    "its own end": ("stop", 2, "end_turn", None),
    "a stop sequence": ("stop", "END", "stop_sequence", "END"),
    "a stop of the model's own": ("stop", "<|eot|>", "end_turn", None),
    "length": ("length", None, "max_tokens", None),
    "a filter": ("content_filter", None, "refusal", None),
    "a reason nobody knows": ("abort", None, "end_turn", None),
}


@pytest.mark.parametrize(("reason", "matched", "stop_reason", "sequence"), REASONS.values(), ids=list(REASONS))
def test_why_it_ended(reason: str, matched: object, stop_reason: str, sequence: str | None) -> None:
    told = whole(asking(stops=["END"]), {"content": "x"}, reason, matched_stop=matched)
    assert (told["stop_reason"], told["stop_sequence"]) == (stop_reason, sequence)
    exchange = asking(stops=["END"])
    end = orjson.loads(chunk(reason)[6:])
    end["choices"][0]["matched_stop"] = matched
    again = streamed(exchange, [(chunk(content="x"), False), (b"data: " + orjson.dumps(end) + b"\n\n", False)])
    assert (again["stop_reason"], again["stop_sequence"]) == (stop_reason, sequence)


def test_thinking_that_is_not_to_be_shown() -> None:
    hidden = {"type": "enabled", "budget_tokens": 50, "display": "omitted"}
    told = whole(asking(thinking=hidden), {"content": "x", "reasoning_content": "secret"})
    pieces = [(chunk(reasoning_content=text), False) for text in ("se", "cr", "et")]
    again = streamed(asking(thinking=hidden), [*pieces, (chunk(content="x"), False), (chunk("stop"), False)])
    assert told == again
    assert told["content"][0] == {"type": "thinking", "thinking": "", "signature": "r1"}


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]},
        {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[]"}}]},
        {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]},
    ],
    ids=["cut", "no object", "no text"],
)
def test_arguments_that_are_none_are_never_made_up(message: dict[str, Any]) -> None:
    told = whole(asking(), message)
    assert (told["type"], told["error"]["type"]) == ("error", "api_error")


@pytest.mark.parametrize(
    "event",
    [
        b"data: [",
        b"data: []",
        b'data: {"choices":[null]}',
        b'data: {"choices":[{"delta":[]}]}',
        b'data: {"choices":[{"delta":{"tool_calls":[null,{"function":[]}]}}]}',
        b'data: {"choices":[{"delta":{"content":{"a":1}},"finish_reason":{}}]}',
        b": a comment",
    ],
    ids=["cut", "list", "choice", "delta", "call", "content", "comment"],
)
def test_what_has_no_known_shape_is_left_out(event: bytes) -> None:
    told = streamed(asking(), [(chunk(content="a"), False), (event + b"\n\n", False), (chunk(content="b"), False)])
    assert "".join(block.get("text", "") for block in told["content"]) == "ab"


def test_an_error_after_the_first_byte() -> None:
    exchange = asking()
    connection = exchange.face._client  # type: ignore[union-attr]
    exchange.client.start_stream(b"", first=chunk(content="a"))
    exchange.stream_started = True
    exchange.error = UpstreamFailed("The engine failed.")
    assert exchange.face is not None
    exchange.face.finish(exchange)
    assert events_of(connection.sent)[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "The engine failed.", "param": None, "code": "engine_failed"},
        "request_id": "req-r1",
    }
