"""Engines' errors in our words.

An engine's text may hold a path, a traceback or somebody else's data: of a failure nothing is passed on. A
refusal's reason is shortened and goes only to the client whose request it is about, never to a log.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from pointsman.contracts.errors import (
    ApiError,
    BodyTooLarge,
    InvalidRequest,
    PoolUnavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from pointsman.router.exchange import Endpoint

MAX_REASON = 300
"""Characters of an engine's own reason that are passed on to the client whose request it refused."""

BUSY_RETRY_AFTER = 5
"""Seconds after which a client may try again where the engines have too much to do."""

_TOO_LONG = re.compile(
    r"context length|context window|maximum context|longer than the model|input_ids_len", re.IGNORECASE
)
_PROMPT_FIELD = {Endpoint.CHAT: "messages", Endpoint.COMPLETIONS: "prompt"}


def translate(status: int, body: bytes, *, endpoint: Endpoint) -> ApiError:
    """The error for an engine's answer with `status` (not 200) and `body` to a request at `endpoint`."""
    if status in (400, 422):
        return _refusal(_message(_parsed(body)), endpoint)
    if status == 413:
        return BodyTooLarge("The request is larger than the engine takes.")
    if status in (429, 503):
        return PoolUnavailable("The engine is too busy to take the request.", retry_after=BUSY_RETRY_AFTER)
    if status in (408, 504):
        return UpstreamTimeout("The engine did not answer in time.")
    if status in (401, 403):
        return UpstreamFailed(f"The engine does not accept this router's requests (status {status}).")
    if status in (404, 405):
        return UpstreamFailed(f"The engine does not know this endpoint or its model (status {status}).")
    if 300 <= status < 400:
        return UpstreamFailed(f"The engine answered with a redirect (status {status}), which is never followed.")
    if status < 300:
        return UpstreamFailed(f"The engine answered without an answer (status {status}).")
    return UpstreamFailed(f"The engine failed (status {status}).")


def translate_event(chunk: dict[str, Any], *, endpoint: Endpoint) -> ApiError:
    """The error for `chunk`, an error event inside the stream that answers a request at `endpoint`."""
    error = chunk.get("error")
    code = (error if isinstance(error, dict) else chunk).get("code")
    if code in (400, 422):
        return _refusal(_message(chunk), endpoint)
    if code == 413:
        return BodyTooLarge("The request is larger than the engine takes.")
    return UpstreamFailed("The engine failed while it was answering; the answer is incomplete.")


def _refusal(message: str, endpoint: Endpoint) -> InvalidRequest:
    if _TOO_LONG.search(message):
        return InvalidRequest(
            f"The prompt, with the output asked for, is too long for this model: {_short(message)}",
            param=_PROMPT_FIELD[endpoint],
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
