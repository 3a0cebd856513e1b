"""The ledger: what every request used and cost."""

from __future__ import annotations

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Filled in with its tables."""


def downgrade() -> None:
    """Filled in with its tables."""
