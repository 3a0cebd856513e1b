"""What goes to the engine: the client's public fields, plus what the router alone may set.

Stands beside the wire formats because it is their other end. Each engine has its own private fields; only those
listed here are ever sent, whatever a client tries. What a model family needs said is in `families/`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from pointsman.contracts.config import Engine, Pool
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.names import Header
from pointsman.router import families
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.families import FAMILIES
from pointsman.router.fleet import Replica
from pointsman.router.http.wire import header_lines
from pointsman.router.wire import openai_request

_REQUEST_ID = Header.REQUEST_ID.encode()
_SPEAKS_SGLANG = frozenset({Engine.SGLANG, Engine.SIMULATED})
_JUDGED_BY_THE_MODEL = frozenset({Source.PREDICTOR, Source.SATURATION, Source.DEFAULT})
"""Sources above which nobody decided: a model that judges by itself may, where the policy lets it."""


_OPENAI_SAMPLING = frozenset({"temperature", "top_p"})
"""Sampling fields that any OpenAI-compatible server knows."""
_CHAT, _MESSAGES, _THINK = Endpoint.CHAT, Endpoint.MESSAGES, Mode.THINK  # slow to look up by way of their classes


class _Manner:
    """How a pool is asked in one mode: what is the same for all its requests, worked out once."""

    __slots__ = (
        "family",
        "is_sglang",
        "is_vllm",
        "may_begin",
        "model",
        "pool",
        "salted",
        "sampling",
        "sglang",
        "tempering",
    )

    def __init__(self, pool: Pool, mode: Mode) -> None:
        family = self.family = FAMILIES[pool.family]
        self.pool = pool
        self.model = pool.upstream_model
        self.sglang = pool.engine in _SPEAKS_SGLANG
        self.is_sglang = pool.engine is Engine.SGLANG
        self.is_vllm = pool.engine is Engine.VLLM
        self.salted = self.sglang or self.is_vllm
        self.sampling = tuple(
            (name, value)
            for name, value in family.sampling.get(mode, {}).items()
            if name in _OPENAI_SAMPLING or pool.engine is not Engine.OPENAI
        )
        self.may_begin = bool(family.prefills)
        self.tempering = family.messages_temperature


_manners: dict[tuple[str, bool], _Manner] = {}


def _manner_of(pool: Pool, mode: Mode) -> _Manner:
    key = (pool.name, mode is _THINK)
    manner = _manners.get(key)
    if manner is None or manner.pool is not pool:
        manner = _manners[key] = _Manner(pool, mode)
    return manner


class Ask(NamedTuple):
    """One time that an engine is asked on behalf of a request."""

    mode: Mode
    max_tokens: int
    """Output tokens at most, thinking included."""
    stream: bool
    thinking_budget: int | None = None
    """Thinking tokens at most, for an engine that enforces it (`Pool.enforces_thinking_budget`)."""
    forced: bool = True
    """Whether `mode` is forced upon a model that would judge by itself: `is_forced`."""
    continuation: str | None = None
    """What the assistant's turn has begun with, to be gone on from: `families.closing`."""
    logprobs: bool = False
    """Whether log-probabilities are needed, whatever the client asked for."""
    steady_usage: bool = False
    """Whether each event of the stream tells the usage so far."""


def is_forced(exchange: Exchange) -> bool:
    """Whether the decided mode is forced upon the model, or the tenant's policy lets it judge by itself."""
    assert exchange.decision is not None
    return (
        not exchange.policy.model_decides
        or exchange.decision.source not in _JUDGED_BY_THE_MODEL
        or exchange.escalated is not None
    )


def is_constrained(exchange: Exchange) -> bool:
    """Whether the engine holds the output to a schema: the answer's, or that of a tool which must be called."""
    payload = exchange.payload
    form, choice = payload.get("response_format"), payload.get("tool_choice")
    return (form is not None and form["type"] != "text") or choice == "required" or type(choice) is dict


