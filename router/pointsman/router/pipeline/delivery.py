"""How an answer that was held until it was known to stand reaches the client.

Stands beside `relay.py` and below the pipeline's own loop, which falls back here on an answer that was kept when
nothing better came.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import orjson

from pointsman.router.exchange import Answer, Exchange, Leg
from pointsman.router.http.wire import header_lines
from pointsman.router.wire import openai

STREAM_HEADERS = header_lines(
    [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
    ]
)
_JSON = header_lines([("content-type", "application/json")])


def start_stream(exchange: Exchange, first: bytes) -> None:
    """Send the head of a streamed answer, and its `first` events."""
    exchange.first_byte_at = perf_counter()
    exchange.stream_started = True
    exchange.client.start_stream(openai.response_headers(exchange) + STREAM_HEADERS, first=first)


def whole(exchange: Exchange, answer: dict[str, Any]) -> None:
    """Make `answer` the exchange's, with our reading of its usage, so that bill and answer agree."""
    assert exchange.model is not None
    usage = exchange.told_usage
    assert usage is not None
    exchange.first_byte_at = perf_counter()
    answer["model"] = exchange.model.name
    answer["usage"] = openai.usage_object(usage)
    exchange.answer = Answer(200, _JSON, orjson.dumps(answer))


def count(exchange: Exchange, tokens: int) -> None:
    """Make it the answer to `exchange` that its prompt has so many `tokens`."""
    exchange.first_byte_at = perf_counter()
    exchange.answer = Answer(200, _JSON, orjson.dumps({"count": tokens}))


def fall_back(exchange: Exchange) -> bool:
    """
    Deliver the answer that was kept when a better one was asked for; False where there is none.

    It is told and billed as what it is, beside what the failed attempt at a better one has used.
    """
    course = exchange.course
    if course is None or course.kept is None or exchange.stream_started:
        return False
    kept, course.kept = course.kept, None
    legs = list(exchange.legs)
    legs.remove(kept.leg)
    if exchange.usage is not None and exchange.pool is not None:
        legs.append(Leg(exchange.pool, exchange.mode, exchange.usage))
    exchange.legs = tuple(legs)
    exchange.decision = kept.decision
    exchange.pool, exchange.usage = kept.leg.pool, kept.leg.usage
    exchange.allowance = None
    exchange.floored = False
    exchange.stopped = ""
    if exchange.stream:
        start_stream(exchange, kept.events)
    else:
        whole(exchange, kept.answer)
    return True
