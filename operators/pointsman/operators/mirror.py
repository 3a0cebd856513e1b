"""What the admin API has of the operator's tenants, policies and keys, as it was last seen: small, and by tenant.

Filled page by page, so that ten thousand tenants that are as they should be cost thirty requests and not thirty
thousand. Never the ground for making or revoking anything: whoever finds a difference asks for that one tenant
anew. What was changed while pages were read is kept as the change left it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import orjson

from pointsman.contracts.keys import KeyScope
from pointsman.operators.admin_client import MANAGER, AdminApi

LABEL = f"{MANAGER}/"
"""How the labels of keys begin that the operator looks after; the key's name in the Tenant follows."""

DIGEST_LABEL = f"{LABEL}digest/"
"""How the labels of keys begin that the tenant had before, and of which only the digest is known."""

KEEPER = "pointsman"
"""Who has written a version of a policy that a candidate was sent back by."""

T = TypeVar("T")


class TenantState(NamedTuple):
    """A tenant: its version, a digest of its document, of which object it was made, and whether routers know."""

    version: int
    document: str
    origin: str | None
    live: bool


class PolicyState(NamedTuple):
    """A policy: its version, and the comment and the writer of that version."""

    version: int
    comment: str
    by: str
    live: bool


class KeyState(NamedTuple):
    """A key that opens something, with label and scope; `created_at` in seconds since 1970."""

    id: str
    label: str
    digest: str
    scope: str
    created_at: float
    replaced_by: str | None


class Mirror:
    """Tenants and policies of `MANAGER`, and keys with a `LABEL`. Methods that ask raise `AdminError`."""

    def __init__(self, admin: AdminApi) -> None:
        self._admin = admin
        self.tenants: dict[str, TenantState] = {}
        self.policies: dict[str, PolicyState] = {}
        self.keys: dict[str, tuple[KeyState, ...]] = {}
        self._touched: set[str] | None = None

    async def read_all(self) -> None:
        """See all anew."""
        touched: set[str] = set()
        self._touched = touched
        try:
            tenants = {
                answer["name"]: tenant_state(answer)
                async for page in self._admin.pages("/tenants", {"managed_by": MANAGER})
                for answer in page
            }
            policies = {
                answer["tenant"]: policy_state(answer)
                async for page in self._admin.pages("/policies", {"managed_by": MANAGER})
                for answer in page
            }
            keys: dict[str, list[KeyState]] = {}
            async for page in self._admin.pages("/keys", {"live": True, "admin": False}):
                for answer in page:
                    if answer["label"].startswith(LABEL):
                        keys.setdefault(answer["tenant"], []).append(key_state(answer))
        finally:
            self._touched = None
        _replace(self.tenants, tenants, touched)
        _replace(self.policies, policies, touched)
        _replace(self.keys, {name: tuple(theirs) for name, theirs in keys.items()}, touched)

    def put_tenant(self, name: str, state: TenantState) -> None:
        """The tenant `name` was just seen, or written."""
        self._touch(name)
        self.tenants[name] = state

    def put_policy(self, tenant: str, state: PolicyState | None) -> None:
        """The policy of `tenant` was just seen, or written; None: it has none of ours."""
        self._touch(tenant)
        if state is None:
            self.policies.pop(tenant, None)
        else:
            self.policies[tenant] = state

    async def read_keys(self, tenant: str) -> tuple[KeyState, ...]:
        """The keys of `tenant`, as they are now."""
        found = [
            key_state(answer)
            async for page in self._admin.pages("/keys", {"tenant": tenant, "live": True})
            for answer in page
            if answer["label"].startswith(LABEL)
        ]
        self._touch(tenant)
        self.keys[tenant] = tuple(found)
        return self.keys[tenant]

    def put_key(self, tenant: str, key: KeyState, *, replaces: str | None) -> None:
        """`tenant` has a new key; `replaces`: the id of the one whose place it has taken."""
        self._touch(tenant)
        others = (
            one._replace(replaced_by=key.id) if one.id == replaces else one
            for one in self.keys.get(tenant, ())
            if one.id != key.id
        )
        self.keys[tenant] = (*others, key)

    def drop_key(self, tenant: str, identity: str) -> None:
        """A key of `tenant` opens nothing any more."""
        self._touch(tenant)
        self.keys[tenant] = tuple(one for one in self.keys.get(tenant, ()) if one.id != identity)

    def drop(self, tenant: str) -> None:
        """There is no such tenant of ours any more."""
        self._touch(tenant)
        self.tenants.pop(tenant, None)
        self.policies.pop(tenant, None)
        self.keys.pop(tenant, None)

    def _touch(self, tenant: str) -> None:
        """What is being read of `tenant` may be older than what is known of it now."""
        if self._touched is not None:
            self._touched.add(tenant)


def _replace(known: dict[str, T], found: dict[str, T], touched: set[str]) -> None:
    """Let `known` be what was `found`, but for what was `touched` meanwhile."""
    kept = {name: known[name] for name in touched if name in known}
    for name in touched:
        found.pop(name, None)
    known.clear()
    known.update(found)
    known.update(kept)


def tenant_state(answer: dict[str, Any]) -> TenantState:
    """What the admin API tells of a tenant."""
    return TenantState(answer["version"], digest_of(answer["document"]), answer.get("origin"), answer["live"])


def policy_state(answer: dict[str, Any]) -> PolicyState:
    """What the admin API tells of a policy."""
    return PolicyState(
        answer["version"], answer.get("comment") or "", answer.get("updated_by") or "", answer["live"]
    )


def key_state(answer: dict[str, Any]) -> KeyState:
    """What the admin API tells of a key."""
    return KeyState(
        answer["id"],
        answer["label"],
        answer["digest"],
        scope_text(answer["scope"]),
        datetime.fromisoformat(answer["created_at"]).timestamp(),
        answer.get("replaced_by"),
    )


def scope_text(scope: Any) -> str:
    """A scope in the one form in which scopes are compared."""
    fields = {name: scope.get(name) for name in KeyScope.model_fields if scope.get(name) is not None}
    return KeyScope.model_validate_json(orjson.dumps(fields)).model_dump_json(exclude_none=True)


def digest_of(document: Any) -> str:
    """A few digits that are others for another document."""
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]


def unreplaced(keys: Iterable[KeyState], label: str) -> list[KeyState]:
    """Of `keys` those called `label` whose place no other has taken, oldest first."""
    return sorted(
        (key for key in keys if key.label == label and not key.replaced_by), key=lambda one: one.created_at
    )
