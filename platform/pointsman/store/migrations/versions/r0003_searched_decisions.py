"""The index of a tenant's decisions holds all that is searched for: who finds nothing reads no record."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    op.create_index(
        "ix_decisions_tenant_at_id_mode_source_model_escalated",
        "decisions",
        ["tenant", "at", "id", "mode", "source", "model", "escalated"],
    )
    op.drop_index("ix_decisions_tenant_at_id", "decisions")


def downgrade() -> None:
    op.create_index("ix_decisions_tenant_at_id", "decisions", ["tenant", "at", "id"])
    op.drop_index("ix_decisions_tenant_at_id_mode_source_model_escalated", "decisions")
