"""Who may see what in the admin process: a tenant its own things, the holder of an admin key everything.

Separate from the pages, all of which ask here. Keys are compared by their digests, as the data plane does.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from fastapi import Header

from pointsman.contracts.errors import Unauthenticated
from pointsman.router.snapshot import Snapshot, TenantView, bearer_digest

Authorization = Annotated[str | None, Header(include_in_schema=False)]


class Caller(NamedTuple):
    """A tenant, and the first eight hexadecimal digits of the digest of the key that was shown."""

    tenant: TenantView
    key: str


class Access:
    """What the `Authorization` header of a request opens."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def caller(self, authorization: str | None) -> Caller:
        """The tenant that asks, and its key; raises `Unauthenticated` where no tenant's key was shown."""
        digest = bearer_digest(_bytes(authorization))
        tenant = None if digest is None else self._snapshot.tenants.get(digest)
        if tenant is None or digest is None:
            raise Unauthenticated(
                "No API key was given: send it as 'Authorization: Bearer KEY'."
                if authorization is None
                else "The API key is not known."
            )
        return Caller(tenant, digest.hex()[:8])

    def tenant(self, authorization: str | None) -> TenantView:
        """The tenant that asks; raises `Unauthenticated` where no tenant's key was shown."""
        return self.caller(authorization).tenant

    def is_admin(self, authorization: str | None) -> bool:
        """Whether an admin key was shown."""
        return self._snapshot.is_admin(_bytes(authorization))

    def require_admin(self, authorization: str | None) -> None:
        """Raises `Unauthenticated` where no admin key was shown."""
        if not self.is_admin(authorization):
            raise Unauthenticated("This path needs the admin key: 'Authorization: Bearer KEY'.")


def _bytes(authorization: str | None) -> bytes | None:
    return None if authorization is None else authorization.encode("latin-1")
