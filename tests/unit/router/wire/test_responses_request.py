"""Requests in OpenAI's newer format: the chat that each asks for, and the field at fault where there is one."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.contracts.errors import InvalidRequest
from pointsman.router.exchange import Endpoint
from pointsman.router.wire.responses_face import ResponsesFace
from support.exchanges import exchange_with

USER = {"role": "user", "content": "hello"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "42"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def chat(**body: Any) -> dict[str, Any]:
    exchange = exchange_with({"model": "m", "input": "hello", **body}, endpoint=Endpoint.RESPONSES)
    ResponsesFace(exchange.client).read(exchange)
    return exchange.payload


def messages(*items: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(input=list(items), **body)["messages"]
    return found


def test_texts_and_parts_become_messages() -> None:
    assert chat()["messages"] == [USER]
    assert messages(
        {"role": "developer", "content": "be kind"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        instructions="be brief",
    ) == [
        {"role": "system", "content": "be brief"},
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]


def test_the_items_of_one_turn_become_one_message() -> None:
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    }
    said = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
    }
    answer = {"role": "assistant", "content": "It is 42."}
    assert messages(USER, thought, said, CALL, RESULT, answer, USER, tools=[TOOL]) == [
        USER,
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        answer,
        USER,
    ]


def test_a_summary_is_what_was_thought_where_nothing_else_is_told() -> None:
    thought = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]}
    (_, turn, _) = messages(USER, thought, {"role": "assistant", "content": "yes"}, USER)
    assert turn["reasoning_content"] == "hm"


def test_fields_are_translated_and_the_platforms_own_have_no_effect() -> None:
    payload = chat(
        max_output_tokens=50,
        tools=[{**TOOL, "strict": True, "description": "d"}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        reasoning={"effort": "low", "summary": "auto"},
        store=False,
        include=["reasoning.encrypted_content"],
        truncation="disabled",
        service_tier="auto",
        prompt_cache_key="k",
    )
    function = {"name": "f", "parameters": {"type": "object"}, "strict": True, "description": "d"}
    assert payload["tools"] == [{"type": "function", "function": function}]
    assert payload["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert payload["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert (payload["max_tokens"], payload["reasoning"]) == (50, {"effort": "low"})


def test_some_of_the_tools_may_be_allowed() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    payload = chat(tools=[{**TOOL, "name": "g"}, TOOL], tool_choice=choice)
    assert [tool["function"]["name"] for tool in payload["tools"]] == ["f"]
    assert payload["tool_choice"] == "required"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "stored": ({"store": True}, "store"),
    "in the background": ({"background": True}, "background"),
    "after another": ({"previous_response_id": "resp_1"}, "previous_response_id"),
    "of a conversation": ({"conversation": "conv_1"}, "conversation"),
    "truncated": ({"truncation": "auto"}, "truncation"),
    "no input": ({"input": None}, "input"),
    "empty input": ({"input": []}, "input"),
    "unknown field": ({"messages": []}, "messages"),
    "private field": ({"rid": "x"}, "rid"),
    "max_output_tokens": ({"max_output_tokens": 0}, "max_output_tokens"),
    "a reference": ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
    "unknown item": ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
    "unknown role": ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    "unknown part": (
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        "input[0].content[0].type",
    ),
    "image of no kind": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}]},
        "input[0].content[0].image_url",
    ),
    "begun answer": ({"input": [USER, {"role": "assistant", "content": "I"}]}, "input[1]"),
    "orphan result": ({"input": [USER, RESULT]}, "input[1].call_id"),
    "arguments": ({"input": [USER, {**CALL, "arguments": "[1]"}, RESULT]}, "input[1].arguments"),
    "hosted tool": ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    "schema of a tool": ({"tools": [{**TOOL, "parameters": {"type": 7}}]}, "tools[0].parameters.type"),
    "tool that is not there": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice.name",
    ),
    "allowed tool that is not there": (
        {
            "tools": [TOOL],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
        },
        "tool_choice.tools[0]",
    ),
    "allowed tools of no mode": (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}]}},
        "tool_choice.mode",
    ),
    "hosted tool that is allowed": (
        {
            "tools": [TOOL],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]},
        },
        "tool_choice.tools[0].type",
    ),
    "format": ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    "schema of the format": (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": 7}}}},
        "text.format.schema.type",
    ),
    "verbosity": ({"text": {"verbosity": "high"}}, "text.verbosity"),
    "effort": ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    "summary": ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
    "included": ({"include": ["message.output_text.thoughts"]}, "include[0]"),
    "top_logprobs of nothing": ({"top_logprobs": 2}, "top_logprobs"),
    "too many top_logprobs": (
        {"include": ["message.output_text.logprobs"], "top_logprobs": 21},
        "top_logprobs",
    ),
    "max_tool_calls": ({"max_tool_calls": 0}, "max_tool_calls"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_at_fault_is_named_in_the_callers_words(case: str) -> None:
    body, field = REFUSED[case]
    with pytest.raises(InvalidRequest) as refused:
        chat(**body)
    assert refused.value.param == field
    assert f"'{field}'" in refused.value.message
