"""Whole conversations through the other wire formats: what an engine said comes back to it as it was.

A client keeps what it is answered and sends it back with its next question. So each answer of a conversation goes
out through a format's face, whole or as a stream, is read by the SDK's own types, and comes back in a request of
that format: the chat it is made into has to be the one there was, and the tokens those that were counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from pydantic import TypeAdapter

from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Answer, Endpoint, Exchange
from pointsman.router.snapshot import ModelView
from pointsman.router.wire import formats
from support.exchanges import RecordingClient

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
LAST = {"role": "user", "content": "Go on."}

Chat = list[dict[str, Any]]


class Told(NamedTuple):
    """What a client of a format makes of one answer: what it sends back, and the tokens it was told."""

    said: list[dict[str, Any]]
    input: int
    cached: int
    output: int
    thinking: int


class Format(NamedTuple):
    """A wire format, by an independent hand: `body` of a request with these turns; `read` of an answer's bytes."""

    endpoint: Endpoint
    body: Callable[[list[Any]], dict[str, Any]]
    read: Callable[[bytes, bool], Told]


# -- Anthropic's Messages


def messages_body(turns: list[Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": []}
    for turn in turns:
        if isinstance(turn, Told):
            body["messages"].append({"role": "assistant", "content": turn.said})
            continue
        if turn["role"] == "system":
            body["system"] = turn["content"]
            continue
        block = {"type": "text", "text": turn["content"]}
        if turn["role"] == "tool":
            block = {"type": "tool_result", "tool_use_id": turn["tool_call_id"], "content": turn["content"]}
        if not body["messages"] or body["messages"][-1]["role"] != "user":
            body["messages"].append({"role": "user", "content": []})
        body["messages"][-1]["content"].append(block)
    return body


def read_message(sent: bytes, stream: bool) -> Told:
    if stream:
        snapshot: Any = None
        buffers: dict[int, bytes] = {}
        for event in sent.split(b"\n\n")[:-1]:
            told = EVENT.validate_python(orjson.loads(event.partition(b"data: ")[2]))
            snapshot = accumulate_event(event=told, current_snapshot=snapshot, json_bufs=buffers)
    else:
        snapshot = Message.model_validate_json(sent)
    usage = snapshot.usage
    return Told(
        [block.to_dict() for block in snapshot.content],
        usage.input_tokens,
        usage.cache_read_input_tokens,
        usage.output_tokens,
        usage.output_tokens_details.thinking_tokens,
    )


# -- OpenAI's Responses


def responses_body(turns: list[Any]) -> dict[str, Any]:
    items: list[Any] = []
    for turn in turns:
        if isinstance(turn, Told):
            items += turn.said
        elif turn["role"] == "tool":
            output = {"type": "function_call_output", "call_id": turn["tool_call_id"], "output": turn["content"]}
            items.append(output)
        else:
            items.append(turn)
    return {"model": "m", "input": items}


def read_response(sent: bytes, stream: bool) -> Told:
    if stream:
        sent = orjson.dumps(orjson.loads(sent.split(b"\n\n")[-2].partition(b"data: ")[2])["response"])
    response = Response.model_validate_json(sent)
    usage = response.usage
    assert usage is not None
    cached = usage.input_tokens_details.cached_tokens
    return Told(
        [item.model_dump(exclude_none=True) for item in response.output],
        usage.input_tokens - cached,
        cached,
        usage.output_tokens,
        usage.output_tokens_details.reasoning_tokens,
    )


FORMATS = {
    "messages": Format(Endpoint.MESSAGES, messages_body, read_message),
    "responses": Format(Endpoint.RESPONSES, responses_body, read_response),
}


# -- an engine's answers, through a face


def opened(spoken: Format, turns: list[Any], *, stream: bool = False) -> Exchange:
    """The request with these `turns`, as the pipeline gets it."""
    body = {**spoken.body(turns), "stream": stream}
    exchange = Exchange(RecordingClient(), spoken.endpoint, {}, orjson.dumps(body))
    formats.wear(exchange)
    assert exchange.face is not None
    exchange.face.read(exchange)
    exchange.rid, exchange.request_id = "0" * 32, "req-0"
    exchange.model = ModelView("m", {}, frozenset())
    exchange.face.understood(exchange)
    return exchange


def answered(spoken: Format, message: dict[str, Any], usage: Usage, *, stream: bool) -> Told:
    """What the client is told where the engine says `message`."""
    exchange = opened(spoken, [LAST], stream=stream)
    face, client = exchange.face, cast(Any, exchange.client)
    assert face is not None
    exchange.usage = usage
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    if stream:
        deltas = [{name: value} for name, value in message.items() if name in ("reasoning_content", "content")]
        for index, call in enumerate(message.get("tool_calls", ())):
            arguments = call["function"]["arguments"]
            begun = {"index": index, **call, "function": {**call["function"], "arguments": arguments[:2]}}
            rest = {"index": index, "function": {"arguments": arguments[2:]}}
            deltas += [{"tool_calls": [begun]}, {"tool_calls": [rest]}]
        client.start_stream(b"")
        exchange.stream_started = True
        for delta, finished in [*((delta, None) for delta in deltas if any(delta.values())), ({}, finish)]:
            choice = {"index": 0, "delta": delta, "finish_reason": finished}
            client.send(b"data: %b\n\n" % orjson.dumps({"id": "c", "choices": [choice]}))
    else:
        choice = {"index": 0, "message": message, "finish_reason": finish}
        exchange.answer = Answer(200, b"", orjson.dumps({"choices": [choice]}))
    face.finish(exchange)
    return spoken.read(face._client.sent, stream)  # type: ignore[attr-defined]


def there_and_back(spoken: Format, chat: Chat, usages: Iterable[Usage], *, stream: bool) -> Chat:
    """The chat that comes of `chat` once a client of the format has had it; its tokens are checked on the way."""
    turns: list[Any] = []
    left = iter(usages)
    for message in chat:
        if message["role"] != "assistant":
            turns.append(message)
            continue
        usage = next(left)
        told = answered(spoken, message, usage, stream=stream)
        counted = (usage.input, usage.cached_input, usage.reasoning + usage.answer, usage.reasoning)
        assert told[1:] == counted
        turns.append(told)
    found: Chat = opened(spoken, turns).payload["messages"]
    return found


def plainly(chat: Chat) -> Chat:
    """`chat` with one way of saying what can be said in two: no text, and arguments' spaces."""
    plain = []
    for message in chat:
        told = {name: value for name, value in message.items() if value not in (None, "")}
        if "tool_calls" in told:
            told["tool_calls"] = [
                (call["id"], call["function"]["name"], orjson.loads(call["function"]["arguments"]))
                for call in told["tool_calls"]
            ]
        plain.append(told)
    return plain


# -- conversations

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
numbers = st.integers(0, 10**6)
usages = st.tuples(numbers, numbers, numbers, numbers).map(lambda told: Usage(*told))
arguments = st.dictionaries(
    texts, st.one_of(texts, st.integers(-(2**53), 2**53), st.none(), st.booleans()), max_size=3
)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """Conversations of an engine's: thinking, text and calls where each may stand, results of all calls."""
    chat: Chat = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    numbered = itertools.count()
    for _ in range(draw(st.integers(0, 3))):
        chat.append({"role": "user", "content": draw(texts)})
        calls = [
            {
                "id": f"call_{next(numbered)}",
                "type": "function",
                "function": {"name": draw(st.from_regex(r"[a-z_]{1,8}", fullmatch=True)), "arguments": written},
            }
            for written in draw(st.lists(arguments.map(lambda value: orjson.dumps(value).decode()), max_size=2))
        ]
        said: dict[str, Any] = {"role": "assistant"}
        if draw(st.booleans()):
            said["reasoning_content"] = draw(texts)
        if not calls or draw(st.booleans()):
            said["content"] = draw(texts)
        if calls:
            said["tool_calls"] = calls
        chat.append(said)
        chat += [{"role": "tool", "tool_call_id": call["id"], "content": draw(texts)} for call in calls]
    return [*chat, LAST]


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(chat=chats(), counted=st.lists(usages, min_size=3, max_size=3), stream=st.booleans())
def test_a_generated_conversation_comes_back(name: str, chat: Chat, counted: list[Usage], *, stream: bool) -> None:
    assert plainly(there_and_back(FORMATS[name], chat, counted, stream=stream)) == plainly(chat)
