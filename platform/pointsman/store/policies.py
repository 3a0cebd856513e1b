"""Tenants' policies in the database: all versions that ever held; the newest of each tenant is the one that does.

The truth about policies that were not read from the configuration; what the routers read is the copy of it that
`policy_projection.py` keeps in Redis. A version is written once and never changed: two writers who have both read
version 3 both want to write version 4, and the table takes one of them.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from pointsman.contracts.policies import PolicyDocument
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database, metadata
from pointsman.store.policy_projection import PolicyVersion, encoded

API = "api"
"""Who manages a policy where nobody says otherwise."""

policy_versions = sa.Table(
    "policy_versions",
    metadata,
    sa.Column("tenant", sa.String(63), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("document", sa.Text),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("updated_by", sa.String(63), nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("managed_by", sa.String(63), nullable=False, server_default=API),
)


class VersionConflict(Exception):
    """The policy has another version by now than the writer thought; nothing was written."""


def withdraw(connection: sa.Connection, audit: AuditLog, tenant: str, *, by: str, comment: str) -> None:
    """Take the policy of `tenant` back, where there is one, in the transaction of `connection`."""
    newest = (
        sa.select(policy_versions.c.version, policy_versions.c.document)
        .where(policy_versions.c.tenant == tenant)
        .order_by(policy_versions.c.version.desc())
        .limit(1)
    )
    present = connection.execute(newest).one_or_none()
    if present is not None and present.document is not None:
        after = int(present.version)
        _insert(connection, audit, PolicyVersion(tenant, after + 1, None, int(time.time() * 1000), by, comment))


def _insert(connection: sa.Connection, audit: AuditLog, written: PolicyVersion) -> None:
    connection.execute(
        sa.insert(policy_versions).values(
            tenant=written.tenant,
            version=written.version,
            document=written.document,
            updated_at=written.updated_at,
            updated_by=written.updated_by,
            comment=written.comment,
            managed_by=written.managed_by,
        )
    )
    audit.record(
        actor=written.updated_by,
        action="policies.delete" if written.document is None else "policies.put",
        object=f"policy:{written.tenant}",
        before={"version": written.version - 1} if written.version > 1 else None,
        after={"version": written.version, "comment": written.comment},
        connection=connection,
    )


class PolicyStore:
    """Reads and writes versions. Every method raises `DatabaseUnavailable` where the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._audit = AuditLog(database)

    def latest(self, tenant: str) -> PolicyVersion | None:
        """The newest version of `tenant`; None where there never was one."""
        found = self.history(tenant, limit=1)
        return found[0] if found else None

    def all_latest(self) -> dict[str, PolicyVersion]:
        """The newest version of every tenant that ever had one."""
        newest = (
            sa.select(policy_versions.c.tenant, sa.func.max(policy_versions.c.version).label("version"))
            .group_by(policy_versions.c.tenant)
            .subquery()
        )
        rows = sa.select(policy_versions).join(
            newest,
            sa.and_(
                policy_versions.c.tenant == newest.c.tenant,
                policy_versions.c.version == newest.c.version,
            ),
        )
        with self._database.reading() as connection:
            return {row.tenant: PolicyVersion(*row) for row in connection.execute(rows)}

    def versions(self) -> dict[str, int]:
        """The number of the newest version of every tenant that ever had one."""
        newest = sa.select(policy_versions.c.tenant, sa.func.max(policy_versions.c.version)).group_by(
            policy_versions.c.tenant
        )
        with self._database.reading() as connection:
            return {tenant: int(version) for tenant, version in connection.execute(newest)}

    def page(self, *, limit: int, after: str | None = None, managed_by: str | None = None) -> list[PolicyVersion]:
        """
        The newest versions of the first `limit` tenants by name that follow the name `after`, of those that have a
        policy; `managed_by`: only those of this manager.
        """
        newest = (
            sa.select(policy_versions.c.tenant, sa.func.max(policy_versions.c.version).label("version"))
            .group_by(policy_versions.c.tenant)
            .subquery()
        )
        rows = (
            sa.select(policy_versions)
            .join(
                newest,
                sa.and_(
                    policy_versions.c.tenant == newest.c.tenant,
                    policy_versions.c.version == newest.c.version,
                ),
            )
            .where(policy_versions.c.document.is_not(None))
            .order_by(policy_versions.c.tenant)
            .limit(limit)
        )
        if after is not None:
            rows = rows.where(policy_versions.c.tenant > after)
        if managed_by is not None:
            rows = rows.where(policy_versions.c.managed_by == managed_by)
        with self._database.reading() as connection:
            return [PolicyVersion(*row) for row in connection.execute(rows)]

    def history(self, tenant: str, *, limit: int, before: int | None = None) -> list[PolicyVersion]:
        """The newest `limit` versions of `tenant`, newest first; `before`: only those with lower numbers."""
        rows = (
            sa.select(policy_versions)
            .where(policy_versions.c.tenant == tenant)
            .order_by(policy_versions.c.version.desc())
            .limit(limit)
        )
        if before is not None:
            rows = rows.where(policy_versions.c.version < before)
        with self._database.reading() as connection:
            return [PolicyVersion(*row) for row in connection.execute(rows)]

    def write(
        self,
        tenant: str,
        document: PolicyDocument | None,
        *,
        after: int,
        by: str,
        comment: str = "",
        managed_by: str = API,
    ) -> PolicyVersion:
        """
        The version of `tenant` that follows version `after` (0: its first), written.

        Raises `VersionConflict` where `after` is not the newest.
        """
        text = None if document is None else encoded(document)
        written = PolicyVersion(tenant, after + 1, text, int(time.time() * 1000), by, comment, managed_by)
        newest = sa.select(sa.func.max(policy_versions.c.version)).where(policy_versions.c.tenant == tenant)
        try:
            with self._database.writing() as connection:
                if (connection.scalar(newest) or 0) != after:
                    raise VersionConflict
                _insert(connection, self._audit, written)
        except IntegrityError:
            raise VersionConflict from None
        return written
