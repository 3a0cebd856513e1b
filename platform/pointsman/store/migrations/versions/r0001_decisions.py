"""Decisions, what their tenants say of them, and what reviewers say."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(48), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("escalated", sa.String(16)),
        sa.Column("reviewable", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("queued", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
    )
    op.create_index("ix_decisions_tenant_at_id", "decisions", ["tenant", "at", "id"])
    op.create_index("ix_decisions_at_id", "decisions", ["at", "id"])
    op.create_index("ix_decisions_queued_at_id", "decisions", ["queued", "at", "id"])
    op.create_table(
        "decision_feedback",
        sa.Column("decision_id", sa.String(48), nullable=False),
        sa.Column("key", sa.String(8), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("should_think", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("comment", sa.Text),
        sa.PrimaryKeyConstraint("decision_id", "key", name="pk_decision_feedback"),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decisions.id"], ondelete="CASCADE", name="fk_decision_feedback_decision_id"
        ),
    )
    op.create_table(
        "decision_reviews",
        sa.Column("decision_id", sa.String(48), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("should_think", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("pinned", sa.String(63)),
        sa.PrimaryKeyConstraint("decision_id", name="pk_decision_reviews"),
        sa.ForeignKeyConstraint(
            ["decision_id"], ["decisions.id"], ondelete="CASCADE", name="fk_decision_reviews_decision_id"
        ),
    )


def downgrade() -> None:
    for table in ("decision_reviews", "decision_feedback", "decisions"):
        op.drop_table(table)
