"""Tools in two rounds on real engines, by the official SDKs in each wire format: a call, its result, an answer.

The local model would not call a tool by itself, and calls badly; what counts is that a call has its form, that it
keeps to its strict schema, and that its result comes back under its id.
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from behaviour.engine_behaviour import ARGUMENTS
from support.platform import Platform

ABOUT: dict[str, Any] = {"name": "weather", "description": "The weather now.", "strict": True}
QUESTION = "How is it outside?"
RESULT = "18 C"
CALL = ("weather", {"unit": "c"})
LONG, SHORT = 120, 40
"""Tokens that are enough for a short thought and a call, and for an answer to its result."""

pytestmark = pytest.mark.timeout(600)
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def client(platform: Platform) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0, timeout=120)


@pytest.mark.parametrize(
    ("mode", "stream"), [("no_think", False), ("think", True)], ids=["no_think, whole", "think, streamed"]
)
def test_a_chats_tools(client: openai.OpenAI, mode: str, *, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": f"smollm2:{mode}",
        "tools": [{"type": "function", "function": {**ABOUT, "parameters": ARGUMENTS}}],
        "temperature": 0,
        "extra_body": {"thinking": {"type": "enabled", "budget_tokens": 8}} if mode == "think" else {},
    }

    def said(**fields: Any) -> Any:
        if not stream:
            return client.chat.completions.create(**asked, **fields).choices[0]
        with client.chat.completions.stream(**asked, **fields) as streamed:
            return streamed.get_final_completion().choices[0]

    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    named = {"type": "function", "function": {"name": "weather"}}
    first = said(messages=messages, max_tokens=LONG, tool_choice=named if mode == "think" else "required")
    assert first.finish_reason == "tool_calls"
    calls = first.message.tool_calls
    assert calls
    assert all((call.function.name, json.loads(call.function.arguments)) == CALL for call in calls)
    assert bool(getattr(first.message, "reasoning_content", None)) is (mode == "think")
    results = [{"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in calls]
    second = said(messages=[*messages, first.message, *results], max_tokens=SHORT, tool_choice="none")
    assert second.finish_reason in ("stop", "length")
    assert not second.message.tool_calls
    assert isinstance(second.message.content, str)


@both_ways
def test_messages_tools(platform: Platform, *, stream: bool) -> None:
    client = anthropic.Anthropic(base_url=platform.url, api_key=platform.key, max_retries=0, timeout=120)
    asked: dict[str, Any] = {
        "model": "smollm2",
        "tools": [{**ABOUT, "input_schema": ARGUMENTS}],
        "thinking": {"type": "enabled", "budget_tokens": 8},
        "extra_body": {"temperature": 0},
    }

    def said(**fields: Any) -> anthropic.types.Message:
        if not stream:
            return client.messages.create(**asked, **fields)
        with client.messages.stream(**asked, **fields) as streamed:
            return streamed.get_final_message()

    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    first = said(messages=messages, max_tokens=LONG, tool_choice={"type": "any"})
    assert first.stop_reason == "tool_use"
    kinds = [block.type for block in first.content]
    assert kinds[0] == "thinking"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [CALL] * len(calls) != []
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT} for call in calls]
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = said(messages=messages, max_tokens=SHORT, tool_choice={"type": "none"})
    assert second.stop_reason in ("end_turn", "max_tokens")
    assert "tool_use" not in {block.type for block in second.content}


@both_ways
def test_responses_tools_and_log_probabilities(client: openai.OpenAI, *, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": "smollm2:no_think",
        "tools": [{"type": "function", **ABOUT, "parameters": ARGUMENTS}],
        "temperature": 0,
        "store": False,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
    }

    def said(**fields: Any) -> Any:
        if not stream:
            return client.responses.create(**asked, **fields)
        with client.responses.stream(**asked, **fields) as streamed:
            return streamed.get_final_response()

    items: list[Any] = [{"role": "user", "content": QUESTION}]
    first = said(input=items, max_output_tokens=LONG, tool_choice={"type": "function", "name": "weather"})
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [CALL] * len(calls) != []
    items += [
        *first.output,
        *({"type": "function_call_output", "call_id": call.call_id, "output": RESULT} for call in calls),
    ]
    second = said(input=items, max_output_tokens=SHORT, tool_choice="none")
    assert "function_call" not in {item.type for item in second.output}
    plain = said(input="What is the capital of France?", max_output_tokens=SHORT, tool_choice="none")
    assert "Paris" in plain.output_text
    (item,) = plain.output
    (part,) = item.content
    assert "".join(entry.token for entry in part.logprobs) == part.text
    for entry in part.logprobs:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 2
