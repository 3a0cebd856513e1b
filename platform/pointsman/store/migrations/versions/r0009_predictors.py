"""Tenants' predictors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"


def upgrade() -> None:
    op.create_table(
        "predictors",
        sa.Column("version", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("base", sa.String(63), nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        sa.Column("refusal", sa.Text),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String(80), nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_predictors"),
    )


def downgrade() -> None:
    op.drop_table("predictors")
