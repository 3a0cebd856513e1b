"""Whatever a client puts in the place of anything: its request is read, or refused in so many words."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.contracts.errors import ApiError
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.wire import formats, openai_request
from support.exchanges import RecordingClient

PICTURE = "data:image/png;base64,aGk="
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Rome"]},
        "days": {"type": "array", "items": {"minimum": 1}},
    },
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
CHAT: dict[str, Any] = {
    "model": "small",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "assistant", "content": "Sunny.", "reasoning_content": "I asked."},
        {"role": "user", "content": "More.", "name": "bob"},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}},
    "max_tokens": 64,
    "temperature": 0,
    "stop": ["x"],
    "seed": 1,
    "n": 2,
    "logit_bias": {"5": 1},
    "logprobs": True,
    "top_logprobs": 3,
    "stream": True,
    "stream_options": {"include_usage": True},
    "metadata": {"a": "b"},
    "reasoning": {"effort": "low", "max_tokens": 10},
    "thinking": {"type": "enabled", "budget_tokens": 10},
    "chat_template_kwargs": {"enable_thinking": True},
}
COMPLETION: dict[str, Any] = {"model": "small", "prompt": ["a", "b"], "logprobs": 1, "best_of": 2, "echo": True}
RESPONSE: dict[str, Any] = {
    "model": "small",
    "instructions": "Be brief.",
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
            ],
        },
        {"type": "reasoning", "id": "r1", "summary": [{"type": "summary_text", "text": "I ask."}]},
        {"type": "function_call", "id": "f1", "call_id": "c1", "name": "weather", "arguments": '{"city":"Rome"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Sunny."}],
        },
        {"role": "user", "content": "More."},
    ],
    "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "medium"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 200,
    "store": False,
    "stream": True,
}
MESSAGE: dict[str, Any] = {
    "model": "small",
    "max_tokens": 3000,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "5m"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I ask.", "signature": "s"},
                {"type": "redacted_thinking", "data": "zz"},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
                {"type": "text", "text": "More."},
            ],
        },
    ],
    "tools": [{"name": "weather", "description": "Tells it.", "input_schema": SCHEMA}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low"},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["x"],
    "stream": True,
}
COUNTED = {name: MESSAGE[name] for name in ("model", "system", "messages", "tools", "tool_choice", "thinking")}
REQUESTS = {
    Endpoint.CHAT: CHAT,
    Endpoint.COMPLETIONS: COMPLETION,
    Endpoint.RESPONSES: RESPONSE,
    Endpoint.MESSAGES: MESSAGE,
    Endpoint.COUNT_TOKENS: COUNTED,
}

Place = tuple[str | int, ...]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where anything is in `value`, from the outside in."""
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*place, key))


def found(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


SCALARS = [None, True, False, 0, -1, 1.5, 2**31, 2**63, 2**64 - 1, 1e308, "", "x", "\0", "text", "auto", "function"]
NESTED = [[], {}, [[]], [{}], [None], {"type": "text"}, {"": ""}, {"$ref": "#"}, {"type": ["string", None]}]
PARTS = [found(body, place) for body in REQUESTS.values() for place in places(body)]
VALUES = st.sampled_from([*SCALARS, *NESTED]) | st.sampled_from(PARTS)


@st.composite
def spoilt(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """`body` with up to three of its parts replaced, repeated or left out."""
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        *place, last = draw(st.sampled_from([place for place in places(body) if place]))
        holder = found(body, tuple(place))
        deed = draw(st.sampled_from(["replace", "replace", "leave out", "add"]))
        if deed == "leave out" and len(body) > 1:
            del holder[last]
        elif deed == "add" and isinstance(holder, list):
            holder.insert(last, copy.deepcopy(draw(VALUES)))
        else:
            holder[last] = copy.deepcopy(draw(VALUES))
    return body


def refusal(endpoint: Endpoint, body: dict[str, Any]) -> ApiError | None:
    """Why `body` is refused, if it is; else it can be sent to an engine."""
    exchange = Exchange(RecordingClient(), endpoint, {}, orjson.dumps(body))
    if endpoint.engine is not endpoint:
        formats.wear(exchange)
    try:
        openai_request.read(exchange) if exchange.face is None else exchange.face.read(exchange)
    except ApiError as error:
        return error
    assert orjson.dumps(openai_request.forwarded(exchange))
    return None


@pytest.mark.parametrize("endpoint", REQUESTS)
def test_as_they_are_they_are_read(endpoint: Endpoint) -> None:
    assert refusal(endpoint, REQUESTS[endpoint]) is None


@pytest.mark.parametrize("endpoint", REQUESTS)
@settings(max_examples=200)
@given(data=st.data())
def test_nothing_fails_but_by_refusal(endpoint: Endpoint, data: st.DataObject) -> None:
    error = refusal(endpoint, data.draw(spoilt(REQUESTS[endpoint])))
    assert error is None or (error.status == 400 and error.message)


@pytest.mark.parametrize("endpoint", REQUESTS)
def test_no_place_fails_whatever_is_in_it(endpoint: Endpoint) -> None:
    """What hashes, compares or looks up by what is there must have looked at its type."""
    for *place, last in list(places(REQUESTS[endpoint]))[1:]:
        for value in (*SCALARS, *NESTED):
            body = copy.deepcopy(REQUESTS[endpoint])
            found(body, tuple(place))[last] = value
            error = refusal(endpoint, body)
            assert error is None or error.status == 400, (place, last, value)
