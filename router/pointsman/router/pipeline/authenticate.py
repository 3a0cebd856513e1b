"""Who asks: find the tenant by the key's digest, before anything of the body is looked at.

First of the steps, so that a stranger can make the router do no more than one SHA-256. Also names the request:
the id that every later header, record and log line carries.
"""

from __future__ import annotations

import os
import re

from pointsman.contracts.errors import Unauthenticated
from pointsman.contracts.names import Header
from pointsman.router.exchange import Exchange
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.snapshot import Snapshot, bearer_digest

_REQUEST_ID = Header.REQUEST_ID.encode()

_CLIENT_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""Request ids that are taken over from clients; anything else is replaced, since it is echoed in a header."""


class Authenticate:
    """Fills `request_id`, `rid`, `tenant` and `key`."""

    name = "authenticate"

    def __init__(self, snapshot: Snapshot) -> None:
        self._tenants = snapshot.tenants
        self._random = ""
        self._used = 0

    def __call__(self, exchange: Exchange) -> Outcome:
        exchange.rid = self._new_id()  # never the client's: engines abort by prefix of this id
        given = exchange.headers.get(_REQUEST_ID)
        if given is not None and _CLIENT_ID.fullmatch(given):
            exchange.request_id = given.decode("ascii")
        else:
            exchange.request_id = "req-" + exchange.rid
        authorization = exchange.headers.get(b"authorization")
        digest = bearer_digest(authorization)
        tenant = None if digest is None else self._tenants.get(digest)
        if tenant is None:
            raise unauthenticated(authorization)
        assert digest is not None
        exchange.tenant, exchange.key = tenant, digest
        return Outcome.NEXT

    def _new_id(self) -> str:
        """128 random bits in hexadecimal, from a stock that costs one system call for many."""
        start = self._used
        if start == len(self._random):
            self._random = os.urandom(16 * 256).hex()
            start = 0
        self._used = start + 32
        return self._random[start : start + 32]


def unauthenticated(authorization: bytes | None) -> Unauthenticated:
    """The refusal of a request whose `Authorization` header shows no known key."""
    return Unauthenticated(
        "No API key was given: send it as 'Authorization: Bearer KEY'."
        if authorization is None
        else "The API key is not known."
    )
