"""A model's answer as it comes to somebody who watches: thinking and answer apart, times, tokens, what it cost.

Between the playground, which shows it, and the router's stream in OpenAI's format. Keeps text only as long as the
page that shows it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from time import perf_counter
from typing import Any

from pointsman.console.admin_client import AdminError
from pointsman.console.visit import Visit
from pointsman.contracts.event_stream import DONE, EndlessEvent, EventReader
from pointsman.contracts.names import Header

PATH = "/v1/chat/completions"

SILENCE = 300.0
"""Seconds without a byte after which an answer is given up: a pool may be waking, or a model thinking long."""

LONGEST = 200_000
"""Characters of thinking and of answer that are kept, each; what comes beyond them is only counted."""


@dataclass(slots=True)
class Track:
    """Which way it went and why, as the headers say."""

    mode: str
    source: str
    pool: str
    probability: float | None
    threshold: float
    decision: str
    overruled: bool

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> Track:
        """From an answer's headers."""
        return cls(
            mode=headers.get(Header.MODE, ""),
            source=headers.get(Header.MODE_SOURCE, ""),
            pool=headers.get(Header.POOL, ""),
            probability=_number(headers.get(Header.THINK_PROBABILITY)),
            threshold=_number(headers.get(Header.THRESHOLD)) or 0.0,
            decision=headers.get(Header.DECISION_ID, ""),
            overruled=Header.OVERRULED in headers,
        )


@dataclass(slots=True)
class Reply:
    """An answer as far as it has come; times are seconds since it was asked for. `error`: why it is not whole."""

    begun: float = field(default_factory=perf_counter)
    track: Track | None = None
    thinking: str = ""
    answer: str = ""
    first_token: float | None = None
    ended: float | None = None
    error: str | None = None
    stopped: bool = False
    """Whether who asked wanted no more of it."""
    cut: bool = False
    """Whether it ended because it had reached `max_tokens`."""
    input_tokens: int | None = None
    reasoning_tokens: int | None = None
    answer_tokens: int | None = None
    cost: int | None = None
    """Nano-dollars; None where the policy hides it, or the engine never counted."""

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return self.ended if self.ended is not None else perf_counter() - self.begun


async def watch(
    visit: Visit,
    body: Mapping[str, Any],
    reply: Reply,
    *,
    key: str | None,
    mode: str | None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """
    Ask for a chat with `body` and let `reply` grow until it has ended, well or not.

    `key`: a tenant's; None: that of whoever is logged in. `mode`: what is asked for; None: the platform chooses.
    `started` is called when the headers are there. Cancelled, it ends the request, and with it the engine's work.
    """
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    headers = {Header.INCLUDE_COST: "true"} | ({} if mode is None else {Header.MODE: mode})
    try:
        async with visit.stream("POST", PATH, json=asked, headers=headers, key=key, silence=SILENCE) as response:
            reply.track = Track.read(response.headers)
            started()
            reader, whole = EventReader(), False
            async for chunk in response.aiter_bytes():
                for data in reader.feed(chunk):
                    whole = whole or data == DONE
                    if data != DONE:
                        _take(reply, json.loads(data))
            if not whole and reply.error is None:
                reply.error = "The answer broke off before its end."
    except AdminError as error:
        reply.error = error.message
    except (EndlessEvent, ValueError, KeyError, TypeError, AttributeError):
        reply.error = "What came is no answer in OpenAI's format."
    finally:
        reply.ended = perf_counter() - reply.begun


def _take(reply: Reply, event: dict[str, Any]) -> None:
    if isinstance(error := event.get("error"), dict):
        reply.error = str(error.get("message"))
    if usage := event.get("usage"):
        thinking = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
        reply.input_tokens = usage["prompt_tokens"]
        reply.reasoning_tokens = thinking
        reply.answer_tokens = usage["completion_tokens"] - thinking
    if (cost := (event.get("pointsman") or {}).get("cost_usd")) is not None:
        with contextlib.suppress(ArithmeticError):
            reply.cost = int(Decimal(cost) * 1_000_000_000)
    for choice in event.get("choices") or ():
        reply.cut = reply.cut or choice.get("finish_reason") == "length"
        delta = choice.get("delta") or {}
        thinking_piece, answer_piece = delta.get("reasoning_content"), delta.get("content")
        if (thinking_piece or answer_piece) and reply.first_token is None:
            reply.first_token = perf_counter() - reply.begun
        if thinking_piece and len(reply.thinking) < LONGEST:
            reply.thinking += thinking_piece
        if answer_piece and len(reply.answer) < LONGEST:
            reply.answer += answer_piece


def _number(text: str | None) -> float | None:
    try:
        return None if not text else float(text)
    except ValueError:
        return None
