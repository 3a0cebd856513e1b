"""What has changed of tenants and their keys, by one growing number, and what routers shall read of each.

Beneath `tenants.py` and `keys.py`, which mark each change here in the transaction that makes it: the tables of all
three stand here, as an entry for routers is made of all of them. One counter for all tenants, so that whoever knows
its value knows whether anything was changed since, by whichever process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import sqlalchemy as sa

from pointsman.store.database import Database, metadata
from pointsman.store.tenant_projection import ADMIN_KEYS_CHANGED, OF_FILE, Change, encoded_entry

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

tenant_changes = sa.Table(
    "tenant_changes",
    metadata,
    sa.Column("tenant", sa.String(63), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Index("ix_tenant_changes_number", "number"),
)

tenants = sa.Table(
    "tenants",
    metadata,
    # Ordered by bytes everywhere, as pages of tenants are: PostgreSQL would follow the rules of some language.
    sa.Column("name", sa.String(63).with_variant(sa.String(63, collation="C"), "postgresql"), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("document", sa.Text),
    sa.Column("managed_by", sa.String(63), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("updated_by", sa.String(80), nullable=False),
    sa.Column("origin", sa.String(320)),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("tenant", sa.String(63)),
    sa.Column("role", sa.String(16)),
    sa.Column("label", sa.String(100), nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(80), nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
    sa.Column("replaces", sa.String(32)),
    sa.Column("replaced_by", sa.String(32)),
    sa.Index("ix_api_keys_tenant", "tenant", "id"),
)

_COUNTER = "tenant_changes"

_AT_ONCE = 500
"""Tenants read at a time."""


def mark(connection: sa.Connection, tenant: str) -> int:
    """
    Note in the transaction of `connection` that `tenant` or its keys change; the number of the change.

    Numbers are committed in their order: the counter's row is held until the transaction ends, and whoever wants to
    make another change waits here for that.
    """
    mine = counters.c.name == _COUNTER
    connection.execute(sa.update(counters).where(mine).values(value=counters.c.value + 1))
    number: int = connection.execute(sa.select(counters.c.value).where(mine)).scalar_one()
    ours = tenant_changes.c.tenant == tenant
    if not connection.execute(sa.update(tenant_changes).where(ours).values(number=number)).rowcount:
        connection.execute(sa.insert(tenant_changes).values(tenant=tenant, number=number))
    return number


def mark_admin_keys(connection: sa.Connection) -> int:
    """Note in the transaction of `connection` that admin keys change; the number of the change."""
    return mark(connection, ADMIN_KEYS_CHANGED)


class TenantChanges:
    """Reads changes. Every method raises `DatabaseUnavailable` where the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """The number of the newest change; 0: there never was one."""
        value = sa.select(counters.c.value).where(counters.c.name == _COUNTER)
        with self._database.reading() as connection:
            return connection.scalar(value) or 0

    def entry(self, tenant: str) -> Change | None:
        """What routers shall read of `tenant` now; None where nothing of it was ever changed."""
        return next(self._entries(sa.select(tenant_changes).where(tenant_changes.c.tenant == tenant)), None)

    def since(self, number: int) -> Iterator[Change]:
        """What was changed after change `number`, by name, admin keys left out."""
        return self._paged(tenant_changes.c.number > number)

    def all(self) -> Iterator[Change]:
        """All that was ever changed, by name, admin keys left out."""
        return self._paged(sa.true())

    def versions(self) -> Iterator[tuple[str, int]]:
        """The number of the last change of each tenant."""
        rows = sa.select(tenant_changes).where(tenant_changes.c.tenant != ADMIN_KEYS_CHANGED)
        with self._database.reading() as connection:
            for row in connection.execution_options(yield_per=5000).execute(rows):
                yield row.tenant, row.number

    def _paged(self, wanted: sa.ColumnElement[bool]) -> Iterator[Change]:
        after = ADMIN_KEYS_CHANGED
        while True:
            rows = (
                sa.select(tenant_changes)
                .where(tenant_changes.c.tenant > after, wanted)
                .order_by(tenant_changes.c.tenant)
                .limit(_AT_ONCE)
            )
            found = list(self._entries(rows))
            yield from found
            if len(found) < _AT_ONCE:
                return
            after = found[-1].name

    def _entries(self, changed: sa.Select[Any]) -> Iterator[Change]:
        with self._database.reading() as connection:
            numbers = {row.tenant: row.number for row in connection.execute(changed)}
            names = list(numbers)
            rows = sa.select(tenants.c.name, tenants.c.document).where(tenants.c.name.in_(names))
            documents = {row.name: row.document for row in connection.execute(rows)}
            keys = _keys_of(connection, names)
        for name, number in numbers.items():
            document = documents.get(name, OF_FILE)
            yield Change(name, number, encoded_entry(number, document, keys.get(name, ())))


def _keys_of(connection: sa.Connection, names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The keys of tenants that open anything, as entries have them."""
    now = int(time.time() * 1000)
    rows = (
        sa.select(api_keys)
        .where(
            api_keys.c.tenant.in_(list(names)),
            api_keys.c.revoked_at.is_(None),
            sa.or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now),
        )
        .order_by(api_keys.c.id)
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(rows):
        fields: dict[str, Any] = {"id": row.id, "digest": row.digest}
        if row.expires_at is not None:
            fields["expires_at"] = row.expires_at
        found.setdefault(row.tenant, []).append({**fields, **orjson.loads(row.scope)})
    return found
