"""Who changed what: one row for every write that came through the admin API, never altered afterwards.

A row is committed together with the change it tells of, wherever that is in the same database: there is no change
without its record, and no record of a change that was not made.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from pointsman.store.database import Database, metadata

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(80), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("object", sa.String(200), nullable=False),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
    sa.Index("ix_audit_object", "object", "id"),
    sa.Index("ix_audit_at", "at"),
)

Summary = Mapping[str, Any]
"""What there was or is, in plain JSON; never a key, a prompt or an answer."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """
    One change. `id` grows with time; `at`: milliseconds since 1970; `action`: as `tenants.put`; `object`: as
    `tenant:acme`; `before` and `after`: JSON, None where there was nothing, or nothing is left.
    """

    id: int
    at: int
    actor: str
    action: str
    object: str
    before: str | None
    after: str | None


class AuditLog:
    """Writes and reads rows. Every method raises `DatabaseUnavailable` where the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        *,
        actor: str,
        action: str,
        object: str,
        before: Summary | None = None,
        after: Summary | None = None,
        connection: sa.Connection | None = None,
    ) -> None:
        """
        Note that `actor` did `action` to `object`.

        `connection`: of the transaction that makes the change, which the row is then part of; None: one of its own.
        """
        if connection is not None:
            _insert(connection, actor, action, object, before, after)
            return
        with self._database.writing() as own:
            _insert(own, actor, action, object, before, after)

    def page(
        self,
        *,
        limit: int,
        before: int | None = None,
        object: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[AuditRow]:
        """
        The newest `limit` rows, newest first. `before`: only those with a lower id; `since` (inclusive) and `until`
        (exclusive): milliseconds since 1970; `object`, `actor` and `action`: exactly these.
        """
        rows = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            rows = rows.where(audit.c.id < before)
        for column, wanted in ((audit.c.object, object), (audit.c.actor, actor), (audit.c.action, action)):
            if wanted is not None:
                rows = rows.where(column == wanted)
        if since is not None:
            rows = rows.where(audit.c.at >= since)
        if until is not None:
            rows = rows.where(audit.c.at < until)
        with self._database.reading() as connection:
            return [AuditRow(*row) for row in connection.execute(rows)]


def _insert(
    connection: sa.Connection,
    actor: str,
    action: str,
    object: str,
    before: Summary | None,
    after: Summary | None,
) -> None:
    connection.execute(
        sa.insert(audit).values(
            at=int(time.time() * 1000),
            actor=actor[:80],
            action=action,
            object=object[:200],
            before=None if before is None else orjson.dumps(before).decode(),
            after=None if after is None else orjson.dumps(after).decode(),
        )
    )