def upstream_request(exchange: Exchange, replica: Replica, ask: Ask, *, secret: str) -> bytes:
    """
    The whole HTTP request that asks `replica` for the answer to `exchange`, as `ask` says.

    Always carries an explicit `max_tokens`; streams always ask for their usage. `secret` goes only to replicas
    that registered themselves.
    """
    pool = exchange.pool
    assert pool is not None
    body = orjson.dumps(_payload(exchange, pool, ask))
    return b"%b%b: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        _head(exchange.endpoint.engine_path, replica.address, ask.stream, None if pool.urls else secret),
        _REQUEST_ID,
        exchange.request_id.encode("ascii"),
        len(body),
        body,
    )


@lru_cache(4096)
def _head(path: str, address: str, stream: bool, secret: str | None) -> bytes:
    """What the requests to one replica begin with."""
    lines = header_lines(
        [
            ("host", address),
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if stream else "application/json"),
            *([] if secret is None else [(Header.REPLICA_SECRET, secret)]),
        ]
    )
    return b"POST %b HTTP/1.1\r\n%b" % (path.encode("ascii"), lines)


def _payload(exchange: Exchange, pool: Pool, ask: Ask) -> dict[str, Any]:
    assert exchange.tenant is not None
    manner = _manner_of(pool, ask.mode)
    payload = openai_request.forwarded(exchange)
    payload["model"] = manner.model
    payload["max_tokens"] = ask.max_tokens
    payload["stream"] = ask.stream
    if "min_tokens" in payload and payload["min_tokens"] > ask.max_tokens:
        payload["min_tokens"] = ask.max_tokens  # engines refuse more than the most
    if ask.stream:
        payload["stream_options"] = {"include_usage": True}
        if ask.steady_usage:
            payload["stream_options"]["continuous_usage_stats"] = True
    if exchange.engine_endpoint is _CHAT:
        _tell_family(payload, exchange, manner, ask)
    if manner.salted:
        payload["cache_salt"] = exchange.tenant.cache_salt
    if manner.sglang:
        # The attempt's digit keeps a retry apart from the request it repeats; the length stays fixed, so that
        # no id is a prefix of another (SGLang aborts by prefix).
        payload["rid"] = f"{exchange.rid}{exchange.attempts % 10}"
        if ask.thinking_budget is not None:
            payload["custom_params"] = {"thinking_budget": ask.thinking_budget}
    return payload


def _tell_family(payload: dict[str, Any], exchange: Exchange, manner: _Manner, ask: Ask) -> None:
    """Say the mode as the pool's family needs it said, and how to sample where the client has not."""
    family = manner.family
    if family.switch is not None:
        family.switch(payload, ask.mode, exchange.effort)
    if manner.tempering != 1.0 and exchange.endpoint is _MESSAGES and "temperature" in payload:
        payload["temperature"] = round(payload["temperature"] * manner.tempering, 6)
    for name, value in manner.sampling:
        if name not in payload:
            payload[name] = value
    if family.keeps_special_tokens:
        payload["skip_special_tokens"] = False
    if ask.logprobs:
        payload["logprobs"] = True
    begun = ask.continuation
    if manner.is_sglang and (family.always_parsed or begun is not None):
        # Else a parser of the engine's, if it has one, would take what goes on from here for thinking.
        payload["separate_reasoning"] = False
    if begun is None and manner.may_begin:
        begun = families.prefill(manner.pool, ask.mode, forced=ask.forced, constrained=is_constrained(exchange))
    if begun is not None:
        payload["messages"] = [*payload["messages"], {"role": "assistant", "content": begun}]
        payload["continue_final_message"] = True
        if manner.is_vllm:
            # vLLM lets the chat template render the begun message, and refuses to open another after it; SGLang
            # puts it behind the opened turn, and has no such field.
            payload["add_generation_prompt"] = False
