"""Clients of each wire format, by an independent hand: what they send, and what they make of what they are told.

A client keeps what it is answered and sends it back with its next question. So each answer of a conversation goes
out through a format's face, whole or as a stream, is read by the SDK's own types, and comes back in a request of
that format: the chat it is made into has to be the one there was, and the tokens those that were counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import orjson
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Answer, Endpoint, Exchange
from pointsman.router.snapshot import ModelView
from pointsman.router.wire import formats, openai, openai_request
from support.exchanges import RecordingClient

_MESSAGES_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_RESPONSES_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
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
    """A wire format: `body` of a request with these turns; `read` of an answer's bytes, streamed or not."""

    endpoint: Endpoint
    body: Callable[[list[Any]], dict[str, Any]]
    read: Callable[[bytes, bool], Told]


def _data(sent: bytes) -> list[bytes]:
    """What the events of a stream hold."""
    found = [event.partition(b"data: ")[2] for event in sent.split(b"\n\n") if event.strip()]
    return [data for data in found if data.strip() != b"[DONE]"]


# -- OpenAI's chats


def chat_body(turns: list[Any]) -> dict[str, Any]:
    messages: list[Any] = []
    for turn in turns:
        messages += turn.said if isinstance(turn, Told) else [turn]
    return {"model": "m", "messages": messages}


def read_chat(sent: bytes, stream: bool) -> Told:
    if stream:
        state: Any = ChatCompletionStreamState()
        for data in _data(sent):
            state.handle_chunk(ChatCompletionChunk.model_validate_json(data))
        answer: ChatCompletion = state.current_completion_snapshot
    else:
        answer = ChatCompletion.model_validate_json(sent)
    usage = answer.usage
    assert usage is not None
    asked, made = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = (asked.cached_tokens if asked else None) or 0
    return Told(
        [answer.choices[0].message.model_dump(mode="json", exclude_none=True)],
        usage.prompt_tokens - cached,
        cached,
        usage.completion_tokens,
        (made.reasoning_tokens if made else None) or 0,
    )


# -- Anthropic's Messages


def _block(part: Any) -> dict[str, Any]:
    """A part of a chat's message as a block."""
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    head, _, data = part["image_url"]["url"].partition(";base64,")
    source = {"type": "base64", "media_type": head.removeprefix("data:"), "data": data}
    return {"type": "image", "source": source}


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if type(content) is str else [_block(part) for part in content]


