"""One tenant's policies in the form in which the hot path reads them. Immutable: a change is a new one."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.contracts.modes import ModePolicy
from pointsman.contracts.policies import Policy, PolicyDocument


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """The present policy of a tenant, and its thresholds."""

    document: PolicyDocument
    policy: Policy
    modes: ModePolicy


def compile_policy(document: PolicyDocument) -> TenantPolicy:
    """The compiled form of `document`."""
    policy = document.policy
    low, high = policy.abstain or (0.0, 0.0)
    return TenantPolicy(document, policy, ModePolicy(policy.threshold, low, high, policy.default_mode))
