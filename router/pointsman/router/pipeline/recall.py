"""Answer from what was answered before, where that may be; run equal requests once.

Stands after `admit`, since a hit counts as a request too, and after `decide`, since the mode is part of an answer's
key; before `place`, which a hit never gets to. For tenants without a cache, and clients without an idempotency key,
it costs a look at either and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pointsman.contracts.errors import InvalidRequest
from pointsman.contracts.names import Header
from pointsman.router.exchange import CacheStatus, Endpoint, Exchange
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.response_cache.answers import Answers
from pointsman.router.response_cache.keys import Keys, idempotent_key, idempotent_scope, request_digest

if TYPE_CHECKING:
    from pointsman.router.pipeline import Pipeline

_CACHE_CONTROL = Header.CACHE_CONTROL.encode()
_IDEMPOTENCY_KEY = Header.IDEMPOTENCY_KEY.encode()
_WISHES = (b"bypass", b"refresh", b"force")

_COUNT_TOKENS = Endpoint.COUNT_TOKENS
_NEXT, _WAIT = Outcome.NEXT, Outcome.WAIT  # members of an Enum are slow to look up by way of its class

LONGEST_KEY = 255
"""Characters of an idempotency key at most."""


class Recall:
    """Fills `cache` and, where the answer was made before, all that `relay` would fill."""

    name = "recall"

    def __init__(self, answers: Answers, keys: Keys) -> None:
        self._answers = answers
        self._keys = keys

    @property
    def pipeline(self) -> Pipeline:
        return self._answers.pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Pipeline) -> None:
        self._answers.pipeline = pipeline

    def __call__(self, exchange: Exchange) -> Outcome:
        tenant = exchange.tenant
        assert tenant is not None
        cached = tenant.cache.enabled
        if _IDEMPOTENCY_KEY in exchange.headers:
            return self._once(exchange, cached=cached)
        if not cached or exchange.endpoint is _COUNT_TOKENS:
            return _NEXT
        answers, wish = self._answers, _wish_of(exchange)
        if wish != b"force" and not is_deterministic(exchange):
            return _NEXT
        if wish == b"bypass" or answers.shared.away:
            answers.tell(exchange, CacheStatus.BYPASS)
            return _NEXT
        assert exchange.model is not None
        generation = answers.shared.generation(self._keys.scope(exchange), exchange.model.name)
        key = self._keys.key(exchange, generation)
        if key is None:
            return _NEXT
        if wish == b"refresh":
            answers.refresh(exchange, key, generation)
            return _NEXT
        answers.recall(exchange, key, generation)
        return _WAIT

    def _once(self, exchange: Exchange, *, cached: bool) -> Outcome:
        """The client has named the request, and gets the same answer however often it sends it."""
        tenant, name = exchange.tenant, exchange.headers[_IDEMPOTENCY_KEY]
        assert tenant is not None
        if not 1 <= len(name) <= LONGEST_KEY or not name.isascii() or not name.decode("ascii").isprintable():
            raise InvalidRequest(
                f"'{Header.IDEMPOTENCY_KEY}' must be 1 to {LONGEST_KEY} printable ASCII characters.",
                param=Header.IDEMPOTENCY_KEY,
                code="invalid_value",
            )
        answers = self._answers
        if cached:
            answers.tell(exchange, CacheStatus.BYPASS)
        generation = answers.shared.generation(idempotent_scope(tenant.name), "")
        key = idempotent_key(tenant.name, name, generation)
        fingerprint = answers.seal.fingerprint(request_digest(exchange))
        answers.once(exchange, key, fingerprint, generation)
        return _WAIT


def is_deterministic(exchange: Exchange) -> bool:
    """Whether the same request is meant to get the same answer: it is not sampled, or it names its seed."""
    payload = exchange.payload
    return "seed" in payload or payload.get("temperature") == 0


def _wish_of(exchange: Exchange) -> bytes | None:
    """What the client says of the cache. Raises `InvalidRequest` where it is none of the words."""
    header = exchange.headers.get(_CACHE_CONTROL)
    if header is None:
        return None
    wish = header.strip().lower()
    if wish not in _WISHES:
        words = ", ".join(word.decode() for word in _WISHES)
        raise InvalidRequest(
            f"'{Header.CACHE_CONTROL}' must be one of {words}.", param=Header.CACHE_CONTROL, code="invalid_value"
        )
    return wish
