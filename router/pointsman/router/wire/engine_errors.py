"""Engines' errors in our words.

An engine's text may hold a path, a traceback or somebody else's data: of a failure nothing is passed on. A
refusal's reason is shortened and goes only to the client whose request it is about, never to a log.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from pointsman.contracts.errors import ApiError, InvalidRequest, PoolUnavailable, UpstreamFailed

MAX_REASON = 300
"""Characters of an engine's own reason that are passed on to the client whose request it refused."""

_TOO_LONG = re.compile(
    r"context length|context window|maximum context|longer than the model|input_ids_len", re.IGNORECASE
)


def translate(status: int, body: bytes) -> ApiError:
    """The error for an engine's answer with `status` (not 200) and `body`."""
    if status in (400, 413, 422):
        return _refusal(_message(_parsed(body)))
    if status in (429, 503):
        return PoolUnavailable("The engine is too busy to take the request.", retry_after=5)
    return UpstreamFailed(f"The engine failed (status {status}).")


def translate_event(data: bytes) -> ApiError:
    """The error for an error event inside a stream."""
    parsed = _parsed(data)
    error = parsed.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    if code in (400, 413, 422):
        return _refusal(_message(parsed))
    return UpstreamFailed("The engine failed while it was answering; the answer is incomplete.")


def _refusal(message: str) -> InvalidRequest:
    if _TOO_LONG.search(message):
        return InvalidRequest(
            f"The prompt, with the output asked for, is too long for this model: {_short(message)}",
            param="messages",
            code="context_length_exceeded",
        )
    return InvalidRequest(f"The engine refused the request: {_short(message)}", code="engine_refused")


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _message(parsed: dict[str, Any]) -> str:
    """The text of an error in SGLang's form (top level) or OpenAI's (under `error`)."""
    error = parsed.get("error")
    holder = error if isinstance(error, dict) else parsed
    message = holder.get("message")
    return message if isinstance(message, str) else "no reason given"


def _short(message: str) -> str:
    plain = " ".join(message.split())
    return plain if len(plain) <= MAX_REASON else plain[:MAX_REASON] + "…"
