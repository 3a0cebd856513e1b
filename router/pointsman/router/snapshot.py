"""What the hot path looks things up in: the configuration, compiled into dictionaries.

Stands between the configuration and the steps so that no request walks a list. Immutable; a changed
configuration is a new snapshot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from pointsman.contracts.config import Config, DecisionLog, Pool, Tenant
from pointsman.contracts.limits import Budgets, Limits, ResponseCache
from pointsman.contracts.modes import Mode
from pointsman.contracts.policies import PolicyDocument
from pointsman.contracts.price_book import PriceBook, price_book
from pointsman.router.admission.allowance import Allowance
from pointsman.router.policies import TenantPolicy, compile_policy


@dataclass(frozen=True, slots=True)
class ModelView:
    """A public model name and the pools that answer it, by mode; every listed mode has at least one pool."""

    name: str
    pools: dict[Mode, tuple[Pool, ...]]
    modes: frozenset[Mode]


@dataclass(slots=True)
class ThinkingToday:
    """Thinking tokens of one tenant that were counted here, and are not added to those of other workers yet."""

    unsent: int = 0


@dataclass(slots=True)
class TenantView:
    """
    A tenant as the hot path sees it. `cache_salt` keeps its prefix-cache entries apart from others'.

    `policy` and `thinking_spent` alone change while the process runs: a new policy is put in place of the old one
    and holds for the next request; `thinking_spent` says whether the thinking tokens of the day are.
    """

    name: str
    models: dict[str, ModelView]
    policy: TenantPolicy
    cache_salt: str
    decisions: DecisionLog = field(default_factory=DecisionLog)
    thinking_spent: bool = False
    thinking: ThinkingToday | None = None
    priority: int = 5
    cache: ResponseCache = field(default_factory=ResponseCache)
    weight: float = 1.0
    limits: Limits = field(default_factory=Limits)
    budgets: Budgets = field(default_factory=Budgets)
    allowance: Allowance | None = None
    degraded: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tenants by the SHA-256 of their keys, and prices by pool."""

    config: Config
    tenants: dict[bytes, TenantView]
    admins: frozenset[bytes]
    prices: PriceBook = field(default_factory=lambda: PriceBook({}))

    def tenant_of(self, authorization: bytes | None) -> TenantView | None:
        """The tenant whose key the `Authorization: Bearer` header holds, or None."""
        digest = bearer_digest(authorization)
        return None if digest is None else self.tenants.get(digest)

    def is_admin(self, authorization: bytes | None) -> bool:
        """Whether the `Authorization: Bearer` header holds an admin key."""
        return bearer_digest(authorization) in self.admins


def bearer_digest(authorization: bytes | None) -> bytes | None:
    """The SHA-256 of the key in an `Authorization: Bearer` header, or None where there is none."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return hashlib.sha256(authorization[7:].strip()).digest()


def compile_snapshot(config: Config) -> Snapshot:
    """The snapshot of `config`."""
    models = models_of(config)
    tenants: dict[bytes, TenantView] = {}
    for tenant in config.tenants:
        view = compile_tenant(tenant, models)
        tenants.update((bytes.fromhex(digest), view) for digest in tenant.key_digests)
    return Snapshot(
        config=config,
        tenants=tenants,
        admins=frozenset(bytes.fromhex(digest) for digest in config.router.admin_key_digests),
        prices=price_book(config),
    )


def models_of(config: Config) -> dict[str, ModelView]:
    """The models of `config` by their names."""
    return {name: _model(name, config.pools) for name in sorted({pool.model for pool in config.pools})}


def compile_tenant(tenant: Tenant, models: dict[str, ModelView]) -> TenantView:
    """The view of `tenant`; `models` are all there are."""
    allowed = models if tenant.models is None else {name: models[name] for name in tenant.models}
    salt = hashlib.sha256(f"pointsman/{tenant.name}".encode()).hexdigest()[:16]
    document = PolicyDocument(policy=tenant.policy, candidate=tenant.candidate)
    return TenantView(
        tenant.name,
        allowed,
        compile_policy(document),
        salt,
        tenant.decisions,
        priority=tenant.priority,
        cache=tenant.cache,
        weight=tenant.weight,
        limits=tenant.limits,
        budgets=tenant.budgets,
    )


def _model(name: str, pools: Iterable[Pool]) -> ModelView:
    by_mode = {
        mode: found
        for mode in Mode
        if (found := tuple(pool for pool in pools if pool.model == name and mode in pool.modes))
    }
    return ModelView(name, by_mode, frozenset(by_mode))
