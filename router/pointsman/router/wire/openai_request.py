"""OpenAI's wire format from the engine's side: which requests are valid, and what of them is forwarded.

Every field is listed, with its check and with whether the engine gets it; any other field is refused by name
(`docs/decisions/`). So a client can neither reach an engine's private switches nor believe that a field works
which nobody reads. Nothing here quotes a value in an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from pointsman.contracts.errors import InvalidRequest
from pointsman.contracts.names import Header
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.wire import fields, tools
from pointsman.router.wire.chat_messages import check_messages, image_needs
from pointsman.router.wire.fields import Check, wrong
from pointsman.router.wire.private_fields import unknown
from pointsman.router.wire.wishes import EFFORTS, TEMPLATE_SWITCHES, THINKING_TYPES


@dataclass(frozen=True, slots=True)
class Field:
    """One request field: its check, and whether the engine gets it."""

    check: Check
    forwarded: bool = True


def _kept(check: Check) -> Field:
    return Field(check, forwarded=False)


def _prompt(value: Any, field: str) -> None:
    """A string or a list of strings. Token ids are refused: they would bypass the tokenizer's own rules."""
    if isinstance(value, str) and value:
        return
    if not isinstance(value, list) or not value:
        raise wrong(field, "a string or a list of strings, not empty")
    for index, item in enumerate(value):
        if not isinstance(item, str) or not item:
            raise wrong(f"{field}[{index}]", "a string, not empty")


def _switches(*names: str) -> Check:
    """An object that holds nothing but booleans called `names`."""

    def check(value: Any, field: str) -> None:
        fields.mapping(value, field)
        for name, item in value.items():
            if name not in names:
                raise unknown(f"{field}.{name}")
            fields.boolean(item, f"{field}.{name}")

    return check


def _object(**checks: Check) -> Check:
    """An object of fields that may be left out, or be null, each with its check."""

    def check(value: Any, field: str) -> None:
        fields.mapping(value, field)
        for name, item in value.items():
            if name not in checks:
                raise unknown(f"{field}.{name}")
            if item is not None:
                checks[name](item, f"{field}.{name}")

    return check


_thinking_fields = _object(type=fields.one_of(*THINKING_TYPES), budget_tokens=fields.tokens)


def _thinking(value: Any, field: str) -> None:
    _thinking_fields(value, field)
    if value.get("type") is None:
        raise wrong(f"{field}.type", "one of " + ", ".join(THINKING_TYPES))
    if value["type"] == "disabled" and value.get("budget_tokens") is not None:
        raise wrong(f"{field}.budget_tokens", "left out where thinking is disabled")


def _text_alone(value: Any, field: str) -> None:
    if value != ["text"]:
        raise wrong(field, '["text"]: models here say nothing else')


def _medium(value: Any, field: str) -> None:
    if value != "medium":
        raise wrong(field, "medium: models here have no other")


_EFFORT = fields.one_of(*EFFORTS)

_COMMON: dict[str, Field] = {
    "model": _kept(fields.string),
    "max_tokens": _kept(fields.tokens),
    "temperature": Field(fields.number(0, 2)),
    "top_p": Field(fields.number(0, 1, above_low=True)),
    "n": Field(fields.integer(1, 16)),
    "stream": _kept(fields.boolean),
    "stream_options": _kept(_switches("include_usage", "include_obfuscation")),
    "stop": Field(fields.strings(16)),
    "seed": Field(fields.integer(-(2**63), 2**63 - 1)),
    "presence_penalty": Field(fields.number(-2, 2)),
    "frequency_penalty": Field(fields.number(-2, 2)),
    "logit_bias": Field(fields.biases),
    "user": _kept(fields.string),
    # sampling fields that SGLang and vLLM share
    "top_k": Field(fields.integer(-1, 2**31 - 1)),  # SGLang's scheduler dies of what 32 bits can't hold
    "min_p": Field(fields.number(0, 1)),
    "min_tokens": Field(fields.integer(0, fields.MOST_TOKENS)),
    "repetition_penalty": Field(fields.number(0, 2, above_low=True)),
    "ignore_eos": Field(fields.boolean),
}

CHAT_FIELDS: dict[str, Field] = {
    **_COMMON,
    "messages": Field(check_messages),
    "max_completion_tokens": _kept(fields.tokens),
    "logprobs": Field(fields.boolean),
    "top_logprobs": Field(fields.integer(0, 20)),
    "tools": Field(tools.check_tools),
    "tool_choice": Field(tools.check_choice),
    "parallel_tool_calls": Field(fields.boolean),
    "response_format": Field(tools.check_response_format),
    # the ways in which clients of several platforms ask for a mode, an effort and a budget
    "reasoning_effort": _kept(_EFFORT),
    "reasoning": _kept(_object(effort=_EFFORT, max_tokens=fields.tokens, enabled=fields.boolean)),
    "thinking": _kept(_thinking),
    "output_config": _kept(_object(effort=_EFFORT)),
    "chat_template_kwargs": _kept(_switches(*TEMPLATE_SWITCHES)),
    # fields of OpenAI's that concern its own platform: accepted, since SDKs send them, and of no effect
    "metadata": _kept(fields.mapping),
    "modalities": _kept(_text_alone),
    "prediction": _kept(fields.mapping),
    "verbosity": _kept(_medium),
    "prompt_cache_retention": _kept(fields.string),
    "store": _kept(fields.boolean),
    "service_tier": _kept(fields.string),
    "safety_identifier": _kept(fields.string),
    "prompt_cache_key": _kept(fields.string),
}

