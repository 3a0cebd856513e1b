"""What the hot path looks things up in: the configuration, compiled into dictionaries, and the tenants.

Stands between the configuration and the steps so that no request walks a list. But for the tenants, who come and go
while the process runs, and the prices, it is immutable; a changed configuration is a new snapshot.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from pointsman.contracts.config import Config
from pointsman.contracts.price_book import PriceBook, price_book
from pointsman.router.tenant_view import ModelView, TenantView, ThinkingToday
from pointsman.router.tenants import Tenants

__all__ = ["ModelView", "Snapshot", "TenantView", "ThinkingToday", "bearer_digest", "compile_snapshot"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tenants by the SHA-256 of their keys, and prices by pool."""

    config: Config
    tenants: Tenants
    prices: PriceBook = field(default_factory=lambda: PriceBook({}))

    def is_admin(self, authorization: bytes | None) -> bool:
        """Whether the `Authorization: Bearer` header holds an admin key."""
        return bearer_digest(authorization) in self.tenants.admins


def bearer_digest(authorization: bytes | None) -> bytes | None:
    """The SHA-256 of the key in an `Authorization: Bearer` header, or None where there is none."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return hashlib.sha256(authorization[7:].strip()).digest()


def compile_snapshot(config: Config) -> Snapshot:
    """The snapshot of `config`, with its own tenants."""
    return Snapshot(config=config, tenants=Tenants(config), prices=price_book(config))
