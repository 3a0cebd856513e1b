"""Tools in two rounds on real engines, by the official SDKs in each wire format: a call, its result, an answer.

The local model calls badly; what counts is that a call has its form and comes back under its id.
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from support.platform import Platform

SCHEMA = {"type": "object", "properties": {"celsius": {"type": "boolean"}}, "required": ["celsius"]}
ABOUT = {"name": "temperature", "description": "The temperature outside."}
QUESTION = "How warm is it?"
RESULT = "21 degrees"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def client(platform: Platform) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0, timeout=120)


@pytest.mark.parametrize("mode", ["no_think", "think"])
def test_a_chats_tools(client: openai.OpenAI, mode: str) -> None:
    asked: dict[str, Any] = {
        "model": f"smollm2:{mode}",
        "tools": [{"type": "function", "function": {**ABOUT, "parameters": SCHEMA}}],
        "temperature": 0,
        "max_tokens": 256,
    }
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    with client.chat.completions.stream(messages=messages, tool_choice="required", **asked) as stream:
        first = stream.get_final_completion().choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.tool_calls
    for call in first.message.tool_calls:
        assert call.function.name == ABOUT["name"]
        assert type(json.loads(call.function.arguments)["celsius"]) is bool
    messages.append(first.message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
    for sent in messages[-1]["tool_calls"]:
        sent["function"].pop("parsed_arguments", None)
        messages.append({"role": "tool", "tool_call_id": sent["id"], "content": RESULT})
    second = client.chat.completions.create(messages=messages, tool_choice="none", **asked).choices[0]
    assert second.message.content
    assert not second.message.tool_calls


def test_messages_tools(platform: Platform) -> None:
    client = anthropic.Anthropic(base_url=platform.url, api_key=platform.key, max_retries=0, timeout=120)
    asked: dict[str, Any] = {
        "model": "smollm2:no_think",
        "tools": [{**ABOUT, "input_schema": SCHEMA}],
        "max_tokens": 256,
        "extra_body": {"temperature": 0},
    }
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    with client.messages.stream(messages=messages, tool_choice={"type": "any"}, **asked) as stream:
        first = stream.get_final_message()
    calls = [block for block in first.content if block.type == "tool_use"]
    assert first.stop_reason == "tool_use"
    assert calls
    assert all(type(call.input["celsius"]) is bool for call in calls)  # type: ignore[index]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT} for call in calls]
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = client.messages.create(messages=messages, tool_choice={"type": "none"}, **asked)
    assert [block.type for block in second.content] == ["text"]


def test_responses_tools(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "smollm2:no_think",
        "tools": [{"type": "function", **ABOUT, "parameters": SCHEMA}],
        "temperature": 0,
        "max_output_tokens": 256,
        "store": False,
    }
    items: list[Any] = [{"role": "user", "content": QUESTION}]
    with client.responses.stream(input=items, tool_choice="required", **asked) as stream:
        first = stream.get_final_response()
    calls = [item for item in first.output if item.type == "function_call"]
    assert calls
    for call in calls:
        assert type(json.loads(call.arguments)["celsius"]) is bool
        items.append({"type": "function_call", **call.model_dump(include={"call_id", "name", "arguments"})})
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": RESULT})
    second = client.responses.create(input=items, tool_choice="none", **asked)
    assert second.output_text
