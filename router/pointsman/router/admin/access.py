"""Who may see and do what in the admin process: a tenant its own things, the holder of an admin key what its role
allows.

Separate from the pages, all of which ask here, so that no page can forget a scope. Whose a key is, `key_ring.py`
says.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated, NamedTuple

from fastapi import Header, Request

from pointsman.contracts.errors import InsufficientRole, KeyOutOfScope, Unauthenticated
from pointsman.contracts.keys import KeyScope, Role
from pointsman.contracts.names import Header as Name
from pointsman.router.admin.key_ring import KeyOwner, KeyRing

Authorization = Annotated[str | None, Header(include_in_schema=False)]


class CallingTenant(NamedTuple):
    """A tenant, and the models that the key which was shown may ask for."""

    name: str
    models: frozenset[str]


class Caller(NamedTuple):
    """A tenant, and the first eight hexadecimal digits of the digest of the key that was shown."""

    tenant: CallingTenant
    key: str


class Actor(NamedTuple):
    """Who does something with an admin key; `name` is what the audit log says: `admin key 1a2b3c4d`."""

    name: str
    role: Role


class Access:
    """What a request's `Authorization` header opens; `caller` and what `needs` makes are FastAPI dependencies."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def caller(self, request: Request) -> Caller:
        """
        The tenant that asks, and its key.

        Raises `Unauthenticated` where no tenant's key was shown, `KeyOutOfScope` where it is not good for this.
        """
        owner = self._owner(request)
        if owner is None or owner.tenant is None:
            raise Unauthenticated(
                "No API key was given: send it as 'Authorization: Bearer KEY'."
                if request.headers.get("authorization") is None
                else "The API key is not known."
            )
        _check_network(owner.scope, request)
        _check_path(owner.scope, request.url.path)
        return Caller(CallingTenant(owner.tenant, owner.models), owner.tag)

    def owner(self, request: Request) -> KeyOwner:
        """Whose key was shown, a tenant's or an administrator's. Raises as `caller` does; any path will do."""
        owner = self._owner(request)
        if owner is None:
            raise Unauthenticated("The API key is not known, or none was given.")
        _check_network(owner.scope, request)
        return owner

    def is_admin(self, request: Request) -> bool:
        """Whether an admin key was shown, whatever its role."""
        owner = self._owner(request)
        return owner is not None and owner.role is not None and _from_here(owner.scope, request)

    def require(self, request: Request, role: Role) -> Actor:
        """
        Who asks, by an admin key that has `role` or a higher one.

        Raises `Unauthenticated` where no admin key was shown, `InsufficientRole` where its role is too low.
        """
        owner = self._owner(request)
        if owner is None or owner.role is None:
            raise Unauthenticated("This path needs an admin key: 'Authorization: Bearer KEY'.")
        _check_network(owner.scope, request)
        if not owner.role.covers(role):
            raise InsufficientRole(f"This needs an admin key with the role {role}; this one has {owner.role}.")
        return Actor(f"admin key {owner.tag}", owner.role)

    def needs(self, role: Role) -> Callable[[Request], Actor]:
        """A dependency of FastAPI that is `require` with `role`."""

        def actor(request: Request) -> Actor:
            return self.require(request, role)

        return actor

    def _owner(self, request: Request) -> KeyOwner | None:
        given = request.headers.get("authorization")
        if given is None or given[:7].lower() != "bearer ":
            return None
        return self._keys.owner(given[7:].strip().encode("latin-1"))


def _check_network(scope: KeyScope, request: Request) -> None:
    if not _from_here(scope, request):
        raise KeyOutOfScope("This key may not be used from your network.")


def _from_here(scope: KeyScope, request: Request) -> bool:
    """Whether the address that the client called from is one that the key may be used from."""
    if scope.networks is None:
        return True
    try:
        peer = ipaddress.ip_address(request.headers.get(Name.PEER, ""))
    except ValueError:
        return False
    if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return any(peer in ipaddress.ip_network(network) for network in scope.networks)


def _check_path(scope: KeyScope, path: str) -> None:
    if scope.endpoints is None:
        return
    if not any(path == endpoint or path.startswith(f"{endpoint}/") for endpoint in scope.endpoints):
        raise KeyOutOfScope("This key is limited to other paths.")
