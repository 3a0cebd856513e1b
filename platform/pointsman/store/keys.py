"""Keys that were made while the platform runs: those of tenants, with what each is limited to, and admin keys.

A key itself is never here, only its SHA-256. A row is never taken away: of a key that was revoked it says so, of
one that was replaced by which other, so that what was done with it can be told years later.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pointsman.contracts.keys import KeyScope, Role
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database
from pointsman.store.tenant_changes import api_keys, mark, mark_admin_keys, tenants


class KeyConflict(Exception):
    """The key has another version by now than the writer thought; nothing was written."""


class KeyKnown(Exception):
    """There is, or was, a key of this digest; nothing was written."""


class TooManyKeys(Exception):
    """The tenant, or the administrators, have `MOST_LIVE` keys already; nothing was written."""


MOST_LIVE = 1000
"""Keys of one tenant, and admin keys, that open anything, at most: routers hold all of them."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """
    A key. Either `tenant` or `role` is set: a tenant's key, or an admin key. `scope`: JSON of its `KeyScope`.

    Times in milliseconds since 1970; `expires_at` is None where it does not expire, `revoked_at` where it was not
    revoked. `replaces` and `replaced_by`: ids of the keys before and after it in rotation.
    """

    id: str
    digest: str
    tenant: str | None
    role: str | None
    label: str
    scope: str
    version: int
    created_at: int
    created_by: str
    expires_at: int | None
    revoked_at: int | None
    replaces: str | None
    replaced_by: str | None

    def opens(self, now: int) -> bool:
        """Whether it is good at `now`, in milliseconds since 1970."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


def encoded_scope(scope: KeyScope) -> str:
    """`scope` as it is kept: the fields that limit something."""
    return scope.model_dump_json(exclude_none=True)


def decoded_scope(text: str) -> KeyScope:
    """What `encoded_scope` made of a scope."""
    return KeyScope.model_validate_json(text)


def revoke_all(connection: sa.Connection, tenant: str, *, at: int) -> None:
    """Revoke all keys of `tenant` in the transaction of `connection`; its caller marks the change."""
    theirs = sa.and_(api_keys.c.tenant == tenant, api_keys.c.revoked_at.is_(None))
    connection.execute(sa.update(api_keys).where(theirs).values(revoked_at=at, version=api_keys.c.version + 1))


