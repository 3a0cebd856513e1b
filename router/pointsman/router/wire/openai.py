"""OpenAI's wire format from the client's side: errors, headers and events.

Stands apart from the steps because every one of them may refuse, and because other formats will stand beside
it. What a valid request looks like is in `openai_request.py`.
"""

from __future__ import annotations

from functools import lru_cache
from time import monotonic, time
from typing import Any

import orjson

from pointsman.contracts.errors import ApiError
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.names import Header
from pointsman.contracts.pricing import Usage, dollars
from pointsman.router.exchange import Answer, Endpoint, Exchange
from pointsman.router.http.wire import header_lines

_REQUEST_ID = Header.REQUEST_ID.encode()
_THINK_PROBABILITY = Header.THINK_PROBABILITY.encode()
_COST_USD = Header.COST_USD.encode()
_DECISION_ID = Header.DECISION_ID.encode()

_CHUNKS = {Endpoint.CHAT: "chat.completion.chunk", Endpoint.COMPLETIONS: "text_completion"}
"""What a chunk of a stream calls itself."""

DONE = b"data: [DONE]\n\n"
"""The event that ends every stream, a failed one too."""

MOST_TOKENS = 1_000_000_000
"""Tokens in or out that one request can have at most: more than any model's context, by far."""


def error_body(error: ApiError) -> bytes:
    """`error` as the JSON body of an answer."""
    return orjson.dumps({"error": _error_object(error)})


def error_answer(error: ApiError) -> Answer:
    """`error` as a whole answer."""
    return Answer(error.status, header_lines(error_headers(error)), error_body(error))


def error_headers(error: ApiError) -> list[tuple[str, str]]:
    """The headers of the answer that is `error`."""
    headers = [("content-type", "application/json")]
    if error.retry_after is not None:
        headers.append(("retry-after", str(error.retry_after)))
    if error.status == 401:
        headers.append(("www-authenticate", "Bearer"))
    return headers


def error_event(error: ApiError) -> bytes:
    """`error` as the last events of a stream that has already begun."""
    return b"data: " + error_body(error) + b"\n\n" + DONE


def stream_tail(exchange: Exchange) -> bytes:
    """The last events of a stream: its usage, where the client asked for it, and the end mark."""
    usage = exchange.told_usage
    if not (exchange.include_usage or exchange.include_cost) or usage is None:
        return DONE
    assert exchange.model is not None
    chunk = exchange.usage_chunk or {
        "object": _CHUNKS[exchange.engine_endpoint],
        "created": int(time()),
    }
    chunk = {
        "id": exchange.rid,
        **chunk,
        "model": exchange.model.name,
        "choices": [],
        "usage": usage_object(usage),
    }
    if exchange.course is not None and exchange.course.id is not None:
        chunk["id"] = exchange.course.id
    if exchange.include_cost and (told := _with_cost(exchange)):
        chunk["pointsman"] = told
    return b"data: " + orjson.dumps(chunk) + b"\n\n" + DONE


def finish_chunk(chunk_id: str | None, model: str, endpoint: Endpoint) -> dict[str, Any]:
    """The chunk that ends a stream whose output was cut."""
    said: dict[str, Any] = {"delta": {}} if endpoint is Endpoint.CHAT else {"text": ""}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": "length"}
    head = {"id": chunk_id, "object": _CHUNKS[endpoint], "created": int(time()), "model": model}
    return {**head, "choices": [choice]}


def told_at_end(exchange: Exchange) -> dict[str, Any]:
    """What the end of a stream tells of it where there is one event for that: `remarks`, the cost if asked for."""
    if exchange.include_cost:
        return _with_cost(exchange)
    return {} if exchange.course is None else remarks(exchange)


def _with_cost(exchange: Exchange) -> dict[str, Any]:
    told = remarks(exchange)
    if exchange.cost is not None and exchange.policy.show_cost:
        told = {"cost_usd": dollars(exchange.cost.total), **told}
    return told


def remarks(exchange: Exchange) -> dict[str, Any]:
    """What happened to the answer on its way, as a stream tells it in the object `pointsman` of its end."""
    told: dict[str, Any] = {}
    if exchange.escalated is not None:
        told["escalated"] = exchange.escalated.value
    if exchange.floored:
        told["answer_floor"] = True
    if exchange.stopped:
        told["stopped"] = exchange.stopped
    if exchange.judgement is not None:
        told["judgement"] = exchange.judgement.value
    return told


