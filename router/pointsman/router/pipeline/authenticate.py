"""Who asks: find the tenant by the key's digest, before anything of the body is looked at.

First of the steps, so that a stranger can make the router do no more than one SHA-256 and a checksum. What a key is
limited to beyond its tenant is looked at here as far as it can be before the body is read. Also names the request:
the id that every later header, record and log line carries.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256

from pointsman.contracts.errors import SnapshotTooOld, Unauthenticated
from pointsman.contracts.names import Header
from pointsman.router.exchange import Exchange, Headers
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.snapshot import Snapshot
from pointsman.router.tenants import Key, Tenants

_REQUEST_ID = Header.REQUEST_ID.encode()
_API_KEY = Header.API_KEY.encode()

RETRY_AFTER = 5
"""Seconds after which a request may be tried again that came while the router was cut off from its keys."""

_CLIENT_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""Request ids that are taken over from clients; anything else is replaced, since it is echoed in a header."""


class Authenticate:
    """Fills `request_id`, `rid`, `tenant`, `key` and `scope`."""

    name = "authenticate"

    def __init__(self, snapshot: Snapshot) -> None:
        self._tenants = snapshot.tenants
        self._keys = snapshot.tenants.keys
        self._random = ""
        self._used = 0

    def __call__(self, exchange: Exchange) -> Outcome:
        exchange.rid = self._new_id()  # never the client's: engines abort by prefix of this id
        given = exchange.headers.get(_REQUEST_ID)
        if given is not None and _CLIENT_ID.fullmatch(given):
            exchange.request_id = given.decode("ascii")
        else:
            exchange.request_id = "req-" + exchange.rid
        key = shown_key(exchange.headers)
        digest = sha256(key).digest()
        found = self._keys.get(digest)
        exchange.tenant, scope = self._tenants.show(key, digest) if found is None else found
        exchange.key = digest
        if scope is not None:
            exchange.scope = scope
            scope.check(exchange.endpoint, exchange.client.peer)
        if self._tenants.stale:
            raise too_old()
        return Outcome.NEXT

    def _new_id(self) -> str:
        """128 random bits in hexadecimal, from a stock that costs one system call for many."""
        start = self._used
        if start == len(self._random):
            self._random = os.urandom(16 * 256).hex()
            start = 0
        self._used = start + 32
        return self._random[start : start + 32]


def shown_key(headers: Headers) -> bytes:
    """
    The key in an `Authorization: Bearer` header, or in `x-api-key` as Anthropic's clients send it.

    Raises `Unauthenticated` where there is none.
    """
    authorization = headers.get(b"authorization")
    if authorization is None:
        key = headers.get(_API_KEY)
        if key is not None:
            return key.strip()
        raise Unauthenticated("No API key was given: send it as 'Authorization: Bearer KEY'.")
    if authorization[:7].lower() != b"bearer ":
        raise Unauthenticated("The API key is not known: send it as 'Authorization: Bearer KEY'.")
    return authorization[7:].strip()


def key_of(headers: Headers, tenants: Tenants) -> Key:
    """The tenant's key that `headers` show; raises `Unauthenticated` where they show none."""
    key = shown_key(headers)
    return tenants.show(key, sha256(key).digest())


def too_old() -> SnapshotTooOld:
    """The refusal of everybody, as keys may have been revoked."""
    return SnapshotTooOld("The router has been cut off from its keys for too long.", retry_after=RETRY_AFTER)
