"""Whether an answer stands: what it lacks, and what makes it worth a second try with thinking.

Stands beside `relay.py`, which acts on the verdict. Pure: looks at an answer in OpenAI's form, whatever the pool
that gave it, and at what the request asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from pointsman.contracts.errors import InvalidRequest
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.names import Header
from pointsman.contracts.policies import Escalation, Trigger
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.pipeline import schemas
from pointsman.router.pipeline.repetition import MARKS, WORDS, Repetition
from pointsman.router.pipeline.tool_calls import Fault

NEVER_OVER = frozenset({Source.CLIENT, Source.POLICY, Source.BUDGET})
"""Who decided a mode that is never changed afterwards."""

WISHES = ("off", "on", "buffered")
"""Values of the header `x-pointsman-escalation`."""

if TYPE_CHECKING:
    from pointsman.router.snapshot import ModelView

_WISH = Header.ESCALATION.encode()
_THINK, _NO_THINK, _CHAT = Mode.THINK, Mode.NO_THINK, Endpoint.CHAT  # slow to look up by way of their classes
Triggers = tuple[Trigger, ...]


def wish_of(exchange: Exchange) -> str | None:
    """What the client says of escalation, or None. Raises `InvalidRequest` where it is none of the words."""
    header = exchange.headers.get(_WISH)
    if header is None:
        return None
    word = header.decode("latin-1").strip().lower()
    if word not in WISHES:
        raise InvalidRequest(
            f"'{Header.ESCALATION}' must be one of {', '.join(WISHES)}.",
            param=Header.ESCALATION,
            code="invalid_value",
        )
    return word


def triggers_of(exchange: Exchange) -> Triggers:
    """What makes the answer to `exchange` worth a second try; empty where there is to be none."""
    decision, model = exchange.decision, exchange.model
    if (
        decision is None
        or decision.mode is not _NO_THINK
        or decision.source in NEVER_OVER
        or exchange.escalated is not None
        or (exchange.tenant is not None and (exchange.tenant.thinking_spent or exchange.tenant.degraded))
        or exchange.engine_endpoint is not _CHAT
        or model is None
        or _THINK not in (model.modes if exchange.scope is None else exchange.scope.offered(model))
        or (_WISH in exchange.headers and wish_of(exchange) == "off")
        or (exchange.needs and not _can_think(exchange, model))
    ):
        return ()
    return exchange.policy.escalation.triggers


def _can_think(exchange: Exchange, model: ModelView) -> bool:
    """Whether a pool that thinks can do all that `exchange` needs."""
    return any(all(getattr(pool.capabilities, need) for need in exchange.needs) for pool in model.pools[Mode.THINK])


def holds_back(exchange: Exchange) -> bool:
    """Whether a stream that may be escalated is held back until the whole of it is known."""
    if _WISH in exchange.headers:
        return wish_of(exchange) == "buffered"
    return exchange.policy.escalation.buffered


def is_plain(answer: dict[str, Any]) -> bool:
    """Whether `answer` is a text that came to its own end, and nothing else: such a one needs no closer look."""
    choices = answer["choices"]
    if len(choices) != 1:
        return False
    choice = choices[0]
    if type(choice) is not dict or choice.get("finish_reason") != "stop":
        return False
    message = choice.get("message")
    if type(message) is not dict or message.get("tool_calls"):
        return False
    content = message.get("content")
    return type(content) is str and bool(content)


def is_empty(answer: dict[str, Any]) -> bool:
    """Whether any choice of `answer` has neither text nor tool call."""
    messages = list(_messages(answer))
    return not messages or not all(
        message.get("content") or message.get("tool_calls") or message.get("refusal") or message.get("audio")
        for message, _ in messages
    )


def runs_on(answer: dict[str, Any]) -> bool:
    """Whether the output was used up by text that does nothing but repeat itself."""
    for message, choice in _messages(answer):
        content = message.get("content") or message.get("reasoning_content")
        if choice.get("finish_reason") == "length" and isinstance(content, str) and len(content) >= WORDS:
            return Repetition().look(content[-2 * MARKS :]) is True
    return False


def trigger_of(
    exchange: Exchange,
    answer: dict[str, Any],
    triggers: Triggers,
    judgement: Mode | None,
    fault: Fault | None,
) -> Trigger | None:
    """
    The first of `triggers` that `answer` pulls.

    `judgement` is the model's own, where it has judged; `fault` is what is wrong with the answer's tool calls.
    """
    if Trigger.JUDGE in triggers and judgement is Mode.THINK:
        return Trigger.JUDGE
    if Trigger.EMPTY in triggers and is_empty(answer):
        return Trigger.EMPTY
    if Trigger.TOOL_CALL in triggers and fault is not None:
        return Trigger.TOOL_CALL
    if Trigger.SCHEMA in triggers and not _keeps_to_schema(exchange, answer):
        return Trigger.SCHEMA
    if Trigger.CONFIDENCE in triggers and _is_unsure(answer, exchange.policy.escalation):
        return Trigger.CONFIDENCE
    return None


def _messages(answer: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for choice in answer["choices"]:
        if isinstance(choice, dict):
            message = choice.get("message")
            yield (message if isinstance(message, dict) else {}), choice


def _keeps_to_schema(exchange: Exchange, answer: dict[str, Any]) -> bool:
    """Whether every text of `answer` is what `response_format` asked for. A tool call is no such text."""
    wanted = exchange.payload.get("response_format")
    if not wanted or wanted["type"] == "text":
        return True
    schema = wanted.get("json_schema", {}).get("schema") if wanted["type"] == "json_schema" else None
    for message, _ in _messages(answer):
        content = message.get("content")
        if not isinstance(content, str) or message.get("tool_calls"):
            continue
        value = _json(content)
        if value is _NO_JSON or (wanted["type"] == "json_object" and not isinstance(value, dict)):
            return False
        if schema is not None and not schemas.fits(value, schema, size=len(content)):
            return False
    return True


_NO_JSON = object()


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _NO_JSON


def _is_unsure(answer: dict[str, Any], escalation: Escalation) -> bool:
    """Whether the mean log-probability of any choice's tokens is below the limit."""
    limit = escalation.min_mean_logprob
    for choice in answer["choices"]:
        logprobs = choice.get("logprobs") if isinstance(choice, dict) else None
        tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
        values = [
            token["logprob"]
            for token in tokens or ()
            if isinstance(token, dict) and isinstance(token.get("logprob"), (int, float))
        ]
        if limit is not None and values and sum(values) / len(values) < limit:
            return True
    return False