def response_headers(exchange: Exchange) -> bytes:
    """The header lines of an answer that tell how the request was handled, as far as it got."""
    decision, pool, cost = exchange.decision, exchange.pool, exchange.cost
    lines = b"%b: %b\r\n" % (_REQUEST_ID, exchange.request_id.encode("ascii")) if exchange.request_id else b""
    tenant = exchange.tenant
    if tenant is not None and tenant.allowance is not None:
        lines += tenant.allowance.header_lines(monotonic())
    if decision is not None:
        lines += _decision_lines(
            decision.mode, decision.source, decision.threshold, None if pool is None else pool.name
        )
        if decision.probability is not None:
            lines += b"%b: %.4f\r\n" % (_THINK_PROBABILITY, decision.probability)
        if exchange.rid:
            lines += b"%b: dec-%b\r\n" % (_DECISION_ID, exchange.rid.encode("ascii"))
        if (
            decision.overruled
            or exchange.allowance is not None
            or exchange.clamped is not None
            or exchange.course is not None
            or exchange.stopped
            or exchange.judgement is not None
            or exchange.cache is not None
            or exchange.toolbox is not None
        ):
            lines += _remark_lines(exchange)
    if cost is not None and not exchange.stream_started and exchange.policy.show_cost:
        lines += b"%b: %b\r\n" % (_COST_USD, dollars(cost.total).encode("ascii"))
    return lines


def _remark_lines(exchange: Exchange) -> bytes:
    """The header lines that most answers have none of."""
    headers: list[tuple[str, str]] = []
    assert exchange.decision is not None
    if exchange.decision.overruled:
        headers.append((Header.OVERRULED, "client"))
    if exchange.allowance is not None:
        headers.append((Header.THINKING_BUDGET, str(exchange.allowance)))
    if exchange.clamped is not None:
        headers.append((Header.CLAMPED, ", ".join(f"{name}={value}" for name, value in exchange.clamped.items())))
    if exchange.escalated is not None:
        headers.append((Header.ESCALATED, exchange.escalated.value))
    if exchange.floored:
        headers.append((Header.ANSWER_FLOOR, "true"))
    if exchange.stopped:
        headers.append((Header.STOPPED, exchange.stopped))
    if exchange.toolbox is not None and exchange.pool is not None:
        warning = exchange.pool.capabilities.tools_warning
        if warning is not None:
            headers.append((Header.WARNING, warning))
    if exchange.judgement is not None:
        headers.append((Header.JUDGEMENT, exchange.judgement.value))
    if exchange.cache is not None:
        headers.append((Header.CACHE, exchange.cache.value))
    if exchange.recalled is not None and exchange.recalled.replayed:
        headers.append((Header.REPLAYED, "true"))
    return header_lines(headers)


@lru_cache(4096)
def _decision_lines(mode: Mode, source: Source, threshold: float, pool: str | None) -> bytes:
    """The header lines that many requests have in common."""
    headers = [
        (Header.MODE, mode.value),
        (Header.MODE_SOURCE, source.value),
        (Header.THRESHOLD, f"{threshold:.4g}"),
    ]
    return header_lines(headers if pool is None else [*headers, (Header.POOL, pool)])


def usage_from(raw: Any) -> Usage | None:
    """
    The token classes of an engine's `usage` object, or None where it is no such object.

    Reasoning tokens are read from `reasoning_tokens` (SGLang) or `completion_tokens_details` (OpenAI, vLLM);
    parts that exceed their total are cut down to it, so that the classes always add up to the totals. Totals that
    no request can have are no usage either: what is counted and billed by them would fit no counter.
    """
    if not isinstance(raw, dict):
        return None
    prompt, completion = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens"))
    if prompt > MOST_TOKENS or completion > MOST_TOKENS:
        return None
    details = raw.get("completion_tokens_details")
    reasoning = _count(raw.get("reasoning_tokens"))
    if isinstance(details, dict):
        reasoning = max(reasoning, _count(details.get("reasoning_tokens")))
    details = raw.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    cached, reasoning = min(cached, prompt), min(reasoning, completion)
    return Usage(prompt - cached, cached, reasoning, completion - reasoning)


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` as the object a client gets, with the same totals that are billed."""
    fresh, cached, reasoning, answer = usage[:4]
    prompt, completion = fresh + cached, reasoning + answer
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
        "reasoning_tokens": reasoning,
    }


def _error_object(error: ApiError) -> dict[str, Any]:
    return {"message": error.message, "type": error.type, "param": error.param, "code": error.code}


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0  # which JSON's true is not
