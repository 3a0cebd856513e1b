"""Tenants' predictors in the database: the truth, of which routers read the copy in Redis.

One row for each version, never changed: a version names its own content. Which policies name one is read from their
documents, so that there is one place only where that stands.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from pointsman.store.audit import AuditLog
from pointsman.store.database import Database, metadata
from pointsman.store.policies import policy_versions
from pointsman.store.tenant_changes import tenants

predictors = sa.Table(
    "predictors",
    metadata,
    sa.Column("version", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("base", sa.String(63), nullable=False),
    sa.Column("report", sa.Text, nullable=False),
    sa.Column("refusal", sa.Text),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(80), nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
)


class TooMany(Exception):
    """There are as many predictors as there may be."""


@dataclass(frozen=True, slots=True)
class PredictorRow:
    """
    A predictor as it was brought in, without its weights. `base`: the version that it was adapted from; `report`:
    JSON; `refusal`: why it would not have been taken, had it not been forced; `size`: bytes; `created_at`:
    milliseconds since 1970.
    """

    version: str
    name: str
    base: str
    report: str
    refusal: str | None
    size: int
    created_at: int
    created_by: str
    comment: str


_ROW = [column for column in predictors.c if column.name != "content"]


class PredictorStore:
    """Reads and writes predictors. Every method raises `DatabaseUnavailable` where the database fails."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def all(self) -> list[PredictorRow]:
        """All of them, newest first."""
        rows = sa.select(*_ROW).order_by(predictors.c.created_at.desc(), predictors.c.version)
        with self._database.reading() as connection:
            return [PredictorRow(*row) for row in connection.execute(rows)]

    def get(self, version: str) -> PredictorRow | None:
        """One of them; None where there is none of that version."""
        row = sa.select(*_ROW).where(predictors.c.version == version)
        with self._database.reading() as connection:
            found = connection.execute(row).one_or_none()
        return None if found is None else PredictorRow(*found)

    def content(self, version: str) -> bytes | None:
        """The weights file of a version; None where there is none."""
        with self._database.reading() as connection:
            found = connection.scalar(sa.select(predictors.c.content).where(predictors.c.version == version))
        return None if found is None else bytes(found)

    def versions(self) -> frozenset[str]:
        """The versions that there are."""
        with self._database.reading() as connection:
            return frozenset(connection.scalars(sa.select(predictors.c.version)))

    def add(
        self,
        *,
        version: str,
        name: str,
        base: str,
        report: str,
        refusal: str | None,
        content: bytes,
        most: int,
        by: str,
        comment: str,
    ) -> PredictorRow:
        """
        Keep a predictor, or leave it as it is where it is kept already.

        Raises `TooMany` where there are `most` already.
        """
        row = PredictorRow(version, name, base, report, refusal, len(content), int(time.time() * 1000), by, comment)
        values = {column.name: getattr(row, column.name) for column in _ROW}
        try:
            with self._database.writing() as connection:
                if (connection.scalar(sa.select(sa.func.count()).select_from(predictors)) or 0) >= most:
                    raise TooMany
                connection.execute(sa.insert(predictors).values(**values, content=content))
                self._audit.record(
                    actor=by,
                    action="predictors.put",
                    object=f"predictor:{version}",
                    after={"base": base, "bytes": row.size, "forced": refusal is not None, "comment": comment},
                    connection=connection,
                )
        except IntegrityError:
            there = self.get(version)
            assert there is not None
            return there
        return row

    def delete(self, version: str, *, by: str, comment: str) -> bool:
        """Delete a version; whether there was one."""
        with self._database.writing() as connection:
            gone = connection.execute(sa.delete(predictors).where(predictors.c.version == version)).rowcount
            if gone:
                self._audit.record(
                    actor=by,
                    action="predictors.delete",
                    object=f"predictor:{version}",
                    before={"comment": comment} if comment else {},
                    connection=connection,
                )
        return bool(gone)

    def named_by(self) -> dict[str, set[str]]:
        """The tenants whose policies name a predictor, by its version: of what the database has of them now."""
        newest = (
            sa.select(policy_versions.c.tenant, sa.func.max(policy_versions.c.version).label("version"))
            .group_by(policy_versions.c.tenant)
            .subquery()
        )
        written = (
            sa.select(policy_versions.c.tenant, policy_versions.c.document)
            .join(
                newest,
                sa.and_(policy_versions.c.tenant == newest.c.tenant, policy_versions.c.version == newest.c.version),
            )
            .where(policy_versions.c.document.contains('"predictor":'))
        )
        made = sa.select(tenants.c.name, tenants.c.document).where(tenants.c.document.contains('"predictor":'))
        found: defaultdict[str, set[str]] = defaultdict(set)
        with self._database.reading() as connection:
            for query in (written, made):
                for tenant, document in connection.execution_options(yield_per=1000).execute(query):
                    for version in _versions(orjson.loads(document)):
                        found[version].add(tenant)
        return dict(found)


def _versions(document: dict[str, Any]) -> list[str]:
    """The predictors that a policy document names, or a tenant's, which has a policy at the same place."""
    policies = (document.get("policy"), (document.get("candidate") or {}).get("policy"))
    return [policy["predictor"] for policy in policies if policy and policy.get("predictor")]