class KeyStore:
    """Reads and writes keys. Every method raises `DatabaseUnavailable` where the database fails."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def get(self, identity: str) -> KeyRow | None:
        """The key with this id; None where there is none."""
        return self._one(api_keys.c.id == identity)

    def find(self, digest: str) -> KeyRow | None:
        """The key with this SHA-256 in hexadecimal, revoked and expired ones too; None where there is none."""
        return self._one(api_keys.c.digest == digest)

    def page(
        self,
        *,
        limit: int,
        after: str | None = None,
        tenant: str | None = None,
        admin: bool | None = None,
        live: bool = False,
    ) -> list[KeyRow]:
        """
        The first `limit` keys in the order of their ids that follow the id `after`. `tenant`: of this one; `admin`:
        only admin keys, or none of them; `live`: only those that open anything.
        """
        rows = sa.select(api_keys).order_by(api_keys.c.id).limit(limit)
        if after is not None:
            rows = rows.where(api_keys.c.id > after)
        if tenant is not None:
            rows = rows.where(api_keys.c.tenant == tenant)
        if live:
            rows = rows.where(_opens(int(time.time() * 1000)))
        if admin is not None:
            rows = rows.where(api_keys.c.role.is_not(None) if admin else api_keys.c.role.is_(None))
        with self._database.reading() as connection:
            return [KeyRow(*row) for row in connection.execute(rows)]

    def admin_keys(self) -> list[KeyRow]:
        """All admin keys that open anything."""
        now = int(time.time() * 1000)
        rows = sa.select(api_keys).where(api_keys.c.role.is_not(None), _opens(now))
        with self._database.reading() as connection:
            return [KeyRow(*row) for row in connection.execute(rows)]

    def live_counts(self, tenants: list[str]) -> dict[str, int]:
        """How many keys open anything, of each of `tenants` that has any."""
        now = int(time.time() * 1000)
        rows = (
            sa.select(api_keys.c.tenant, sa.func.count())
            .where(api_keys.c.tenant.in_(tenants), _opens(now))
            .group_by(api_keys.c.tenant)
        )
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(rows)}

    def create(
        self,
        digest: str,
        *,
        tenant: str | None,
        role: Role | None,
        label: str,
        scope: KeyScope,
        expires_at: int | None,
        by: str,
    ) -> KeyRow:
        """
        A new key, written.

        Raises `KeyConflict` where the tenant was deleted, `KeyKnown` where there is one of this digest, and
        `TooManyKeys`.
        """
        key = KeyRow(
            _new_id(),
            digest,
            tenant,
            None if role is None else role.value,
            label,
            encoded_scope(scope),
            1,
            int(time.time() * 1000),
            by,
            expires_at,
            None,
            None,
            None,
        )
        with self._database.writing() as connection:
            _mark(connection, key)
            deleted = sa.select(tenants.c.name).where(tenants.c.name == tenant, tenants.c.document.is_(None))
            if connection.execute(deleted).one_or_none() is not None:
                raise KeyConflict
            if connection.execute(sa.select(api_keys.c.id).where(api_keys.c.digest == digest)).one_or_none():
                raise KeyKnown
            self._count(connection, key)
            self._insert(connection, key, by, "keys.create")
        return key

    def rotate(
        self,
        key: KeyRow,
        digest: str,
        *,
        until: int,
        expires_at: int | None,
        by: str,
        scope: KeyScope | None = None,
    ) -> tuple[KeyRow, KeyRow]:
        """
        A new key with all that `key` has but its digest and its end, and `scope` where one is given; and `key`
        itself, which ends at `until` (milliseconds since 1970), or before where it does so anyway.

        Raises `KeyConflict` where `key` was changed since it was read, and `TooManyKeys`.
        """
        now = int(time.time() * 1000)
        new = KeyRow(
            _new_id(),
            digest,
            key.tenant,
            key.role,
            key.label,
            key.scope if scope is None else encoded_scope(scope),
            1,
            now,
            by,
            expires_at,
            None,
            key.id,
            None,
        )
        end = until if key.expires_at is None else min(until, key.expires_at)
        with self._database.writing() as connection:
            _mark(connection, key)
            self._update(connection, key, expires_at=end, replaced_by=new.id)
            self._count(connection, new)
            self._insert(connection, new, by, "keys.rotate")
        old = self.get(key.id)
        assert old is not None
        return new, old

    def revoke(self, key: KeyRow, *, by: str) -> KeyRow:
        """`key` without its powers. Raises `KeyConflict` where it was changed since it was read."""
        now = int(time.time() * 1000)
        with self._database.writing() as connection:
            _mark(connection, key)
            self._update(connection, key, revoked_at=now)
            self._audit.record(
                actor=by,
                action="keys.revoke",
                object=f"key:{key.id}",
                before=_summary(key),
                after={**_summary(key), "revoked_at": now},
                connection=connection,
            )
        revoked = self.get(key.id)
        assert revoked is not None
        return revoked

    def _one(self, which: sa.ColumnElement[bool]) -> KeyRow | None:
        with self._database.reading() as connection:
            row = connection.execute(sa.select(api_keys).where(which)).one_or_none()
        return None if row is None else KeyRow(*row)

    def _insert(self, connection: sa.Connection, key: KeyRow, by: str, action: str) -> None:
        values = {column: getattr(key, column) for column in key.__slots__}
        connection.execute(sa.insert(api_keys).values(values))
        before = None if key.replaces is None else {"id": key.replaces}
        self._audit.record(
            actor=by,
            action=action,
            object=f"key:{key.id}",
            before=before,
            after=_summary(key),
            connection=connection,
        )

    @staticmethod
    def _count(connection: sa.Connection, key: KeyRow) -> None:
        """Raises `TooManyKeys` where the owner of `key` has as many as there may be."""
        owned = api_keys.c.role.is_not(None) if key.tenant is None else api_keys.c.tenant == key.tenant
        live = sa.select(sa.func.count()).where(owned, _opens(key.created_at))
        if connection.execute(live).scalar_one() >= MOST_LIVE:
            raise TooManyKeys

    @staticmethod
    def _update(connection: sa.Connection, key: KeyRow, **values: Any) -> None:
        same = sa.and_(api_keys.c.id == key.id, api_keys.c.version == key.version)
        changed = sa.update(api_keys).where(same).values(version=key.version + 1, **values)
        if not connection.execute(changed).rowcount:
            raise KeyConflict


def _opens(now: int) -> sa.ColumnElement[bool]:
    """Of keys that are good at `now`, in milliseconds since 1970."""
    unexpired = sa.or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now)
    return sa.and_(api_keys.c.revoked_at.is_(None), unexpired)


def _new_id() -> str:
    return f"key-{secrets.token_hex(8)}"


def _mark(connection: sa.Connection, key: KeyRow) -> None:
    """Before the change itself: other writers wait here, so that what is read afterwards stays so."""
    if key.tenant is None:
        mark_admin_keys(connection)
    else:
        mark(connection, key.tenant)


def _summary(key: KeyRow) -> dict[str, Any]:
    """What the audit log tells of a key: its owner and what it opens."""
    owner = {"role": key.role} if key.tenant is None else {"tenant": key.tenant}
    scope = decoded_scope(key.scope).model_dump(mode="json", exclude_none=True)
    return {**owner, "label": key.label, "digest": key.digest[:8], "expires_at": key.expires_at, **scope}
