"""Anthropic's Messages on real engines, by Anthropic's own SDK: what is thought, said, counted."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from support.platform import Platform

ASKED: dict[str, Any] = {
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "extra_body": {"temperature": 0},
}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def client(platform: Platform) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=platform.url, api_key=platform.key, max_retries=0, timeout=120)


@pytest.mark.parametrize("mode", ["no_think", "think"])
def test_an_answer_is_the_same_whole_and_streamed_and_as_long_as_was_counted(
    client: anthropic.Anthropic, mode: str
) -> None:
    asked = {**ASKED, "model": f"smollm2:{mode}"}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        again = stream.get_final_message()
    for message in (whole, again):
        kinds = [block.type for block in message.content]
        assert kinds == (["thinking", "text"] if mode == "think" else ["text"])
        details = message.usage.output_tokens_details
        assert details is not None
        assert bool(details.thinking_tokens) == (mode == "think")
        assert message.usage.output_tokens > details.thinking_tokens
    if mode == "no_think":
        assert "Paris" in whole.content[0].text
        counted = client.messages.count_tokens(model=asked["model"], messages=ASKED["messages"])
        for usage in (whole.usage, again.usage):
            assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted.input_tokens


def test_a_stop_sequence_is_told(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**{**ASKED, "model": "smollm2:no_think", "stop_sequences": ["Paris"]})
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "Paris")
