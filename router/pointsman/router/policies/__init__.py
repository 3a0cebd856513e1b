"""Tenants' policies, compiled for the hot path: what a document says, in the form in which a request asks it."""

from pointsman.router.policies.compiled import TenantPolicy, compile_policy

__all__ = ["TenantPolicy", "compile_policy"]
