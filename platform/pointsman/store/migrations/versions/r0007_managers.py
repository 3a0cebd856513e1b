"""Which object a tenant was made from, and who manages a policy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"


def upgrade() -> None:
    op.add_column("tenants", sa.Column("origin", sa.String(320)))
    managed = sa.Column("managed_by", sa.String(63), nullable=False, server_default="api")
    op.add_column("policy_versions", managed)


def downgrade() -> None:
    op.drop_column("policy_versions", "managed_by")
    op.drop_column("tenants", "origin")
