"""Tenants' policies, compiled for the hot path: what a document says, in the form in which a request asks it."""

from pointsman.router.policies.compiled import Arm, ArmName, TenantPolicy, compile_policy
from pointsman.router.policies.language import language_of

__all__ = ["Arm", "ArmName", "TenantPolicy", "compile_policy", "language_of"]
