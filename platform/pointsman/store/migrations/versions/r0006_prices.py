"""Prices by the time at which they hold."""

from __future__ import annotations

revision = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """Filled in with its tables."""


def downgrade() -> None:
    """Filled in with its tables."""
