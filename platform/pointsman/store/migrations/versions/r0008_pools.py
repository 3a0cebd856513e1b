"""Pools that are made while the platform runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"


def upgrade() -> None:
    op.create_table(
        "pools",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("document", sa.Text),
        sa.Column("traffic", sa.Text, nullable=False),
        sa.Column("prices", sa.Text, nullable=False),
        sa.Column("managed_by", sa.String(63), nullable=False),
        sa.Column("origin", sa.String(320)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("updated_by", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_pools"),
    )
    counters = sa.table("counters", sa.column("name", sa.String), sa.column("value", sa.BigInteger))
    op.bulk_insert(counters, [{"name": "pool_changes", "value": 0}])


def downgrade() -> None:
    counters = sa.table("counters", sa.column("name", sa.String))
    op.execute(counters.delete().where(counters.c.name == "pool_changes"))
    op.drop_table("pools")
