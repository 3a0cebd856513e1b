"""One tenant's policies in the form in which the hot path reads them. Immutable: a change is a new one.

What a rule asks of a request is of two kinds. Model, endpoint, key and tools are the same for thousands of
requests: which rules can match at all is worked out once for each combination that is seen. `metadata` and the
language of the question are looked at for each request, and only where one of the rules that are left asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from pointsman.contracts.modes import ModePolicy
from pointsman.contracts.policies import Match, Policy, PolicyDocument, Rule, Saturation, Stage, WhenSpent
from pointsman.router.policies.language import language_of

MOST_COMBINATIONS = 4096
"""Combinations of model, endpoint, key and tools that one policy remembers; with more, all are forgotten."""

WHOLE = 1 << 32
"""What conversations' keys are below: a share of all conversations is this share of it."""


class ArmName(StrEnum):
    """Which of a tenant's two policies."""

    PRESENT = "present"
    CANDIDATE = "candidate"


class _Ruled(NamedTuple):
    """A rule that can match, what it still asks of the request, and what it makes of the policy."""

    metadata: tuple[tuple[str, str], ...]
    languages: frozenset[str]
    modes: ModePolicy


Combination = tuple[str, str, bytes, bool]
"""Model, endpoint, digest of the key, and whether there are tools."""


@dataclass(frozen=True, slots=True)
class Arm:
    """
    One of the two policies of a tenant: which one, of which version, and how far the candidate has gone live.

    `stage` is None where there is no candidate. `modes` is what holds where no rule matches; `saturation` is how
    far load may raise the threshold.
    """

    name: ArmName
    policy: Policy
    version: str
    stage: Stage | None
    modes: ModePolicy
    rules: tuple[tuple[Match, _Ruled], ...]
    saturation: Saturation | None
    _able: dict[Combination, tuple[_Ruled, ...]] = field(default_factory=dict, compare=False, repr=False)

    def modes_for(
        self, model: str, endpoint: str, key: bytes, payload: Mapping[str, Any], question: str | None
    ) -> ModePolicy:
        """
        What the policy says about a request, after the first of its rules that matches.

        `model`: its public name; `endpoint`: the path; `key`: digest of the key; `payload`: the request's fields,
        of which `tools` and `metadata` count; `question`: what its language is told from.
        """
        if not self.rules:
            return self.modes
        combination = (model, endpoint, key, bool(payload.get("tools")))
        able = self._able.get(combination)
        if able is None:
            able = self._remember(combination)
        given: Any = None
        language: str | None = ""
        for metadata, languages, modes in able:
            if metadata:
                if given is None:
                    given = payload.get("metadata") or {}
                for name, value in metadata:
                    if given.get(name) != value:
                        break
                else:
                    if not languages:
                        return modes
                    if language == "":
                        language = language_of(question)
                    if language in languages:
                        return modes
            elif languages:
                if language == "":
                    language = language_of(question)
                if language in languages:
                    return modes
            else:
                return modes
        return self.modes

    def _remember(self, combination: Combination) -> tuple[_Ruled, ...]:
        able = []
        for match, ruled in self.rules:
            if _can_match(match, combination):
                able.append(ruled)
                if not (ruled.metadata or ruled.languages):
                    break  # it matches: none after it counts
        if len(self._able) >= MOST_COMBINATIONS:
            self._able.clear()
        self._able[combination] = tuple(able)
        return self._able[combination]


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
    rules = tuple((rule.match, _ruled(rule, modes)) for rule in policy.rules)
    return Arm(name, policy, version, stage, modes, rules, policy.saturation)


def _ruled(rule: Rule, modes: ModePolicy) -> _Ruled:
    changes: dict[str, Any] = {"rule": rule.name, "required": rule.mode}
    if rule.threshold is not None:
        changes |= {"threshold": rule.threshold, "cost_of_wrong_fast": None}
    if rule.default_mode is not None:
        changes["default"] = rule.default_mode
    match = rule.match
    return _Ruled(tuple(match.metadata.items()), frozenset(match.languages), replace(modes, **changes))


def _can_match(match: Match, combination: Combination) -> bool:
    model, endpoint, key, tools = combination
    return (
        (not match.models or model in match.models)
        and (not match.endpoints or endpoint in match.endpoints)
        and (not match.keys or key.hex() in match.keys)
        and (match.tools is None or match.tools is tools)
    )
