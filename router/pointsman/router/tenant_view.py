"""A tenant and the models it may ask for, in the form in which the hot path reads them.

Stands between the documents (the configuration's, the admin API's) and the steps. What many tenants have alike is
compiled once and shared: of a hundred thousand tenants most are of a few kinds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pointsman.contracts.config import DecisionLog, Pool, Tenant
from pointsman.contracts.limits import Budgets, Limits, ResponseCache
from pointsman.contracts.modes import Mode
from pointsman.contracts.policies import PolicyDocument
from pointsman.router.policies import TenantPolicy, compile_policy

if TYPE_CHECKING:
    from pointsman.router.admission.allowance import Allowance

_DECISIONS, _LIMITS, _BUDGETS, _CACHE = DecisionLog(), Limits(), Budgets(), ResponseCache()


@dataclass(frozen=True, slots=True)
class ModelView:
    """
    A public model name and the pools that answer it, by mode; every listed mode has at least one pool.

    Where its pools change, another one takes its place: what was worked out for the one doesn't hold for the other.
    """

    name: str
    pools: dict[Mode, tuple[Pool, ...]]
    modes: frozenset[Mode]


NO_MODELS: Mapping[str, ModelView] = {}


class AllowedModels(dict[str, ModelView]):
    """The models that a tenant may ask for which names some: those of `named` that some pool answers."""

    __slots__ = ("__weakref__", "named")

    def __init__(self, named: Iterable[str], models: Mapping[str, ModelView]) -> None:
        self.named = tuple(named)
        self.renew(models)

    def renew(self, models: Mapping[str, ModelView]) -> None:
        """Let `models` be all there are."""
        now = {name: models[name] for name in self.named if name in models}
        self.clear()
        self.update(now)


@dataclass(slots=True)
class ThinkingToday:
    """Thinking tokens of one tenant that were counted here, and are not added to those of other workers yet."""

    unsent: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What a tenant's document says, but for its name. `policy` is the document's own."""

    models: dict[str, ModelView]
    policy: TenantPolicy
    decisions: DecisionLog
    limits: Limits
    budgets: Budgets
    priority: int
    weight: float
    cache: ResponseCache


@dataclass(slots=True, eq=False)
class TenantView:
    """
    A tenant as the hot path sees it. `cache_salt` keeps its prefix-cache entries apart from others'.

    One for as long as the tenant lives. What changes while the process runs is put in place of what was, and holds
    for the next request: its document's terms, its `policy` (`own` is the document's, which holds where the admin
    API has set none), and whether it has spent its thinking (`thinking_spent`) or is past a soft mark (`degraded`).
    `gone`: it was deleted.
    """

    name: str
    models: dict[str, ModelView]
    policy: TenantPolicy
    cache_salt: str
    decisions: DecisionLog = _DECISIONS
    thinking_spent: bool = False
    thinking: ThinkingToday | None = None
    priority: int = 5
    weight: float = 1.0
    limits: Limits = _LIMITS
    budgets: Budgets = _BUDGETS
    cache: ResponseCache = _CACHE
    own: TenantPolicy | None = None
    degraded: bool = False
    allowance: Allowance | None = None
    gone: bool = False

    def adopt(self, terms: Terms) -> None:
        """Let `terms` hold from now on; a policy that the admin API has set goes on before theirs."""
        if self.policy is self.own:
            self.policy = terms.policy
        self.own = terms.policy
        self.models = terms.models
        self.decisions = terms.decisions
        self.limits = terms.limits
        self.budgets = terms.budgets
        self.priority = terms.priority
        self.weight = terms.weight
        self.cache = terms.cache


def models_of(pools: Iterable[Pool], known: Mapping[str, ModelView] = NO_MODELS) -> dict[str, ModelView]:
    """The models that `pools` answer, by their names; a view in `known` that still holds is taken over."""
    by_model: dict[str, list[Pool]] = {}
    for pool in pools:
        by_model.setdefault(pool.model, []).append(pool)
    return {name: _model(name, by_model[name], known.get(name)) for name in sorted(by_model)}


def compile_terms(tenant: Tenant, models: dict[str, ModelView]) -> Terms:
    """
    The terms of `tenant`; `models` are all there are, and what it names beside them is left out.

    One that names none has `models` itself, and sees what changes there.
    """
    allowed = models
    if tenant.models is not None:
        allowed = AllowedModels(tenant.models, models)
    return Terms(
        models=allowed,
        policy=compile_policy(PolicyDocument(policy=tenant.policy, candidate=tenant.candidate)),
        decisions=tenant.decisions,
        limits=tenant.limits,
        budgets=tenant.budgets,
        priority=tenant.priority,
        weight=tenant.weight,
        cache=tenant.cache,
    )


def view_of(name: str, terms: Terms) -> TenantView:
    """A new view of the tenant `name`."""
    salt = hashlib.sha256(f"pointsman/{name}".encode()).hexdigest()[:16]
    view = TenantView(name, terms.models, terms.policy, salt, own=terms.policy)
    view.adopt(terms)
    return view


def _model(name: str, pools: Iterable[Pool], known: ModelView | None) -> ModelView:
    by_mode = {mode: found for mode in Mode if (found := tuple(pool for pool in pools if mode in pool.modes))}
    if known is not None and known.pools == by_mode:
        return known
    return ModelView(name, by_mode, frozenset(by_mode))