COMPLETION_FIELDS: dict[str, Field] = {
    **_COMMON,
    "prompt": Field(_prompt),
    "logprobs": Field(fields.integer(0, 20)),
    "echo": Field(fields.boolean),
    "suffix": Field(fields.string),
    "best_of": Field(fields.integer(1, 16)),
}

FIELDS = {Endpoint.CHAT: CHAT_FIELDS, Endpoint.COMPLETIONS: COMPLETION_FIELDS}
REQUIRED = frozenset({"messages", "prompt", "model"})

_CHECKS = {end: {name: field.check for name, field in known.items()} for end, known in FIELDS.items()}
_FORWARDED = {
    end: frozenset(name for name, field in known.items() if field.forwarded) for end, known in FIELDS.items()
}
_INCLUDE_COST = Header.INCLUDE_COST.encode()


def read(exchange: Exchange) -> str:
    """
    Fill the exchange's request part from its body and headers, and return the model name as the client gave it.

    Raises `InvalidRequest` naming the first field at fault.
    """
    return take(exchange, json_object(exchange.body))


def take(exchange: Exchange, payload: dict[str, Any]) -> str:
    """`read` of a body that is `payload`, whoever wrote it."""
    if None in payload.values():  # null is OpenAI's way of saying "not set"
        payload = {name: value for name, value in payload.items() if value is not None or name in REQUIRED}
    exchange.payload = payload
    checks = _CHECKS[exchange.engine_endpoint]
    for name, value in payload.items():
        check = checks.get(name)
        if check is None:
            raise unknown(name)
        check(value, name)
    for name in ("model", "messages" if exchange.engine_endpoint is Endpoint.CHAT else "prompt"):
        if name not in payload:
            raise InvalidRequest(f"'{name}' is missing.", param=name, code="missing_required_parameter")
    exchange.stream = payload.get("stream", False)
    options = payload.get("stream_options")
    if options is not None and not exchange.stream:
        raise InvalidRequest(
            "'stream_options' needs 'stream' to be true.", param="stream_options", code="invalid_value"
        )
    exchange.include_usage = bool(options and options.get("include_usage"))
    wish = exchange.headers.get(_INCLUDE_COST)
    exchange.include_cost = wish is not None and wish.lower() == b"true"
    exchange.max_tokens = _max_tokens(payload)
    if "tools" in payload or "tool_choice" in payload or "parallel_tool_calls" in payload:
        exchange.toolbox = tools.settle_choice(payload)
    if "top_logprobs" in payload and not payload.get("logprobs"):
        raise InvalidRequest(
            "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value"
        )
    exchange.needs = _needs(payload)
    model: str = payload["model"]
    return model


def forwarded(exchange: Exchange) -> dict[str, Any]:
    """The client's fields that the engine gets, as a new dictionary."""
    forwarded = _FORWARDED[exchange.engine_endpoint]
    return {name: value for name, value in exchange.payload.items() if name in forwarded}


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is; raises `InvalidRequest` where it is none."""
    if not body:
        raise InvalidRequest("The request has no body; it must be a JSON object.", code="invalid_json")
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The decoder's own text quotes nothing, but its document attribute does: only the place is told.
        raise InvalidRequest(
            f"The body is not valid JSON (line {error.lineno}, column {error.colno}).", code="invalid_json"
        ) from None
    if not isinstance(payload, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    return payload


def _max_tokens(payload: dict[str, Any]) -> int | None:
    old, new = payload.get("max_tokens"), payload.get("max_completion_tokens")
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            "'max_tokens' and 'max_completion_tokens' differ; send one of them.",
            param="max_tokens",
            code="invalid_value",
        )
    return old if new is None else new


def _needs(payload: dict[str, Any]) -> dict[str, str]:
    """The capabilities this request needs, each with the field that needs it."""
    needs: dict[str, str] = {}
    if payload.get("tools"):
        needs["tools"] = "tools"
    if "logprobs" in payload and payload["logprobs"] is not False:
        needs["logprobs"] = "logprobs"
    if "response_format" in payload and payload["response_format"]["type"] != "text":
        needs["json_schema"] = "response_format"
    for message in payload.get("messages", ()):
        if type(message.get("content")) is list:
            return needs | image_needs(payload["messages"])
    return needs