def messages_body(turns: list[Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": []}
    sent: list[Any] = body["messages"]
    for turn in turns:
        if isinstance(turn, Told):
            sent.append({"role": "assistant", "content": turn.said})
        elif turn["role"] == "system":
            blocks = turn["content"] if type(turn["content"]) is str else _blocks(turn["content"])
            if sent or "system" in body:
                sent.append({"role": "system", "content": blocks})
            else:
                body["system"] = blocks
        elif turn["role"] == "tool":
            content = turn["content"] if type(turn["content"]) is str else _blocks(turn["content"])
            result = {"type": "tool_result", "tool_use_id": turn["tool_call_id"], "content": content}
            if sent[-1]["role"] != "user":
                sent.append({"role": "user", "content": []})
            sent[-1]["content"].append(result)
        elif sent and sent[-1]["role"] == "user" and sent[-1]["content"][-1]["type"] == "tool_result":
            sent[-1]["content"] += _blocks(turn["content"])
        else:
            sent.append({"role": "user", "content": _blocks(turn["content"])})
    return body


def read_message(sent: bytes, stream: bool) -> Told:
    if stream:
        snapshot: Any = None
        buffers: dict[int, bytes] = {}
        for data in _data(sent):
            event = _MESSAGES_EVENT.validate_json(data)
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
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


def _input(content: Any) -> Any:
    """What a chat's message holds, as an item has it."""
    if type(content) is str:
        return content
    return [
        {"type": "input_text", "text": part["text"]}
        if part["type"] == "text"
        else {"type": "input_image", "image_url": part["image_url"]["url"]}
        for part in content
    ]


def responses_body(turns: list[Any]) -> dict[str, Any]:
    items: list[Any] = []
    for turn in turns:
        if isinstance(turn, Told):
            items += turn.said
        elif turn["role"] == "tool":
            output = {"call_id": turn["tool_call_id"], "output": _input(turn["content"])}
            items.append({"type": "function_call_output", **output})
        else:
            items.append({"role": turn["role"], "content": _input(turn["content"])})
    return {"model": "m", "input": items}


def read_response(sent: bytes, stream: bool) -> Told:
    if stream:
        *_, last = [_RESPONSES_EVENT.validate_json(data) for data in _data(sent)]
        response = last.response
    else:
        response = Response.model_validate_json(sent)
    usage = response.usage
    assert usage is not None
    cached = usage.input_tokens_details.cached_tokens
    return Told(
        [item.model_dump(mode="json", exclude_none=True) for item in response.output],
        usage.input_tokens - cached,
        cached,
        usage.output_tokens,
        usage.output_tokens_details.reasoning_tokens,
    )


FORMATS = {
    "chat": Format(Endpoint.CHAT, chat_body, read_chat),
    "messages": Format(Endpoint.MESSAGES, messages_body, read_message),
    "responses": Format(Endpoint.RESPONSES, responses_body, read_response),
}


# -- an engine's answers, as a client of a format gets them


def opened(spoken: Format, body: dict[str, Any]) -> Exchange:
    """The request with this `body`, as the pipeline gets it."""
    exchange = Exchange(RecordingClient(), spoken.endpoint, {}, orjson.dumps(body))
    if spoken.endpoint.engine is spoken.endpoint:
        openai_request.read(exchange)
    else:
        formats.wear(exchange)
        assert exchange.face is not None
        exchange.face.read(exchange)
    exchange.rid, exchange.request_id = "0" * 32, "req-0"
    exchange.model = ModelView("m", {}, frozenset())
    if exchange.face is not None:
        exchange.face.understood(exchange)
    return exchange


def answered(spoken: Format, message: dict[str, Any], usage: Usage, *, stream: bool) -> Told:
    """What the client is told where the engine says `message`."""
    exchange = opened(spoken, {**spoken.body([LAST]), "stream": stream})
    exchange.usage = usage
    client = cast(Any, exchange.client)
    head = {"id": "c", "created": 1, "model": "m"}
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    if stream:
        exchange.include_usage = True
        client.start_stream(b"")
        exchange.stream_started = True
        for delta, finished in [*((delta, None) for delta in _deltas(message)), ({}, finish)]:
            choice = {"index": 0, "delta": delta, "finish_reason": finished}
            chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            client.send(b"data: %b\n\n" % orjson.dumps(chunk))
    else:
        choice = {"index": 0, "message": {**message, "role": "assistant"}, "finish_reason": finish}
        told = {**head, "object": "chat.completion", "choices": [choice], "usage": openai.usage_object(usage)}
        exchange.answer = Answer(200, b"", orjson.dumps(told))
    face = exchange.face
    if face is not None:
        face.finish(exchange)
        return spoken.read(face._client.sent, stream)  # type: ignore[attr-defined]
    if exchange.answer is not None:
        return spoken.read(exchange.answer.body, stream)
    client.end_stream(openai.stream_tail(exchange))
    return spoken.read(client.sent, stream)


def _deltas(message: dict[str, Any]) -> list[dict[str, Any]]:
    """`message` in the pieces in which an engine streams it."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{name: message[name]} for name in ("reasoning_content", "content") if message.get(name)]
    for index, call in enumerate(message.get("tool_calls") or ()):
        written = call["function"]["arguments"]
        begun = {"index": index, **call, "function": {**call["function"], "arguments": written[:2]}}
        deltas.append({"tool_calls": [begun]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": written[2:]}}]})
    return deltas


def there_and_back(spoken: Format, chat: Chat, usages: Iterable[Usage], *, stream: bool) -> Chat:
    """The chat that comes of `chat` once a client of the format has had it; its tokens are checked on the way."""
    turns: list[Any] = []
    left = iter(usages)
    for message in chat:
        if message["role"] != "assistant":
            turns.append(message)
            continue
        usage = next(left)
        told = answered(spoken, as_said(message), usage, stream=stream)
        counted = (usage.input, usage.cached_input, usage.reasoning + usage.answer, usage.reasoning)
        assert told[1:] == counted
        turns.append(told)
    found: Chat = opened(spoken, spoken.body(turns)).payload["messages"]
    return found


def as_said(message: dict[str, Any]) -> dict[str, Any]:
    """A turn of the assistant's as an engine says it: in one text."""
    content = message.get("content")
    if type(content) is not list:
        return message
    return {**message, "content": "".join(part["text"] for part in content)}


def plainly(chat: Chat) -> Chat:
    """`chat` with one way of saying what can be said in two: no text, one text, and arguments' spaces."""
    plain = []
    for message in chat:
        message = as_said(message) if message["role"] == "assistant" else message
        told = {name: value for name, value in message.items() if value not in (None, "")}
        if type(told.get("content")) is list and [part["type"] for part in told["content"]] == ["text"]:
            told["content"] = told["content"][0]["text"]
        if "tool_calls" in told:
            told["tool_calls"] = [
                (call["id"], call["function"]["name"], orjson.loads(call["function"]["arguments"]))
                for call in told["tool_calls"]
            ]
        plain.append(told)
    return plain
