"""Whose a key is, as the admin process sees it: the configuration's keys and those in the database.

Beneath `access.py`, which says what the holder may do. The data plane has a copy of all keys; a process that is
asked now and then looks into the database instead and remembers the answer for a moment, so that a key which is
revoked opens nothing soon after. While the database is away, what was remembered holds as long as the routers' copy
would.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from time import monotonic, time
from typing import NamedTuple

from pydantic import ValidationError

from pointsman.contracts.config import Config
from pointsman.contracts.errors import DatabaseUnavailable
from pointsman.contracts.keys import KeyScope, Role
from pointsman.contracts.tenants import is_well_formed
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.store.keys import KeyStore, decoded_scope
from pointsman.store.tenants import TenantStore, decoded_tenant

FRESH = 1.0
"""Seconds for which what the database said of a key is not asked again."""

MOST = 10_000
"""Keys that are remembered."""


class KeyOwner(NamedTuple):
    """
    Who holds a key: a tenant, which may ask for `models`, or an administrator, who has a `role`.

    `tag`: the first eight hexadecimal digits of the key's digest. `expires_at`: milliseconds since 1970.
    """

    tag: str
    tenant: str | None
    models: frozenset[str]
    role: Role | None
    scope: KeyScope
    expires_at: int | None = None


class KeyRing:
    """All keys there are. Safe to share between threads."""

    def __init__(self, config: Config, pools: PoolDirectory, keys: KeyStore, tenants: TenantStore) -> None:
        self._keys = keys
        self._tenants = tenants
        self._pools = pools
        self._configured = {tenant.name: tenant.models for tenant in config.tenants}
        self._patience = config.router.max_snapshot_age
        self._of_file = {
            digest: KeyOwner(digest[:8], tenant.name, frozenset(), None, KeyScope())
            for tenant in config.tenants
            for digest in tenant.key_digests
        }
        self._of_file |= {
            digest: KeyOwner(digest[:8], None, frozenset(), Role.OWNER, KeyScope())
            for digest in config.router.admin_key_digests
        }
        self._remembered: OrderedDict[str, tuple[float, KeyOwner]] = OrderedDict()
        self._lock = threading.Lock()

    def owner(self, key: bytes) -> KeyOwner | None:
        """Whose `key` is; None: nobody's. Raises `DatabaseUnavailable` where that can't be told now."""
        digest = hashlib.sha256(key).hexdigest()
        found = self._of_file.get(digest)
        if found is not None and found.tenant is not None:
            found = found._replace(models=self._models(self._configured[found.tenant]))
        if found is None and is_well_formed(key.decode("latin-1")):
            found = self._of_database(digest)
        if found is not None and found.expires_at is not None and found.expires_at <= time() * 1000:
            return None
        return found

    def forget(self) -> None:
        """Ask the database about every key again: one of them has changed."""
        with self._lock:
            self._remembered.clear()

    def _of_database(self, digest: str) -> KeyOwner | None:
        now = monotonic()
        with self._lock:
            known = self._remembered.get(digest)
        if known is not None and now - known[0] < FRESH:
            return known[1]
        try:
            owner = self._asked(digest)
        except DatabaseUnavailable:
            if known is not None and now - known[0] < self._patience:
                return known[1]
            raise
        with self._lock:
            self._remembered.pop(digest, None)
            if owner is not None:
                self._remembered[digest] = (now, owner)
            if len(self._remembered) > MOST:
                self._remembered.popitem(last=False)
        return owner

    def _asked(self, digest: str) -> KeyOwner | None:
        row = self._keys.find(digest)
        if row is None or row.revoked_at is not None:
            return None
        scope = decoded_scope(row.scope)
        if row.tenant is None:
            assert row.role is not None
            return KeyOwner(digest[:8], None, frozenset(), Role(row.role), scope, row.expires_at)
        models = self._models_of(row.tenant)
        if models is None:
            return None
        if scope.models is not None:
            models &= frozenset(scope.models)
        return KeyOwner(digest[:8], row.tenant, models, None, scope, row.expires_at)

    def _models_of(self, name: str) -> frozenset[str] | None:
        """The models that tenant `name` may ask for; None where there is no such tenant."""
        if name in self._configured:
            return self._models(self._configured[name])
        row = self._tenants.get(name)
        if row is None or row.document is None:
            return None
        try:
            return self._models(decoded_tenant(row.document).models)
        except ValidationError:
            return None  # written by a later release

    def _models(self, named: tuple[str, ...] | None) -> frozenset[str]:
        models = self._pools.models
        return models if named is None else models & frozenset(named)
