"""The tenants that there are, and every way in which one of them is made, changed or deleted.

Stands between the pages and the places where tenants are kept: those of the configuration file, which the API shows
and never changes, and those in the database, which it does. Needs no event loop: all of it may be called from any
thread.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from dataclasses import dataclass

from pydantic import ValidationError

from pointsman.contracts.config import Config, Tenant
from pointsman.contracts.errors import (
    AlreadyExists,
    InvalidRequest,
    ManagedElsewhere,
    PreconditionFailed,
    PreconditionRequired,
    TenantNotFound,
)
from pointsman.router.admin.live_policies import LivePolicies
from pointsman.router.admin.live_predictors import LivePredictors
from pointsman.router.admin.managers import FILE
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.router.admin.tenant_projector import TenantProjector
from pointsman.store.keys import KeyStore
from pointsman.store.tenants import TenantConflict, TenantRow, TenantStore, decoded_tenant

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PresentTenant:
    """
    A tenant as it is. `version` is 0 where it is the configuration's, and `written` None; `keys` counts those made
    by the API that open anything; `live`: whether it is where routers read it.
    """

    tenant: Tenant
    version: int
    managed_by: str
    written: TenantRow | None
    keys: int
    live: bool


class LiveTenants:
    """All tenants. What touches the database raises `DatabaseUnavailable`, what names a tenant `TenantNotFound`."""

    def __init__(
        self,
        config: Config,
        store: TenantStore,
        keys: KeyStore,
        projector: TenantProjector,
        policies: LivePolicies,
        pools: PoolDirectory,
        predictors: LivePredictors,
    ) -> None:
        self._configured = {tenant.name: tenant for tenant in sorted(config.tenants, key=lambda one: one.name)}
        self._names = list(self._configured)
        self._pools = pools
        self._predictors = predictors
        self._store = store
        self._keys = keys
        self._projector = projector
        self._policies = policies

    def page(
        self, *, limit: int, after: str | None, prefix: str = "", managed_by: str | None = None
    ) -> list[PresentTenant]:
        """The first `limit` tenants by name that follow the name `after`, of those that the rest describes."""
        rows: list[TenantRow] = []
        if managed_by != FILE:
            # More of them: the file's tenants go before those of the same name.
            most = limit + len(self._configured)
            rows = self._store.page(limit=most, after=after, prefix=prefix, managed_by=managed_by)
        start = 0 if after is None else bisect_right(self._names, after)
        of_file = (
            [name for name in self._names[start:] if name.startswith(prefix)] if managed_by in (None, FILE) else []
        )
        made = {row.name: row for row in rows if row.name not in self._configured}
        names = sorted([*made, *of_file])[:limit]
        counts = self._keys.live_counts(names)
        return [self._present(name, made.get(name), counts.get(name, 0)) for name in names]

    def present(self, name: str) -> PresentTenant:
        """The tenant `name`."""
        row = None if name in self._configured else self._row(name)
        return self._present(name, row, self._keys.live_counts([name]).get(name, 0))

    def require(self, name: str) -> None:
        """Raises `TenantNotFound` where there is no tenant `name`."""
        if name not in self._configured:
            self._row(name)

    def create(self, tenant: Tenant, *, manager: str, by: str) -> PresentTenant:
        """Let there be `tenant`. Raises `AlreadyExists` where its name is or was taken."""
        self._check(tenant)
        if tenant.name in self._configured:
            raise AlreadyExists("The configuration file has a tenant of this name.", param="name")
        return self._write(tenant.name, tenant, after=0, manager=manager, by=by, new=True)

    def put(
        self,
        tenant: Tenant,
        *,
        expected: int | None,
        manager: str,
        by: str,
        origin: str | None = None,
        take_from: str | None = None,
        revive: bool = False,
    ) -> PresentTenant:
        """
        Let the tenant of that name be `tenant`, or a new one.

        `expected` is the version that the writer has seen. Raises `PreconditionFailed` where it is another one by
        now, `PreconditionRequired` where the writer says nothing of one that exists, `ManagedElsewhere` where
        `manager` is not who looks after it, or where it was made of another of his objects than `origin`.
        `take_from`: the manager who gives it up. One that was deleted comes back where its last version is
        expected, or with `revive` where it was this manager's and made of this `origin`.
        """
        self._check(tenant)
        row = self._changeable(tenant.name, manager, origin, take_from)
        if (
            row is not None
            and row.document is None
            and revive
            and (row.managed_by, row.origin) == (manager, origin)
        ):
            expected = row.version
        if row is None or (row.document is None and expected is None):
            if expected:
                raise PreconditionFailed("There is no such tenant any more, or there never was.")
            return self._write(tenant.name, tenant, after=0, manager=manager, by=by, origin=origin, new=True)
        _as_expected(row, expected)
        return self._write(tenant.name, tenant, after=row.version, manager=manager, by=by, origin=origin)

    def delete(self, name: str, *, expected: int | None, manager: str, by: str, origin: str | None = None) -> None:
        """
        Delete the tenant `name`, with its keys and its policy. `expected`, `origin`: as in `put`; `expected` may be
        left out.
        """
        row = self._changeable(name, manager, origin)
        if row is None or row.document is None:
            raise TenantNotFound("There is no tenant of this name.")
        if expected is not None:
            _as_expected(row, expected)
        self._write(name, None, after=row.version, manager=manager, by=by, origin=row.origin)
        self._policies.withdrawn(name)

    def _write(
        self,
        name: str,
        tenant: Tenant | None,
        *,
        after: int,
        manager: str,
        by: str,
        origin: str | None = None,
        new: bool = False,
    ) -> PresentTenant:
        try:
            row = self._store.write(name, tenant, after=after, by=by, managed_by=manager, origin=origin)
        except TenantConflict:
            if not new:
                raise PreconditionFailed("Somebody else has just changed this tenant: look at it again.") from None
            there = self._store.get(name)
            if there is not None and there.document is None:
                raise AlreadyExists(
                    f"There was a tenant of this name, and bills go by names. To have that one back, PUT it with "
                    f'If-Match: "{there.version}".',
                    param="name",
                ) from None
            raise AlreadyExists("There is a tenant of this name.", param="name") from None
        log.info("tenant %s: version %d by %s", name, row.version, by)
        self._policies.made_anew(name)
        self._projector.publish(name)
        return self._present(name, row, 0 if tenant is None else self._keys.live_counts([name]).get(name, 0))

    def _changeable(
        self, name: str, manager: str, origin: str | None, take_from: str | None = None
    ) -> TenantRow | None:
        """The tenant `name` in the database, which `manager` may change, deleted ones too."""
        if name in self._configured:
            raise ManagedElsewhere("This tenant stands in the configuration file: change it there.")
        row = self._store.get(name)
        if row is None or row.document is None or row.managed_by == take_from != manager:
            return row
        if row.managed_by != manager:
            raise ManagedElsewhere(
                f"This tenant is managed by {row.managed_by}: change it there, or say ?manager={row.managed_by}."
            )
        if row.origin not in (None, origin):
            raise ManagedElsewhere(f"This tenant was made of {row.origin}: change it there.")
        return row

    def _row(self, name: str) -> TenantRow:
        row = self._store.get(name)
        if row is None or row.document is None:
            raise TenantNotFound("There is no tenant of this name.")
        return row

    def _present(self, name: str, row: TenantRow | None, keys: int) -> PresentTenant:
        if row is None:
            return PresentTenant(self._configured[name], 0, FILE, None, keys, True)
        return PresentTenant(_read(row), row.version, row.managed_by, row, keys, self._projector.live)

    def _check(self, tenant: Tenant) -> None:
        """Raises `InvalidRequest` where a model of `tenant` is none, or its policy's predictor."""
        self._predictors.check(tenant.policy, tenant.candidate)
        for position, model in enumerate(tenant.models or ()):
            if model not in self._pools.models:
                raise InvalidRequest(
                    f"models[{position}]: no pool answers the model {model!r}.",
                    param=f"models[{position}]",
                    code="invalid_value",
                )


def _as_expected(row: TenantRow, expected: int | None) -> None:
    if expected is None:
        raise PreconditionRequired(
            f"This tenant exists, as version {row.version}: name its ETag in the header If-Match."
        )
    if expected != row.version:
        raise PreconditionFailed("This tenant has been changed since its ETag was read: look at it again.")


def _read(row: TenantRow) -> Tenant:
    """The tenant in a row; its name alone where it was deleted, or where a later release wrote it."""
    if row.document is not None:
        try:
            return decoded_tenant(row.document)
        except ValidationError:
            log.error("version %d of the tenant %s can't be read", row.version, row.name)
    return Tenant(name=row.name)
