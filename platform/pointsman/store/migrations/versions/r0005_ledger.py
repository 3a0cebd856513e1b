"""The ledger: what every request used and cost, its sums by the hour, and how far each router's spool is in it."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_CLASSES = ("input", "cached_input", "reasoning", "answer", "cache_creation", "cache_storage", "cache_call")


def _amounts() -> Iterator[sa.Column[int]]:
    for name in _CLASSES:
        yield sa.Column(name, sa.BigInteger, nullable=False)
        yield sa.Column(f"{name}_cost", sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "ledger",
        sa.Column("seq", _BIG, nullable=False, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("key", sa.String(8), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("stream", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("cache", sa.String(8), nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("router", sa.String(16), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("corrects", sa.String(64), nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_ledger"),
        sa.UniqueConstraint("id", name="uq_ledger_id"),
    )
    op.create_index("ix_ledger_tenant_at", "ledger", ["tenant", "at"])
    op.create_index("ix_ledger_at", "ledger", ["at"])
    corrects = sa.text("corrects <> ''")
    op.create_index("ix_ledger_corrects", "ledger", ["corrects"], sqlite_where=corrects, postgresql_where=corrects)
    op.create_table(
        "ledger_parts",
        sa.Column("seq", _BIG, nullable=False, autoincrement=False),
        sa.Column("part", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("pool", sa.String(63), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("estimated", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("price_version", sa.BigInteger, nullable=False),
        *_amounts(),
        sa.PrimaryKeyConstraint("seq", "part", name="pk_ledger_parts"),
        sa.ForeignKeyConstraint(["seq"], ["ledger.seq"], name="fk_ledger_parts_seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_hours",
        sa.Column("hour", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("key", sa.String(8), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("pool", sa.String(63), nullable=False),
        sa.Column("cache", sa.String(8), nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.BigInteger, nullable=False),
        *_amounts(),
        sa.PrimaryKeyConstraint(
            *("hour", "tenant", "key", "model", "mode", "pool", "cache"), name="pk_usage_hours"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_spend",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("router", sa.String(16), nullable=False),
        sa.Column("nano", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("day", "tenant", "router", name="pk_ledger_spend"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_ledger_spend_router_day", "ledger_spend", ["router", "day"])
    op.create_table(
        "ledger_runs",
        sa.Column("router", sa.String(16), nullable=False),
        sa.Column("committed", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("router", name="pk_ledger_runs"),
    )


def downgrade() -> None:
    for table in ("ledger_runs", "ledger_spend", "usage_hours", "ledger_parts", "ledger"):
        op.drop_table(table)
