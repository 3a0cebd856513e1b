"""Who claims which name, and who names which policy: an index over Tenants, kept as they come and go.

Pure; beside `objects.py`, which has the objects themselves.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, TypeVar

import orjson

from pointsman.operators.objects import Copy, Ref

K = TypeVar("K", bound=Hashable)


class Touched(NamedTuple):
    """What a change of one Tenant has to do with: names of tenants, and ModePolicies."""

    names: set[str]
    policies: set[Ref]


class Claims:
    """Names of tenants by Tenant and back, and ModePolicies by Tenant and back."""

    def __init__(self) -> None:
        self._name: dict[Ref, str] = {}
        self._claiming: dict[str, set[Ref]] = {}
        self._policy: dict[Ref, Ref] = {}
        self._naming: dict[Ref, set[Ref]] = {}

    def names(self) -> set[str]:
        """All names that are claimed."""
        return set(self._claiming)

    def name_of(self, tenant: Ref) -> str | None:
        """The name that the Tenant there claims; None where there is none."""
        return self._name.get(tenant)

    def claiming(self, name: str) -> set[Ref]:
        """Where the Tenants stand that claim `name`."""
        return self._claiming.get(name, set())

    def policy_of(self, tenant: Ref) -> Ref | None:
        """Where the ModePolicy stands that the Tenant there names."""
        return self._policy.get(tenant)

    def naming(self, policy: Ref) -> set[Ref]:
        """Where the Tenants stand that name the ModePolicy there."""
        return self._naming.get(policy, set())

    def take(self, tenant: Ref, copy: Copy | None) -> Touched:
        """The Tenant there is now `copy`, or gone: all that this has to do with, before and after."""
        touched = Touched(set(), set())
        if (name := self._name.pop(tenant, None)) is not None:
            _discard(self._claiming, name, tenant)
            touched.names.add(name)
        if (policy := self._policy.pop(tenant, None)) is not None:
            _discard(self._naming, policy, tenant)
            touched.policies.add(policy)
        if copy is None:
            return touched
        spec = orjson.loads(copy.essence)["spec"]
        name = str(spec.get("name") or tenant.name)
        self._name[tenant] = name
        self._claiming.setdefault(name, set()).add(tenant)
        touched.names.add(name)
        named = (spec.get("policyRef") or {}).get("name")
        if named is not None:
            policy = Ref(tenant.namespace, named)
            self._policy[tenant] = policy
            self._naming.setdefault(policy, set()).add(tenant)
            touched.policies.add(policy)
        return touched


def _discard(sets: dict[K, set[Ref]], key: K, ref: Ref) -> None:
    sets[key].discard(ref)
    if not sets[key]:
        del sets[key]
