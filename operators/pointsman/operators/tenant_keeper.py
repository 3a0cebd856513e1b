"""A Tenant's place at the admin API: made, changed, taken over, taken away.

Separate from `tenants.py`, which says when; here is how. The admin API remembers of which object a tenant was
made, and lets no other object change it, nor have its name back once it was deleted: bills and cached answers go by
names.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import orjson

from pointsman.operators.admin_client import (
    MANAGER,
    AdminApi,
    AdminNotFound,
    AdminRefused,
    AdminStale,
    ManagedElsewhere,
    below,
)
from pointsman.operators.documents import TenantObject, spec_path
from pointsman.operators.mirror import Mirror, TenantState, digest_of, tenant_state
from pointsman.operators.objects import Ref
from pointsman.operators.telling import Told

log = logging.getLogger(__name__)

_TRIES = 4


class TenantKeeper:
    """Settles tenants. What is away is raised (`AdminUnavailable`), what is refused is told."""

    def __init__(self, admin: AdminApi, mirror: Mirror) -> None:
        self._admin = admin
        self._mirror = mirror
        self._sent: dict[str, tuple[str, int]] = {}

    async def settle(self, tenant: TenantObject, *, adopt: str | None, told: Told) -> TenantState | None:
        """
        Make the tenant at the admin API what the object says; None where it is not the object's.

        `adopt`: the manager from whom it may be taken over. Whether it is so now goes to `told` as `Synced`.
        """
        try:
            state = await self._settle(tenant, adopt)
        except ManagedElsewhere as error:
            told.add("Synced", False, "ManagedElsewhere", str(error))
        except AdminRefused as error:
            if error.code == "already_exists":
                told.add("Synced", False, "NameTaken", f"the name {tenant.name} belongs to another one: {error}")
            else:
                where = "" if error.param is None else f"{spec_path(TenantObject, error.param)}: "
                told.add("Synced", False, "Refused", f"{where}{error}")
        else:
            late = "" if state.live else "kept, but routers can't be told yet"
            told.add("Synced", state.live, "Synced" if state.live else "NotLive", late)
            return state
        known = self._mirror.tenants.get(tenant.name)
        return known if known is not None and known.origin == str(ref_of_tenant(tenant)) else None

    async def delete(self, name: str, origin: str) -> None:
        """Take away the tenant `name`, which was made of the object `origin`."""
        with contextlib.suppress(AdminNotFound, ManagedElsewhere):
            params = {"manager": MANAGER, "origin": origin}
            await self._admin.ask("DELETE", below("/tenants", name), params=params)
            log.info("tenant %s deleted: %s is gone", name, origin)
        self._mirror.drop(name)
        self._sent.pop(name, None)

    async def _settle(self, tenant: TenantObject, adopt: str | None) -> TenantState:
        name, origin = tenant.name, str(ref_of_tenant(tenant))
        document = _document(tenant)
        digest = digest_of(document)
        known = self._mirror.tenants.get(name)
        if known is not None and not known.live:
            known, _ = await self._look(name)
        take_from = None
        for _ in range(_TRIES):
            if known is not None and known.origin == origin and self._is_as_sent(name, known, digest):
                return known
            try:
                answer = await self._admin.ask(
                    "PUT",
                    below("/tenants", name),
                    json=document,
                    params={"manager": MANAGER, "origin": origin, "revive": True, "take_from": take_from},
                    if_match=None if known is None else known.version,
                )
            except AdminStale:
                known, _ = await self._look(name)
                continue
            except ManagedElsewhere:
                if adopt is None or take_from is not None:
                    raise
                known, keeper = await self._look(name)
                if keeper != adopt:
                    raise
                take_from = adopt
                continue
            known = tenant_state(answer.body)
            self._mirror.put_tenant(name, known)
            self._sent[name] = (digest, known.version)
            return known
        raise AdminRefused(412, "precondition_failed", None, "somebody else changes this tenant all the time")

    def _is_as_sent(self, name: str, known: TenantState, digest: str) -> bool:
        """Whether the tenant is as it should be; or as the admin API made it of what it should be."""
        return known.document == digest or self._sent.get(name) == (digest, known.version)

    async def _look(self, name: str) -> tuple[TenantState | None, str | None]:
        """The tenant `name` as it is now, and who looks after it; None where there is none."""
        try:
            answer = await self._admin.ask("GET", below("/tenants", name))
        except AdminNotFound:
            self._mirror.drop(name)
            return None, None
        state = tenant_state(answer.body)
        if answer.body["managed_by"] == MANAGER:
            self._mirror.put_tenant(name, state)
        return state, answer.body["managed_by"]


def ref_of_tenant(tenant: TenantObject) -> Ref:
    """Where the Tenant stands."""
    return Ref(tenant.meta.namespace, tenant.meta.name)


def _document(tenant: TenantObject) -> dict[str, Any]:
    """The tenant as the admin API takes it: keys and policy go other ways."""
    text = tenant.tenant.model_dump_json(exclude_unset=True, exclude={"key_digests", "policy", "candidate"})
    document: dict[str, Any] = orjson.loads(text)
    return document
