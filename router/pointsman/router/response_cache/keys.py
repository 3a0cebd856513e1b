"""Which requests are equal: the key of an answer, made of everything that shapes it.

Stands apart because a field that is forgotten here gives one client the answer to another question. So the key is
made of all that the engine is sent, and of all that decides what becomes of its answer; what only concerns the
client's own headers, its bill or the final usage chunk is made anew for each. What does not change from one request
to the next is worked out once for each tenant, policy, model and mode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import orjson

from pointsman.contracts.config import Pool
from pointsman.contracts.modes import Mode
from pointsman.contracts.policies import Policy
from pointsman.router.exchange import Exchange
from pointsman.router.families import FAMILIES
from pointsman.router.pipeline import judging
from pointsman.router.tenant_view import ModelView, TenantView
from pointsman.router.wire import openai_request
from pointsman.router.wire.upstream_request import is_forced
from pointsman.store.response_cache import AnswerKey

FORMAT = 1
"""Goes up with each change of what is recorded, or of what an equal request is."""

MAX_KINDS = 10_000
"""Kinds of requests that are remembered; with more, all are forgotten and worked out anew."""

VERSIONS_EVERY = 1.0
"""Seconds for which the versions that a model is served in are taken for what they were."""

_NO_THINK = Mode.NO_THINK
_NOT_SHAPING = frozenset({"prices"})
"""Fields of a pool that have no part in what it answers."""

Versions = Callable[[Iterable[Pool]], str]
"""Tells the versions that pools are served in, as far as they are known; empty where they are not."""


class _Kind:
    """What the requests of one tenant, policy, model and mode have in common."""

    __slots__ = ("checked_at", "model", "policy", "pools", "prefix", "scope", "shared_with", "start", "tempered")

    def __init__(self, tenant: TenantView, policy: Policy, model: ModelView, mode: Mode) -> None:
        self.policy = policy
        self.model = model
        self.shared_with = tenant.cache.group
        self.scope = scope_of(tenant.name, tenant.cache.group)
        pools = {pool.name: pool for mode in Mode for pool in model.pools.get(mode, ())}
        self.pools = tuple(pools[name] for name in sorted(pools))
        # A temperature then does not mean the same in each format.
        self.tempered = any(FAMILIES[pool.family].messages_temperature != 1.0 for pool in self.pools)
        self.start = orjson.dumps(
            [
                FORMAT,
                self.scope,
                model.name,
                mode,
                policy.model_dump(
                    mode="json", include={"thinking_budget", "max_output", "escalation", "model_decides"}
                ),
                [pool.model_dump(mode="json", exclude=set(_NOT_SHAPING)) for pool in self.pools],
            ]
        )
        self.prefix = b""
        self.checked_at = 0.0


class Keys:
    """
    Makes the keys of requests. `versions` tells what pools are served in.

    Two tenants have an answer in common only where both name the same group: a key is made of the tenant's name or
    the group's, and of which of the two it is.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._kinds: dict[tuple[str, int, str, Mode], _Kind] = {}

    def scope(self, exchange: Exchange) -> str:
        """Who may be given the answer to `exchange`."""
        return self._kind(exchange).scope

    def key(self, exchange: Exchange, generation: int) -> AnswerKey | None:
        """
        The key of the answer to `exchange`, which was decided; None where it can have none.

        Raises `InvalidRequest` where a header that shapes the answer is not what it must be.
        """
        kind = self._kind(exchange)
        no_think = exchange.mode is _NO_THINK
        triggers = judging.triggers_of(exchange) if no_think else ()
        forwarded = openai_request.forwarded(exchange)
        # The order of fields inside of fields is kept: templates write tools and schemas in the order they came in.
        asked: dict[str, Any] = {name: forwarded[name] for name in sorted(forwarded)}
        shape = [
            generation,
            exchange.endpoint if kind.tempered else exchange.engine_endpoint,
            exchange.stream,
            exchange.max_tokens,
            exchange.thinking_budget,
            exchange.effort,
            is_forced(exchange),
            triggers,
            bool(triggers) and exchange.stream and judging.holds_back(exchange),
            asked,
        ]
        try:
            told = orjson.dumps(shape)
        except orjson.JSONEncodeError:
            return None  # nested too deeply: relay says so
        digest = hashlib.blake2b(kind.prefix, digest_size=20, person=b"pm-answer-key")
        digest.update(told)
        return AnswerKey(kind.scope, digest.hexdigest())

    def _kind(self, exchange: Exchange) -> _Kind:
        tenant, model, policy, mode = exchange.tenant, exchange.model, exchange.policy, exchange.mode
        assert tenant is not None
        assert model is not None
        name = (tenant.name, id(policy), model.name, mode)
        kind = self._kinds.get(name)
        if (
            kind is None
            or kind.policy is not policy
            or kind.model is not model
            or kind.shared_with != tenant.cache.group
        ):
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            kind = self._kinds[name] = _Kind(tenant, policy, model, mode)
        now = monotonic()
        if now - kind.checked_at >= VERSIONS_EVERY or not kind.prefix:
            kind.checked_at = now
            kind.prefix = kind.start + b"\n" + self._versions(kind.pools).encode() + b"\n"
        return kind


def scope_of(tenant: str, group: str | None) -> str:
    """The scope of the answers of `tenant`, which shares them with `group` or, None, with nobody."""
    return _scope(f"tenant:{tenant}" if group is None else f"group:{group}")


def idempotent_scope(tenant: str) -> str:
    """The scope of the answers that `tenant` may ask for once more by its idempotency keys."""
    return _scope(f"idempotent:{tenant}")


def idempotent_key(tenant: str, key: bytes, generation: int) -> AnswerKey:
    """The key of the answer to the request of `tenant` that was sent with the idempotency key `key`."""
    digest = hashlib.blake2b(b"%d\n" % generation + key, digest_size=20, person=b"pm-idempotent")
    return AnswerKey(idempotent_scope(tenant), digest.hexdigest())


def request_digest(exchange: Exchange) -> bytes:
    """What the request of `exchange` is told from another one with the same idempotency key by."""
    signals = [(name, mode) for name, mode in exchange.signals]
    shape = [exchange.endpoint, signals, exchange.effort, exchange.thinking_budget, exchange.payload]
    try:
        told = orjson.dumps(shape, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        told = exchange.body  # nested too deeply: it will be refused
    return hashlib.blake2b(told, digest_size=32).digest()


def _scope(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16, person=b"pm-answer-scope").hexdigest()
