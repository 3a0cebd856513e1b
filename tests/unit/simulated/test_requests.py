"""Parsing: whatever arrives is a request or a refusal, and a refusal keeps what it was told to itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.modes import Mode
from pointsman.serving.simulated.plan import plan_chat
from pointsman.serving.simulated.requests import ChatRequest, CompletionRequest, RefusedRequest, parse
from pointsman.serving.simulated.settings import Identity, Settings

JSON = "application/json; charset=utf-8"
SECRET = "quokka-4711"
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(SECRET),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type"]), inner)
    ),
    max_leaves=6,
)
FIELDS = ["messages", "prompt", "max_tokens", "stop", "stream", "stream_options", "n", "logprobs", "custom_params"]


def parsed(kind: type[Any], body: object) -> Any:
    return parse(kind, JSON, json.dumps(body).encode())


def refused(kind: type[Any], body: object) -> RefusedRequest | None:
    try:
        parsed(kind, body)
    except RefusedRequest as refusal:
        return refusal
    return None


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
@given(body=st.dictionaries(st.sampled_from(FIELDS), junk) | junk)
def test_a_refusal_names_fields_and_no_values(kind: type[Any], body: object) -> None:
    refusal = refused(kind, body)
    if refusal is not None:
        assert (refusal.status, refusal.type) == (400, "Bad Request")
        assert SECRET not in str(refusal)


@pytest.mark.parametrize(
    "message",
    [
        {"role": SECRET, "content": "x"},
        {"role": "user", "content": [{"type": SECRET}]},
        {"role": "user", "content": [{"type": "text", "text": {SECRET: SECRET}}]},
        {SECRET: SECRET},
        SECRET,
    ],
)
def test_a_refused_message_is_not_repeated(message: object) -> None:
    refusal = refused(ChatRequest, {"messages": [message]})
    assert refusal is not None
    assert SECRET not in str(refusal)


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
@given(body=st.binary(max_size=40))
def test_bytes_are_parsed_or_refused(kind: type[Any], body: bytes) -> None:
    with pytest.raises(RefusedRequest):
        parse(kind, JSON, body)


def test_text_parts_are_one_text_and_roles_know_no_case() -> None:
    request = parsed(
        ChatRequest,
        {
            "messages": [
                {"role": "System", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": " two"}]},
                {"role": "assistant"},
            ]
        },
    )
    assert "".join(request.prompt()) == (
        "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\nOne two<|im_end|>"
        "<|im_start|>assistant\n<|im_end|><|im_start|>assistant\n"
    )


def test_prompts_may_be_token_ids() -> None:
    assert [len(prompt) for prompt in parsed(CompletionRequest, {"prompt": [5, 6, 7]}).prompts()] == [3]
    assert [len(prompt) for prompt in parsed(CompletionRequest, {"prompt": [[5], [6, 7]]}).prompts()] == [1, 2]


@pytest.mark.parametrize(
    ("told", "thinks"),
    [
        ({}, True),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"thinking": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "high"}, True),
    ],
)
def test_what_a_template_that_can_do_both_is_told(told: dict[str, Any], thinks: bool) -> None:
    assert parsed(ChatRequest, {"messages": [], **told}).wants_thinking is thinks


@pytest.mark.parametrize(
    ("params", "budget"), [({}, None), ({"thinking_budget": 7}, 7), ({"thinking_budget": "7"}, None)]
)
def test_the_thinking_budget_is_a_whole_number_or_none(params: dict[str, Any], budget: int | None) -> None:
    assert parsed(ChatRequest, {"messages": [], "custom_params": params}).thinking_budget == budget


@pytest.mark.parametrize(
    "beyond",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"pattern": "^x$"}}}},
        {"response_format": {"type": "structural_tag"}},
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}],
            "tool_choice": "required",
        },
    ],
    ids=["json_schema", "structural_tag", "tool"],
)
def test_what_a_simulation_cannot_do_is_refused_and_not_pretended(beyond: dict[str, Any]) -> None:
    with pytest.raises(RefusedRequest, match=r"simulated engine|can follow"):
        plan_chat(
            parsed(ChatRequest, {"messages": [{"role": "user", "content": "x"}], **beyond}),
            Identity(model="m", modes=(Mode.NO_THINK,)),
            Settings(),
        )
