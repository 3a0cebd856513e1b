"""Tenants, their keys, and the record of who changed what."""

from __future__ import annotations

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Filled in with its tables."""


def downgrade() -> None:
    """Filled in with its tables."""
