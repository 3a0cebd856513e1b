"""Who is logged in where: kept in Redis, so that a console that is started again, or another one, knows them too.

A browser holds a random word and nothing else. Redis holds, under a digest of that word, who it is and the key,
encrypted with another digest of it: whoever reads Redis can neither take part in a session nor read a key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis.asyncio import Redis
from redis.exceptions import RedisError

from pointsman.console.who import Who
from pointsman.contracts.names import RedisKey

IDLE = 3600
"""Seconds after which a session ends that no open page has used."""

LONGEST = 12 * 3600
"""Seconds after which a session ends in any case."""

FRESH = 5.0
"""Seconds for which Redis is not asked again whether there still is a session."""

MOST_KNOWN = 10_000
"""Sessions that this process remembers."""

_NONCE = 12


class SessionsAway(Exception):
    """Redis does not answer, so nobody can be told from anybody else."""


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """Somebody's log-in. `identity` is what Redis knows it by; `ends_at` is in seconds since 1970."""

    identity: str
    key: str
    who: Who
    ends_at: float


class Sessions:
    """All sessions. Safe to use from one event loop."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known: dict[str, tuple[float, Session]] = {}

    async def open(self, key: str, who: Who) -> str:
        """A new session; returns the word for the browser. Raises `SessionsAway`."""
        word = secrets.token_urlsafe(32)
        ends_at = time.time() + LONGEST
        nonce = secrets.token_bytes(_NONCE)
        text = json.dumps({"key": key, "who": who.told(), "ends_at": ends_at}).encode()
        kept = nonce + AESGCM(_secret(word)).encrypt(nonce, text, None)
        try:
            await self._redis.set(_name(_identity(word)), kept, ex=IDLE)
        except RedisError:
            raise SessionsAway from None
        return word

    async def find(self, word: str) -> Session | None:
        """The session of the browser that shows `word`; None: there is none (any more). Raises `SessionsAway`."""
        identity = _identity(word)
        known = self._known.get(identity)
        if known is not None and time.monotonic() - known[0] < FRESH:
            return self._unless_over(known[1])
        try:
            kept = await self._redis.getex(_name(identity), ex=IDLE)
        except RedisError:
            if known is None:
                raise SessionsAway from None
            return self._unless_over(known[1])
        session = _read(identity, word, kept) if isinstance(kept, bytes) else None
        if session is None:
            self._known.pop(identity, None)
            return None
        return self._remember(session)

    async def is_there(self, session: Session) -> bool:
        """Whether `session` goes on; that somebody has a page open keeps it from being idle."""
        if session.ends_at <= time.time():
            return False
        try:
            return bool(await self._redis.expire(_name(session.identity), IDLE))
        except RedisError:
            return True  # Redis is away: its sessions are not over for that

    async def close(self, session: Session) -> None:
        """End `session`, here and everywhere. Raises `SessionsAway` where others may not have heard of it."""
        self._known.pop(session.identity, None)
        try:
            await self._redis.delete(_name(session.identity))
        except RedisError:
            raise SessionsAway from None

    def _remember(self, session: Session) -> Session | None:
        if len(self._known) >= MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[session.identity] = (time.monotonic(), session)
        return self._unless_over(session)

    def _unless_over(self, session: Session) -> Session | None:
        if session.ends_at > time.time():
            return session
        self._known.pop(session.identity, None)
        return None


def _read(identity: str, word: str, kept: bytes) -> Session | None:
    try:
        told = json.loads(AESGCM(_secret(word)).decrypt(kept[:_NONCE], kept[_NONCE:], None))
        return Session(identity, str(told["key"]), Who.read(told["who"]), float(told["ends_at"]))
    except (InvalidTag, ValueError, KeyError, TypeError):
        return None  # written by somebody else, or by another release


def _identity(word: str) -> str:
    return _digest(word, b"identity").hex()


def _secret(word: str) -> bytes:
    return _digest(word, b"secret")


def _digest(word: str, purpose: bytes) -> bytes:
    return hmac.new(
        word.encode("utf-8", "surrogateescape"), b"pointsman console " + purpose, hashlib.sha256
    ).digest()


def _name(identity: str) -> str:
    return RedisKey.CONSOLE_SESSION.format(identity=identity)
