"""The keys that the admin API has made, and every way in which one is made, rotated or revoked.

Stands between the pages and the store. The key itself passes through here once, on its way to whoever asked for it:
only its digest stays. Needs no event loop: all of it may be called from any thread.
"""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from pointsman.contracts.config import Config
from pointsman.contracts.errors import (
    AlreadyExists,
    InvalidRequest,
    KeyEnded,
    KeyNotFound,
    PreconditionFailed,
    TenantNotFound,
)
from pointsman.contracts.keys import KeyScope, Role
from pointsman.contracts.tenants import key_digest, new_key
from pointsman.router.admin.live_tenants import LiveTenants
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.router.admin.tenant_projector import TenantProjector
from pointsman.store.keys import MOST_LIVE, KeyConflict, KeyKnown, KeyRow, KeyStore, TooManyKeys

log = logging.getLogger(__name__)

LONGEST = 10 * 365 * 86_400
"""Seconds for which a key can be made at most."""


class MadeKey(NamedTuple):
    """
    A new key, which is shown this once; its row; and the row of the one it replaces. No key where its owner has it
    already.
    """

    key: str | None
    row: KeyRow
    replaced: KeyRow | None


class LiveKeys:
    """All keys of the API. What touches the database raises `DatabaseUnavailable`, what names one `KeyNotFound`."""

    def __init__(
        self,
        config: Config,
        pools: PoolDirectory,
        store: KeyStore,
        tenants: LiveTenants,
        projector: TenantProjector,
    ) -> None:
        self._pools = pools
        self._of_file = {digest for tenant in config.tenants for digest in tenant.key_digests}
        self._of_file.update(config.router.admin_key_digests)
        self._store = store
        self._tenants = tenants
        self._projector = projector

    def page(
        self,
        *,
        limit: int,
        after: str | None,
        tenant: str | None = None,
        admin: bool | None = None,
        live: bool = False,
    ) -> list[KeyRow]:
        """The first `limit` keys by id that follow the id `after`, of those that the rest describes."""
        return self._store.page(limit=limit, after=after, tenant=tenant, admin=admin, live=live)

    def get(self, identity: str) -> KeyRow:
        """The key with this id."""
        row = self._store.get(identity)
        if row is None:
            raise KeyNotFound("There is no key with this id.")
        return row

    def create(
        self,
        *,
        tenant: str | None,
        role: Role | None,
        label: str,
        scope: KeyScope,
        expires_at: int | None,
        by: str,
        digest: str | None = None,
    ) -> MadeKey:
        """
        A new key of `tenant`, or with `role` an admin key. `expires_at`: milliseconds since 1970, None: it doesn't.

        `digest`: the SHA-256 of a key that a tenant has already, which is to open what this one would; nothing is
        shown then. Raises `InvalidRequest` that names the field at fault, `TenantNotFound`, `AlreadyExists`.
        """
        self._check(tenant, role, scope)
        if digest is not None and (tenant is None or digest in self._of_file):
            raise _invalid("digest", "is that of a key of the configuration file" if tenant else "is for tenants")
        if tenant is not None:
            self._tenants.require(tenant)
        _check_end(expires_at)
        key = None if digest is not None else new_key()
        try:
            row = self._store.create(
                digest or key_digest(key or ""),
                tenant=tenant,
                role=role,
                label=label,
                scope=scope,
                expires_at=expires_at,
                by=by,
            )
        except KeyKnown:
            raise AlreadyExists("There is, or was, a key of this digest.", param="digest") from None
        except KeyConflict:
            raise TenantNotFound("There is no tenant of this name any more.") from None
        except TooManyKeys:
            raise _too_many() from None
        log.info("%s of %s made by %s", row.id, tenant or role, by)
        self._publish(row)
        return MadeKey(key, row, None)

    def rotate(
        self, identity: str, *, overlap: int, expires_at: int | None, by: str, scope: KeyScope | None = None
    ) -> MadeKey:
        """
        A new key that opens what the key `identity` does, or `scope` where one is given; that key ends in `overlap`
        seconds.

        `expires_at` (milliseconds since 1970) is the new one's end; None: it is good for as long as the old one was
        made for. Raises `KeyEnded` where that one was revoked, has expired or was rotated already.
        """
        now = int(time.time() * 1000)
        old = self.get(identity)
        if old.replaced_by is not None:
            raise KeyEnded(f"This key was rotated already: {old.replaced_by} has taken its place.")
        if not old.opens(now):
            raise KeyEnded("This key was revoked or has expired: make a new one.")
        if scope is not None:
            self._check(old.tenant, None if old.role is None else Role(old.role), scope)
        if expires_at is None and old.expires_at is not None:
            expires_at = now + (old.expires_at - old.created_at)
        _check_end(expires_at)
        key = new_key()
        try:
            row, replaced = self._store.rotate(
                old, key_digest(key), until=now + overlap * 1000, expires_at=expires_at, by=by, scope=scope
            )
        except KeyConflict:
            raise KeyEnded("Somebody else has just rotated or revoked this key.") from None
        except TooManyKeys:
            raise _too_many() from None
        log.info("%s rotated by %s: %s takes its place", old.id, by, row.id)
        self._publish(row)
        return MadeKey(key, row, replaced)

    def revoke(self, identity: str, *, expected: int | None, by: str) -> KeyRow:
        """
        The key `identity` without its powers, which routers know a moment later; nothing happens where it has none.

        `expected`: the version that the caller has seen. Raises `PreconditionFailed` where it is another one.
        """
        for _ in range(2):  # a key can change once more at most before it ends: when it is rotated
            row = self.get(identity)
            if expected is not None and expected != row.version:
                raise PreconditionFailed("This key has been changed since its ETag was read: look at it again.")
            if row.revoked_at is not None:
                return row
            try:
                revoked = self._store.revoke(row, by=by)
            except KeyConflict:
                continue
            log.info("%s revoked by %s", row.id, by)
            self._publish(row)
            return revoked
        raise PreconditionFailed("Somebody else is just changing this key: try again.")

    def live(self) -> bool:
        """Whether all changes are where routers read them."""
        return self._projector.live

    def _publish(self, row: KeyRow) -> None:
        if row.tenant is None:
            self._projector.publish_admin_keys()
        else:
            self._projector.publish(row.tenant)

    def _check(self, tenant: str | None, role: Role | None, scope: KeyScope) -> None:
        if (tenant is None) == (role is None):
            raise _invalid("tenant", "a key is either a tenant's or, with a role, an administrator's: give one")
        if role is not None:
            for field in ("models", "modes", "endpoints"):
                if getattr(scope, field) is not None:
                    raise _invalid(field, "limits keys of tenants; what an admin key opens, its role says")
        for position, model in enumerate(scope.models or ()):
            if model not in self._pools.models:
                raise _invalid(f"models[{position}]", f"no pool answers the model {model!r}")


def _check_end(expires_at: int | None) -> None:
    if expires_at is None:
        return
    now = int(time.time() * 1000)
    if expires_at <= now:
        raise _invalid("expires_at", "lies in the past")
    if expires_at > now + LONGEST * 1000:
        raise _invalid("expires_at", f"lies more than {LONGEST // 86_400:,} days ahead")


def _too_many() -> InvalidRequest:
    return InvalidRequest(
        f"There are {MOST_LIVE:,} keys already that are good: revoke those that nobody uses.", code="too_many_keys"
    )


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}.", param=field, code="invalid_value")
