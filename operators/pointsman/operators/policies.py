"""The policy of a Tenant at the admin API, and what a ModePolicy tells of itself.

A ModePolicy may hold for many Tenants of its namespace; each has a policy of its own at the admin API, with
versions and stages. There the platform may send a candidate back by itself. That stands until the ModePolicy is
changed: which generation of which ModePolicy was written last is told by the comment of that version, so that it is
known after a restart too.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import orjson

from pointsman.operators.admin_client import MANAGER, AdminApi, AdminNotFound, AdminRefused, AdminStale, below
from pointsman.operators.admin_client import ManagedElsewhere as Elsewhere
from pointsman.operators.documents import InvalidObject, ModePolicyObject, TenantObject, spec_path
from pointsman.operators.mirror import KEEPER, Mirror, PolicyState, policy_state

_HISTORY = 20
"""Versions that are looked at for the last that is not the platform's own; it moves a candidate twice at most."""


class PolicyOutcome(NamedTuple):
    """Whether the Tenant's policy is as it should be, one word why, a sentence, and its version over there."""

    holds: bool
    reason: str
    message: str
    version: int | None = None
    live: bool = True


class PolicyKeeper:
    """Settles policies. What is away is raised (`AdminUnavailable`), what is refused is told."""

    def __init__(self, admin: AdminApi, mirror: Mirror) -> None:
        self._admin = admin
        self._mirror = mirror

    async def settle(
        self, tenant: TenantObject, policy: ModePolicyObject | InvalidObject | None, *, adopt: str | None
    ) -> PolicyOutcome:
        """
        Let the policy that `tenant` names hold for it; `policy` is what stands there.

        Where there is none, or none that is valid, what held goes on: no rule is dropped by an accident.
        `adopt`: the manager that a policy may be taken over from.
        """
        name = tenant.name
        present = self._mirror.policies.get(name)
        if tenant.policy_ref is None:
            if present is not None:
                await self._delete(name)
            return PolicyOutcome(True, "NoPolicy", "the Tenant names no ModePolicy: all is at its default")
        if policy is None:
            return PolicyOutcome(
                False, "PolicyNotFound", f"there is no ModePolicy {tenant.policy_ref.name}: what held goes on"
            )
        if isinstance(policy, InvalidObject):
            return PolicyOutcome(
                False, "PolicyInvalid", f"the ModePolicy {tenant.policy_ref.name} is invalid: what held goes on"
            )
        try:
            return await self._settle(name, policy, present, adopt)
        except Elsewhere as error:
            return PolicyOutcome(False, "ManagedElsewhere", str(error))
        except AdminRefused as error:
            where = "" if error.param is None else f"{spec_path(ModePolicyObject, error.param)}: "
            return PolicyOutcome(False, "PolicyRefused", f"{where}{error}")

    async def look(self, name: str) -> None:
        """See the policy of the tenant `name` anew."""
        with contextlib.suppress(AdminNotFound):
            await self._look(name)

    async def _settle(
        self, name: str, policy: ModePolicyObject, present: PolicyState | None, adopt: str | None
    ) -> PolicyOutcome:
        comment = _comment(policy)
        if present is not None and not present.live:
            present = await self._look(name)
        for _ in range(3):
            if present is not None and present.comment == comment:
                return PolicyOutcome(True, "Applied", "", present.version, present.live)
            if present is not None and present.by == KEEPER and await self._was_sent_back(name, comment):
                return PolicyOutcome(True, "CandidateSentBack", present.comment, present.version, present.live)
            try:
                answer = await self._admin.ask(
                    "PUT",
                    below("/policies", name),
                    json=orjson.loads(_document(policy)),
                    params={"manager": MANAGER, "comment": comment, "take_from": adopt},
                    if_match=None if present is None else present.version,
                )
            except AdminStale:
                present = await self._look(name, adopt)
                continue
            present = policy_state(answer.body)
            self._mirror.put_policy(name, present)
        raise AdminRefused(412, "precondition_failed", None, "somebody else changes this policy all the time")

    async def _look(self, name: str, adopt: str | None = None) -> PolicyState | None:
        """The policy as it is now, where it is the operator's, or may be taken over."""
        answer = await self._admin.ask("GET", below("/policies", name))
        ours = answer.body["managed_by"] == MANAGER
        state = policy_state(answer.body) if answer.body["version"] else None
        self._mirror.put_policy(name, state if ours else None)
        return state if ours or (adopt is not None and answer.body["managed_by"] == adopt) else None

    async def _was_sent_back(self, name: str, comment: str) -> bool:
        """Whether the last version that the platform did not write by itself is the one of `comment`."""
        answer = await self._admin.ask("GET", below("/policies", name, "history"), params={"limit": _HISTORY})
        last = next((one for one in answer.body["data"] if one["updated_by"] != KEEPER), None)
        return last is not None and last["comment"] == comment

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(AdminNotFound, Elsewhere):
            await self._admin.ask("DELETE", below("/policies", name), params={"manager": MANAGER})
        self._mirror.put_policy(name, None)


class PolicySummary(NamedTuple):
    """What a ModePolicy tells of itself: tenants that it holds for, and what became of candidates."""

    tenants: int
    sent_back: tuple[str, ...]
    refused: tuple[str, ...]


def summary(outcomes: Iterable[tuple[str, PolicyOutcome]]) -> PolicySummary:
    """What became of one ModePolicy at the Tenants that name it."""
    holding, sent_back, refused = 0, [], []
    for name, outcome in outcomes:
        holding += outcome.holds
        if outcome.reason == "CandidateSentBack":
            sent_back.append(f"{name}: {outcome.message}")
        if not outcome.holds:
            refused.append(f"{name}: {outcome.message}")
    return PolicySummary(holding, tuple(sorted(sent_back)), tuple(sorted(refused)))


def _document(policy: ModePolicyObject) -> bytes:
    """The policy as the admin API takes it."""
    exclude = {"candidate"} if policy.document.candidate is None else None
    return policy.document.model_dump_json(exclude_unset=True, exclude=exclude).encode()


def _comment(policy: ModePolicyObject) -> str:
    """
    What the version's comment says: which ModePolicy it is of, and of which generation.

    With digits of what is sent, which may change with a later release of the operator.
    """
    meta = policy.meta
    digits = hashlib.sha256(_document(policy)).hexdigest()[:8]
    return f"ModePolicy {meta} {meta.uid[:8]} generation {meta.generation} ({digits})"
