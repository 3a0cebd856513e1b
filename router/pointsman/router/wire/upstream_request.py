"""What goes to the engine: the client's public fields, plus what the router alone may set.

Stands beside the wire formats because it is their other end. Each engine has its own private fields; only those
listed here are ever sent, whatever a client tries.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from pointsman.contracts.config import Engine, Pool
from pointsman.contracts.modes import Mode, thinking_allowance
from pointsman.contracts.names import Header
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.families import SWITCHES
from pointsman.router.fleet import Replica
from pointsman.router.http.wire import header_lines
from pointsman.router.wire import openai_request

_REQUEST_ID = Header.REQUEST_ID.encode()
_SPEAKS_SGLANG = frozenset({Engine.SGLANG, Engine.SIMULATED})


def upstream_request(exchange: Exchange, replica: Replica, *, secret: str) -> bytes:
    """
    The whole HTTP request that asks `replica` for the answer to `exchange`.

    Always carries an explicit `max_tokens`; streams always ask for their usage. `secret` goes only to replicas
    that registered themselves.
    """
    pool = exchange.pool
    assert pool is not None
    body = orjson.dumps(_payload(exchange, pool))
    return b"%b%b: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        _head(exchange.endpoint, replica.address, exchange.stream, None if pool.urls else secret),
        _REQUEST_ID,
        exchange.request_id.encode("ascii"),
        len(body),
        body,
    )


@lru_cache(4096)
def _head(endpoint: Endpoint, address: str, stream: bool, secret: str | None) -> bytes:
    """What the requests to one replica begin with."""
    lines = header_lines(
        [
            ("host", address),
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if stream else "application/json"),
            *([] if secret is None else [(Header.REPLICA_SECRET, secret)]),
        ]
    )
    return b"POST %b HTTP/1.1\r\n%b" % (endpoint.value.encode("ascii"), lines)


def _payload(exchange: Exchange, pool: Pool) -> dict[str, Any]:
    assert exchange.tenant is not None
    payload = openai_request.forwarded(exchange)
    limit = exchange.max_tokens or pool.default_max_tokens
    payload["model"] = pool.upstream_model
    payload["max_tokens"] = limit
    payload["stream"] = exchange.stream
    if exchange.stream:
        payload["stream_options"] = {"include_usage": True}
    if exchange.endpoint is Endpoint.CHAT:
        switch = SWITCHES.get(pool.family)
        if switch is not None:
            switch(payload, exchange.mode, exchange.payload.get("reasoning_effort"))
    if pool.engine in _SPEAKS_SGLANG:
        # The attempt's digit keeps a retry apart from the request it repeats; the length stays fixed, so that
        # no id is a prefix of another (SGLang aborts by prefix).
        payload["rid"] = f"{exchange.rid}{exchange.attempts % 10}"
        payload["cache_salt"] = exchange.tenant.cache_salt
        if exchange.endpoint is Endpoint.CHAT and exchange.mode is Mode.THINK and pool.thinking_budget:
            payload["custom_params"] = {"thinking_budget": thinking_allowance(limit, pool.thinking_budget)}
    elif pool.engine is Engine.VLLM:
        payload["cache_salt"] = exchange.tenant.cache_salt
    return payload
