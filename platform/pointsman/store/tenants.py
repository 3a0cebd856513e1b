"""Tenants that were made while the platform runs: the truth, of which routers read the copy in Redis.

One row for each tenant, whose version grows by one with each change; who wrote what stands in the audit log. A row
is never taken away: bills, decisions and cached answers go by a tenant's name, so that of one that was deleted
stays taken.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from pointsman.contracts.config import Tenant
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database
from pointsman.store.keys import revoke_all
from pointsman.store.policies import withdraw
from pointsman.store.tenant_changes import mark, tenants


class TenantConflict(Exception):
    """The tenant has another version by now than the writer thought; nothing was written."""


@dataclass(frozen=True, slots=True)
class TenantRow:
    """
    A tenant as it was last written. `document`: its JSON with the fields that were set, without keys; None: it was
    deleted. `managed_by`: who alone may change it; `origin`: of which of his objects it was made, where he says so.
    Times in milliseconds since 1970.
    """

    name: str
    version: int
    document: str | None
    managed_by: str
    created_at: int
    updated_at: int
    updated_by: str
    origin: str | None = None


def encoded_tenant(tenant: Tenant) -> str:
    """`tenant` as it is kept: without its keys, fields at their default only where they were set."""
    return tenant.model_dump_json(exclude_unset=True, exclude={"key_digests"})


def decoded_tenant(document: str | bytes) -> Tenant:
    """What `encoded_tenant` made of a tenant. Raises pydantic's `ValidationError` where the schema refuses it."""
    return Tenant.model_validate_json(document)


class TenantStore:
    """Reads and writes tenants. Every method raises `DatabaseUnavailable` where the database fails."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def get(self, name: str) -> TenantRow | None:
        """The tenant `name`, deleted ones too; None where there never was one."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(tenants).where(tenants.c.name == name)).one_or_none()
        return None if row is None else TenantRow(*row)

    def page(
        self, *, limit: int, after: str | None = None, prefix: str = "", managed_by: str | None = None
    ) -> list[TenantRow]:
        """
        The first `limit` tenants in the order of their names' bytes that follow the name `after`; those that were
        deleted left out. `prefix`: how their names begin.
        """
        name = tenants.c.name
        rows = sa.select(tenants).where(tenants.c.document.is_not(None)).order_by(name).limit(limit)
        if after is not None:
            rows = rows.where(name > after)
        if prefix:
            rows = rows.where(name >= prefix, name < prefix + "\x7f")
        if managed_by is not None:
            rows = rows.where(tenants.c.managed_by == managed_by)
        with self._database.reading() as connection:
            return [TenantRow(*row) for row in connection.execute(rows)]

    def decision_days(self) -> dict[str, int]:
        """For how many days decisions of a tenant are kept, where that is said of it."""
        rows = sa.select(tenants.c.name, tenants.c.document).where(tenants.c.document.contains('"decisions":'))
        days: dict[str, int] = {}
        with self._database.reading() as connection:
            for row in connection.execution_options(yield_per=1000).execute(rows):
                said = orjson.loads(row.document).get("decisions", {}).get("days")
                if isinstance(said, int):
                    days[row.name] = said
        return days

    def write(
        self,
        name: str,
        tenant: Tenant | None,
        *,
        after: int,
        by: str,
        managed_by: str,
        origin: str | None = None,
    ) -> TenantRow:
        """
        The tenant `name` as it follows version `after` (0: it is new), written; None deletes it, revokes its keys
        and takes its policy back.

        Raises `TenantConflict` where `after` is not its version.
        """
        try:
            with self._database.writing() as connection:
                return self._write(
                    connection, name, tenant, after=after, by=by, managed_by=managed_by, origin=origin
                )
        except IntegrityError:  # its policy was changed at that very moment
            raise TenantConflict from None

    def _write(
        self,
        connection: sa.Connection,
        name: str,
        tenant: Tenant | None,
        *,
        after: int,
        by: str,
        managed_by: str,
        origin: str | None,
    ) -> TenantRow:
        now = int(time.time() * 1000)
        document = None if tenant is None else encoded_tenant(tenant)
        mark(connection, name)  # first: other writers wait here, so that what is read now stays so
        row = connection.execute(sa.select(tenants).where(tenants.c.name == name)).one_or_none()
        if (0 if row is None else row.version) != after:
            raise TenantConflict
        created = now if row is None or row.document is None else row.created_at
        written = TenantRow(name, after + 1, document, managed_by, created, now, by, origin)
        values = {column: getattr(written, column) for column in written.__slots__}
        if row is None:
            connection.execute(sa.insert(tenants).values(values))
        else:
            connection.execute(sa.update(tenants).where(tenants.c.name == name).values(values))
        if tenant is None:
            revoke_all(connection, name, at=now)
            withdraw(connection, self._audit, name, by=by, comment="the tenant was deleted")
        before = None if row is None or row.document is None else row.document
        self._audit.record(
            actor=by,
            action="tenants.delete" if tenant is None else "tenants.put" if before else "tenants.create",
            object=f"tenant:{name}",
            before=_summary(before),
            after=_summary(document),
            connection=connection,
        )
        return written


def _summary(document: str | None) -> Any:
    return None if document is None else orjson.loads(document)
