"""All tenants and keys that this process knows: those of the configuration, and those that the admin API has made.

Stands between the two and the steps; `tenant_watch.py` keeps it as Redis is. With a hundred thousand tenants only
what is needed to find the owner of a key is made at the start, the rest when the key is shown for the first time.
Touches no store and no clock. The admin process, which is asked now and then, looks into the database instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from weakref import WeakValueDictionary

import orjson
from pydantic import ValidationError

from pointsman.contracts.config import Config, Pool, Tenant
from pointsman.contracts.errors import Unauthenticated
from pointsman.contracts.keys import Role
from pointsman.contracts.tenants import is_well_formed
from pointsman.router.key_scope import Scope, scope_of
from pointsman.router.policies import TenantPolicy
from pointsman.router.tenant_view import AllowedModels, TenantView, Terms, compile_terms, models_of, view_of
from pointsman.store.tenant_projection import OF_FILE, TenantEntry, tenant_entry

log = logging.getLogger(__name__)

MAX_KINDS = 10_000
"""Different terms that are remembered to be shared; with more, all are forgotten and learnt anew."""


class Key(NamedTuple):
    """A key in use: whose it is, and what it is limited to, if to anything."""

    tenant: TenantView
    scope: Scope | None


class Tenants:
    """
    The tenants of `config`, and those that `take` was told of.

    `keys`: those in use, by their digests (32 bytes); who misses one calls `show`. `views`: the tenants in use, by
    name. `admins`: the admin keys' roles, by their digests. `policy_of` says which policy the admin API has set for
    a tenant that comes into use. `stale`: nothing was heard for so long that keys may have been revoked; nobody is
    to be let in.
    """

    def __init__(self, config: Config) -> None:
        self.keys: dict[bytes, Key] = {}
        self.views: dict[str, TenantView] = {}
        self._listeners: list[Callable[[TenantView], None]] = []
        self.policy_of: Callable[[str], TenantPolicy | None] = lambda name: None
        self.stale = False
        self._models = models_of(config.pools)
        self._limited: WeakValueDictionary[int, AllowedModels] = WeakValueDictionary()
        self._entries: dict[str, bytes] = {}
        self._owners: dict[bytes, str] = {}
        self._kinds: dict[bytes, Terms] = {}
        for tenant in config.tenants:
            view = self.views[tenant.name] = view_of(tenant.name, self._terms(tenant))
            self.keys.update((bytes.fromhex(digest), Key(view, None)) for digest in tenant.key_digests)
        self._configured = frozenset(self.views)
        self._configured_keys = frozenset(self.keys)
        self._owners_of_file = {bytes.fromhex(digest): Role.OWNER for digest in config.router.admin_key_digests}
        self.admins: dict[bytes, Role] = dict(self._owners_of_file)

    def serve(self, pools: Iterable[Pool]) -> None:
        """Let `pools` be all there are: each tenant may ask for the models that they answer, if for any."""
        models = models_of(pools, self._models)
        if models == self._models:
            return
        self._models.clear()
        self._models.update(models)
        for allowed in list(self._limited.values()):
            allowed.renew(models)

    def show(self, key: bytes, digest: bytes) -> Key:
        """
        The key that a caller has shown, and its digest.

        Raises `Unauthenticated` where it is misspelled, which nothing needs to be looked up for, or nobody has it.
        """
        found = self.keys.get(digest)
        if found is None:
            if not is_well_formed(key.decode("latin-1")):
                raise Unauthenticated("The API key is misspelled: its form or its checksum is wrong.")
            found = self._in_use(digest)
            if found is None:
                raise Unauthenticated("The API key is not known.")
        return found

    def named(self, name: str) -> TenantView | None:
        """The tenant `name`; None where there is none, or where this release can't read its document."""
        view = self.views.get(name)
        if view is None:
            entry = self._entries.get(name)
            if entry is not None:
                view = self._view(name, tenant_entry(entry))
        return view

    def any_made(self) -> bool:
        """Whether `take` was told of anybody."""
        return bool(self._entries)

    def entries(self) -> list[tuple[str, bytes]]:
        """What `take` was told, by name: what is to be known again after a restart."""
        return list(self._entries.items())

    def take(self, name: str, entry: bytes | None, *, anew: bool = False) -> bool:
        """
        Let `entry` hold for the tenant `name` (None: there is none any more); whether that was anything new.

        One that is older than what is known is left out, unless everything was written `anew`. One that can't be
        read is logged, and what is known holds on.
        """
        held = self._entries.get(name)
        if entry == held:
            return False
        try:
            new = _NOTHING if entry is None else tenant_entry(entry)
        except ValueError:
            log.error("the tenant %s can't be read: what is known of it holds on", name)
            return False
        if held is not None:
            old = tenant_entry(held)
            if new.version < old.version and not anew and entry is not None:
                return False
            self._forget_keys(name, old)
        if entry is None:
            del self._entries[name]
        else:
            self._entries[name] = entry
        if new.tenant is not None and (new.tenant != OF_FILE or name in self._configured):
            for key in new.keys:
                self._owners.setdefault(key.digest, name)
        self._refresh(name, new)
        return True

    def take_admins(self, roles: Mapping[bytes, Role]) -> None:
        """Let these be the admin keys that the admin API has made."""
        self.admins = {**roles, **self._owners_of_file}

    def listen(self, listener: Callable[[TenantView], None]) -> None:
        """Tell `listener` of every view in use now, and of each that is new, changed or gone from now on."""
        for view in self.views.values():
            listener(view)
        self._listeners.append(listener)

    def tell(self, view: TenantView) -> None:
        """Tell the listeners that `view` has changed."""
        for listener in self._listeners:
            listener(view)

    def _in_use(self, digest: bytes) -> Key | None:
        """Put the key with `digest`, and its tenant, into use; None where nobody has it."""
        name = self._owners.get(digest)
        if name is None:
            return None
        entry = tenant_entry(self._entries[name])
        view = self.views.get(name) or self._view(name, entry)
        if view is None:
            return None
        for key in entry.keys:
            if key.digest == digest:
                try:
                    found = self.keys[digest] = Key(view, scope_of(key))
                except (ValueError, TypeError):
                    log.error("a key of the tenant %s can't be read: it opens nothing", name)
                    return None
                return found
        return None

    def _view(self, name: str, entry: TenantEntry) -> TenantView | None:
        """Put the tenant `name` into use; None where it has no document, or one that can't be read."""
        terms = self._terms_in(name, entry)
        if terms is None:
            return None
        view = view_of(name, terms)
        policy = self.policy_of(name)
        if policy is not None:
            view.policy = policy
        self.views[name] = view
        self.tell(view)
        return view

    def _refresh(self, name: str, entry: TenantEntry) -> None:
        """Bring the view of `name`, if it is in use, to what `entry` says."""
        view = self.views.get(name)
        if view is None or name in self._configured:
            return
        if isinstance(entry.tenant, dict):
            terms = self._terms_in(name, entry)
            if terms is not None:
                view.adopt(terms)
        else:
            del self.views[name]
            view.gone = True
        self.tell(view)

    def _forget_keys(self, name: str, entry: TenantEntry) -> None:
        for key in entry.keys:
            if self._owners.get(key.digest) == name:
                del self._owners[key.digest]
                if key.digest not in self._configured_keys:
                    self.keys.pop(key.digest, None)

    def _terms_in(self, name: str, entry: TenantEntry) -> Terms | None:
        if not isinstance(entry.tenant, dict):
            return None
        document = {**entry.tenant, "name": ANYBODY}
        kind = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        terms = self._kinds.get(kind)
        if terms is None:
            try:
                tenant = Tenant.model_validate(document)
            except ValidationError:  # whose message would hold what the document says
                log.error("the tenant %s can't be read: what is known of it holds on", name)
                return None
            terms = self._remember(kind, compile_terms(tenant, self._models))
        return terms

    def _terms(self, tenant: Tenant) -> Terms:
        """The terms of a tenant of the configuration."""
        kind = tenant.model_dump_json(exclude={"name", "key_digests"}).encode()
        return self._kinds.get(kind) or self._remember(kind, compile_terms(tenant, self._models))

    def _remember(self, kind: bytes, terms: Terms) -> Terms:
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = terms
        if isinstance(terms.models, AllowedModels):
            self._limited[id(terms.models)] = terms.models
        return terms


ANYBODY = "anybody"
"""The name that terms are compiled under: they are no one tenant's."""

_NOTHING = TenantEntry(0, None, ())
