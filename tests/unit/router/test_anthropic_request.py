"""Requests in Anthropic's format: the chat each asks for, and what is refused, by the caller's names."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.errors import InvalidRequest
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.wire import formats
from support.exchanges import RecordingClient

WEATHER = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object", "properties": {}}}


def asked(**fields: Any) -> dict[str, Any]:
    """A valid request, changed."""
    return {"model": "small", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields}


def read(body: dict[str, Any], endpoint: Endpoint = Endpoint.MESSAGES, **headers: bytes) -> Exchange:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    exchange = Exchange(RecordingClient(), endpoint, named, orjson.dumps(body))
    formats.wear(exchange)
    assert exchange.face is not None
    exchange.face.read(exchange)
    return exchange


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def turns(*messages: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


CALL = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}


def test_all_that_a_chat_has_a_word_for() -> None:
    exchange = read(
        asked(
            system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            stop_sequences=["END"],
            stream=True,
            temperature=0.5,
            top_p=0.9,
            top_k=5,
            metadata={"user_id": "u"},
            tools=[{**WEATHER, "type": "custom", "cache_control": {"type": "ephemeral"}}],
            tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            thinking={"type": "enabled", "budget_tokens": 50, "display": "omitted"},
            output_config={"effort": "high"},
            service_tier="auto",
            **turns(
                ("user", [{"type": "text", "text": "Weather?"}]),
                (
                    "assistant",
                    [
                        {"type": "thinking", "thinking": "Look it up.", "signature": "x"},
                        {"type": "text", "text": "Wait.", "citations": None},
                        CALL,
                    ],
                ),
                ("user", [{**RESULT, "is_error": True}, {"type": "text", "text": "And?"}]),
            ),
        ),
        anthropic_version=b"2026-10-21",
    )
    assert exchange.payload == {
        "model": "small",
        "max_tokens": 100,
        "stream": True,
        "stop": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "metadata": {"user_id": "u"},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "Tells it.",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "thinking": {"type": "enabled", "budget_tokens": 50},
        "output_config": {"effort": "high"},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "Wait.",
                "reasoning_content": "Look it up.",
                "tool_calls": [
                    {
                        "id": "t1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
                    }
                ],
            },
            {
                "role": "tool",
                "tool_call_id": "t1",
                "content": [{"type": "text", "text": "Error:"}, {"type": "text", "text": "sunny"}],
            },
            {"role": "user", "content": "And?"},
        ],
    }
    assert (exchange.stream, exchange.max_tokens, exchange.needs) == (True, 100, {"tools": "tools"})


def test_images_and_schemas() -> None:
    data = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    link = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    payload = read(
        asked(
            output_config={"format": {"type": "json_schema", "schema": schema}},
            **user({"type": "text", "text": "See"}, data, link),
        )
    ).payload
    assert payload["messages"][0]["content"][1:] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]
    assert payload["response_format"]["json_schema"]["schema"] == schema


REFUSED = {
    "model": ({"model": 1}, "model"),
    "no max_tokens": ({"max_tokens": None}, "max_tokens"),
    "max_tokens": ({"max_tokens": 0}, "max_tokens"),
    "no messages": ({"messages": None}, "messages"),
    "empty messages": ({"messages": []}, "messages"),
    "a chat's field": ({"reasoning_effort": "high"}, "reasoning_effort"),
    "a chat's field of another name here": ({"stop": ["x"]}, "stop"),
    "a private field": ({"rid": "x"}, "rid"),
    "role": (turns(("tool", "x")), "messages[0].role"),
    "content": (turns(("user", 1)), "messages[0].content"),
    "block": (user({"type": "video"}), "messages[0].content[0].type"),
    "no block": ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    "a chat's part": (
        user({"type": "image_url", "image_url": {"url": "x"}}),
        "messages[0].content[0].type",
    ),
    "text": (user({"type": "text", "text": 1}), "messages[0].content[0].text"),
    "citations": (
        user({"type": "text", "text": "x", "citations": [{}]}),
        "messages[0].content[0].citations",
    ),
    "image source": (
        user({"type": "image", "source": {"type": "file", "file_id": "x"}}),
        "messages[0].content[0].source.type",
    ),
    "image type": (
        user({"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": ""}}),
        "messages[0].content[0].source.media_type",
    ),
    "cache_control": (
        user({"type": "text", "text": "x", "cache_control": {"type": "eternal"}}),
        "messages[0].content[0].cache_control.type",
    ),
    "begun answer": (turns(("user", "x"), ("assistant", "y")), "messages[1].role"),
    "orphan result": (user(RESULT), "messages[0].content[0].tool_use_id"),
    "result of another call": (
        {"system": "S", **turns(("user", "x"), ("assistant", [CALL]), ("user", [{**RESULT, "tool_use_id": "t2"}]))},
        "messages[2].content[0].tool_use_id",
    ),
    "results after a text": (
        turns(("user", "x"), ("assistant", [CALL]), ("user", [{"type": "text", "text": "y"}, RESULT])),
        "messages[2].content[1]",
    ),
    "input of a call": (
        turns(("user", "x"), ("assistant", [{**CALL, "input": "{}"}]), ("user", [RESULT])),
        "messages[1].content[0].input",
    ),
    "a tool of the platform's": ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0].type"),
    "a chat's tool": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].type"),
    "no schema": ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    "schema of a tool": (
        {"tools": [{"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "no"}}}}]},
        "tools[0].input_schema.properties.a.type",
    ),
    "name of a tool": ({"tools": [{**WEATHER, "name": "a b"}]}, "tools[0].name"),
    "choice": ({"tools": [WEATHER], "tool_choice": {"type": "required"}}, "tool_choice.type"),
    "choice of another tool": (
        {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "clock"}},
        "tool_choice.name",
    ),
    "choice without tools": ({"tool_choice": {"type": "any"}}, "tool_choice"),
    "budget": ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "thinking.budget_tokens"),
    "no budget": ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    "budget of nothing": ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
    "thinking": ({"thinking": {"type": "always"}}, "thinking.type"),
    "effort": ({"output_config": {"effort": "none"}}, "output_config.effort"),
    "format": ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type"),
    "schema of the answer": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "no"}}}},
        "output_config.format.schema.type",
    ),
    "temperature": ({"temperature": 1.5}, "temperature"),
    "stop_sequences": ({"stop_sequences": "x"}, "stop_sequences"),
    "a stop sequence": ({"stop_sequences": [1]}, "stop_sequences[0]"),
    "system": ({"system": [{"type": "image"}]}, "system[0].type"),
    "metadata": ({"metadata": "x"}, "metadata"),
    "examples": ({"tools": [{**WEATHER, "input_examples": "x"}]}, "tools[0].input_examples"),
    "callers": ({"tools": [{**WEATHER, "allowed_callers": ["code"]}]}, "tools[0].allowed_callers"),
    "a tool to be found later": ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading"),
    "a kept conversation": ({"thread": {"type": "create"}}, "thread"),
    "calls taken out": (
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        "context_management.edits[0].type",
    ),
    "thoughts taken out": (
        {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}},
        "context_management.edits[0].keep",
    ),
}


@pytest.mark.parametrize(("wrong", "field"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_refused_is_named_as_the_caller_names_it(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(asked(**wrong))
    assert refused.value.param == field
    assert f"'{field}'" in refused.value.message


def test_what_agents_send_besides() -> None:
    tool = {
        **WEATHER,
        "input_examples": [{"city": "Rome"}],
        "allowed_callers": ["direct"],
        "defer_loading": False,
        "eager_input_streaming": True,
    }
    keeps = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    payload = read(asked(tools=[tool], context_management=keeps)).payload
    (told,) = payload["tools"]
    assert told["function"]["parameters"] == {**WEATHER["input_schema"], "examples": [{"city": "Rome"}]}
    assert payload.keys() == {"model", "max_tokens", "messages", "tools"}


def test_the_version() -> None:
    read(asked(), anthropic_version=b"2023-06-01")
    with pytest.raises(InvalidRequest) as refused:
        read(asked(), anthropic_version=b"2023-01-01")
    assert refused.value.param == "anthropic-version"


def test_to_count_takes_no_room_and_no_sampling() -> None:
    body = asked(thinking={"type": "enabled", "budget_tokens": 9000})
    del body["max_tokens"]
    assert read(body, Endpoint.COUNT_TOKENS).payload["thinking"] == {"type": "enabled", "budget_tokens": 9000}
    with pytest.raises(InvalidRequest) as refused:
        read(asked(), Endpoint.COUNT_TOKENS)
    assert refused.value.param == "max_tokens"


# -- there and back

texts = st.text(min_size=1, max_size=20)
names = st.from_regex(r"[a-zA-Z_-]{1,12}", fullmatch=True)
inputs = st.dictionaries(
    texts, st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans(), st.none()), max_size=3
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Conversations with texts, thinking, calls and their results, each kind of block where it may stand."""
    messages: list[dict[str, Any]] = []
    calls = 0
    open_calls: list[str] = []
    for _ in range(draw(st.integers(0, 3))):
        results = [
            {"type": "tool_result", "tool_use_id": identity, "content": draw(texts)} for identity in open_calls
        ]
        said = [{"type": "text", "text": text} for text in draw(st.lists(texts, min_size=not results, max_size=2))]
        messages.append({"role": "user", "content": [*results, *said]})
        open_calls = [f"toolu_{calls + index}" for index in range(draw(st.integers(0, 2)))]
        calls += len(open_calls)
        blocks: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": text, "signature": "s"} for text in draw(st.lists(texts, max_size=1))
        ]
        spoken = draw(st.lists(texts, min_size=not open_calls, max_size=2))
        blocks += [{"type": "text", "text": text} for text in spoken]
        blocks += [
            {"type": "tool_use", "id": identity, "name": draw(names), "input": draw(inputs)}
            for identity in open_calls
        ]
        messages.append({"role": "assistant", "content": blocks})
    results = [{"type": "tool_result", "tool_use_id": identity, "content": draw(texts)} for identity in open_calls]
    said = [{"type": "text", "text": text} for text in draw(st.lists(texts, min_size=1, max_size=2))]
    return [*messages, {"role": "user", "content": [*results, *said]}]


def told_again(chat: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chat's messages as this format tells them: written from the formats, with nothing of the router's."""
    messages: list[dict[str, Any]] = []
    for message in chat:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        if message["role"] == "assistant":
            thought = message.get("reasoning_content")
            blocks = [{"type": "thinking", "thinking": thought, "signature": "s"}] if thought else []
            blocks += parts
            for call in message.get("tool_calls", ()):
                function = call["function"]
                blocks.append(
                    {
                        "type": "tool_use",
                        "id": call["id"],
                        "name": function["name"],
                        "input": orjson.loads(function["arguments"]),
                    }
                )
            messages.append({"role": "assistant", "content": blocks})
            continue
        if not messages or messages[-1]["role"] != "user":
            messages.append({"role": "user", "content": []})
        if message["role"] == "tool":
            result = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": content}
            messages[-1]["content"].append(result)
        else:
            messages[-1]["content"] += parts
    return messages


@given(conversations())
def test_conversations_go_there_and_back(messages: list[dict[str, Any]]) -> None:
    assert told_again(read(asked(messages=messages)).payload["messages"]) == messages
