"""Engines' errors in our words, in whatever form they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.errors import (
    ApiError,
    BodyTooLarge,
    InvalidRequest,
    PoolUnavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from pointsman.router.exchange import Endpoint
from pointsman.router.wire import engine_errors


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
        (401, b'{"error":"sk-secret"}', UpstreamFailed, "engine_failed"),
        (403, b"secret", UpstreamFailed, "engine_failed"),
        (405, b"", UpstreamFailed, "engine_failed"),
        (413, b'{"message":"secret"}', BodyTooLarge, "request_too_large"),
        (408, b"secret", UpstreamTimeout, "engine_timeout"),
        (504, b"secret", UpstreamTimeout, "engine_timeout"),
        (204, b"", UpstreamFailed, "engine_failed"),
        (307, b"secret", UpstreamFailed, "engine_failed"),
    ],
)
def test_engine_errors_in_our_words(status: int, body: bytes, kind: type[ApiError], code: str) -> None:
    error = engine_errors.translate(status, body, endpoint=Endpoint.CHAT)
    assert type(error) is kind
    assert error.code == code
    assert "/root" not in error.message
    assert "/models" not in error.message
    assert "secret" not in error.message


@given(status=st.integers(200, 599), body=st.binary(max_size=300))
def test_any_engine_error_becomes_one_of_ours(status: int, body: bytes) -> None:
    error = engine_errors.translate(status, body, endpoint=Endpoint.CHAT)
    assert error.status in (400, 413, 502, 503, 504)
    assert len(error.message) < 500
    assert "\n" not in error.message


@pytest.mark.parametrize(("endpoint", "field"), [(Endpoint.CHAT, "messages"), (Endpoint.COMPLETIONS, "prompt")])
def test_a_prompt_that_is_too_long_names_the_field_it_came_in(endpoint: Endpoint, field: str) -> None:
    reason = {"message": "longer than the model's context length (64 tokens)", "code": 400}
    answered = engine_errors.translate(
        400, b'{"message":"longer than the model context length"}', endpoint=endpoint
    )
    for error in (answered, engine_errors.translate_event({"error": reason}, endpoint=endpoint)):
        assert (error.status, error.param, error.code) == (400, field, "context_length_exceeded")


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        ({"error": {"message": "secret", "code": 500}}, UpstreamFailed),
        ({"error": "secret"}, UpstreamFailed),
        ({"object": "error", "message": "secret", "code": 500}, UpstreamFailed),
        ({"object": "error", "message": "no", "code": 400}, InvalidRequest),
        ({"error": {"message": "secret", "code": 413}}, BodyTooLarge),
        ({"error": {"message": ["secret"], "code": "400"}}, UpstreamFailed),
    ],
)
def test_error_events_in_our_words(chunk: dict[str, Any], kind: type[ApiError]) -> None:
    error = engine_errors.translate_event(chunk, endpoint=Endpoint.CHAT)
    assert type(error) is kind
    assert "secret" not in error.message
