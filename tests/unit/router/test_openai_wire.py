"""Usage and errors of engines, read into ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.errors import ApiError, InvalidRequest, PoolUnavailable, UpstreamFailed
from pointsman.router.wire import engine_errors, openai

ANY = st.none() | st.booleans() | st.integers(-100, 10**9) | st.text(max_size=3) | st.floats()
DETAILS = ANY | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), ANY)


@given(
    raw=st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": ANY,
            "completion_tokens": ANY,
            "reasoning_tokens": ANY,
            "prompt_tokens_details": DETAILS,
            "completion_tokens_details": DETAILS,
        },
    )
)
def test_the_classes_of_any_usage_add_up_to_its_totals(raw: dict[str, Any]) -> None:
    usage = openai.usage_from(raw)
    assert usage is not None
    parts = (usage.input, usage.cached_input, usage.reasoning, usage.answer)
    assert all(part >= 0 for part in parts)
    for total, name in ((usage.prompt_tokens, "prompt_tokens"), (usage.completion_tokens, "completion_tokens")):
        value = raw.get(name)
        good = isinstance(value, int) and not isinstance(value, bool) and value > 0
        assert total == (value if good else 0)
    assert openai.usage_from(openai.usage_object(usage)) == usage


@pytest.mark.parametrize("raw", [None, 3, [], "x"])
def test_what_is_no_usage_is_none(raw: Any) -> None:
    assert openai.usage_from(raw) is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (
            400,
            b'{"object":"error","message":"The input (12031 tokens) is longer than the model\'s context length '
            b'(8192 tokens).","type":"BadRequestError","param":null,"code":400}',
            InvalidRequest,
            "context_length_exceeded",
        ),
        (
            400,
            b'{"message":"Requested token count exceeds the model\'s maximum context length of 8192 tokens."}',
            InvalidRequest,
            "context_length_exceeded",
        ),
        (400, b'{"error":{"message":"Invalid grammar"}}', InvalidRequest, "engine_refused"),
        (422, b'{"detail":[{"loc":["body"]}]}', InvalidRequest, "engine_refused"),
        (400, b"<html>", InvalidRequest, "engine_refused"),
        (503, b"busy", PoolUnavailable, "pool_unavailable"),
        (429, b"", PoolUnavailable, "pool_unavailable"),
        (500, b'{"message":"Traceback /root/secret"}', UpstreamFailed, "engine_failed"),
        (404, b'{"message":"no such model /models/x"}', UpstreamFailed, "engine_failed"),
        (401, b"", UpstreamFailed, "engine_failed"),
    ],
)
def test_engine_errors_in_our_words(status: int, body: bytes, kind: type[ApiError], code: str) -> None:
    error = engine_errors.translate(status, body)
    assert type(error) is kind
    assert error.code == code
    assert "/root" not in error.message
    assert "/models" not in error.message


@given(status=st.sampled_from([400, 422, 429, 500, 503]), body=st.binary(max_size=300))
def test_any_engine_error_becomes_one_of_ours(status: int, body: bytes) -> None:
    error = engine_errors.translate(status, body)
    assert error.status in (400, 502, 503)
    assert len(error.message) < 500
    assert "\n" not in error.message
