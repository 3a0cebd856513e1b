"""One tenant's policies in the form in which the hot path reads them. Immutable: a change is a new one.

Stands between the documents and the steps: here is which of two policies holds for a conversation; what the rules
of one make of a request is in `rules.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pointsman.contracts.modes import ModePolicy
from pointsman.contracts.policies import Policy, PolicyDocument, Saturation, Stage, WhenSpent
from pointsman.router.policies.rules import Rules

WHOLE = 1 << 32
"""What conversations' keys are below: a share of all conversations is this share of it."""


class ArmName(StrEnum):
    """Which of a tenant's two policies."""

    PRESENT = "present"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class Arm:
    """
    One of the two policies of a tenant: which one, of which version, and how far the candidate has gone live.

    `stage` is None where there is no candidate. `modes` is what holds where no rule matches; `saturation` is how
    far load may raise the threshold; `hysteresis` how far a conversation's history may move it, 0 for not at all;
    `predictor` the version that judges, None for the platform's own.
    """

    name: ArmName
    policy: Policy
    version: str
    stage: Stage | None
    modes: ModePolicy
    rules: Rules | None
    saturation: Saturation | None
    hysteresis: float
    predictor: str | None


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """
    The policies of a tenant: the present one, and the candidate where there is one.

    `limit`: conversations whose key (32 bits) is below it get the candidate.
    """

    document: PolicyDocument
    version: str
    present: Arm
    candidate: Arm | None = None
    limit: int = 0

    @property
    def policy(self) -> Policy:
        """The present policy."""
        return self.present.policy

    def arm_of(self, conversation: int) -> Arm:
        """The policy that holds for a conversation, by its key (32 bits)."""
        return self.present if self.candidate is None or conversation >= self.limit else self.candidate

    def other(self, arm: Arm) -> Arm | None:
        """The one that does not hold where `arm` does, or None where there is one policy only."""
        return self.present if arm is self.candidate else self.candidate


def compile_policy(document: PolicyDocument, *, version: str = "0") -> TenantPolicy:
    """The compiled form of `document`; `version` names it in the records of decisions; 0 is the configuration's."""
    candidate = document.candidate
    if candidate is None:
        return TenantPolicy(document, version, _arm(ArmName.PRESENT, document.policy, version, None))
    stage = candidate.stage
    share = {Stage.OBSERVE: 0.0, Stage.CANARY: candidate.share, Stage.ENFORCE: 1.0}[stage]
    return TenantPolicy(
        document,
        version,
        _arm(ArmName.PRESENT, document.policy, version, stage),
        _arm(ArmName.CANDIDATE, candidate.policy, version, stage),
        round(share * WHOLE),
    )


def _arm(name: ArmName, policy: Policy, version: str, stage: Stage | None) -> Arm:
    low, high = policy.abstain or (0.0, 0.0)
    cost = policy.cost_of_wrong_fast
    modes = ModePolicy(
        threshold=policy.threshold,
        abstain_below=low,
        abstain_above=high,
        default=policy.default_mode,
        substitute=policy.substitute,
        refuse_spent=policy.on_thinking_budget_spent is WhenSpent.REFUSE,
        cost_of_wrong_fast=None if cost is None else float(cost),
    )
    rules = Rules(policy.rules, modes) if policy.rules else None
    return Arm(
        name, policy, version, stage, modes, rules, policy.saturation, policy.hysteresis or 0.0, policy.predictor
    )
