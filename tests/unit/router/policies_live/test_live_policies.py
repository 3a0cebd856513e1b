"""Changing policies: versions, two writers, what a change leaves alone, and Redis away."""

from __future__ import annotations

import pytest

from pointsman.contracts.errors import InvalidRequest, PreconditionFailed, PreconditionRequired, TenantNotFound
from pointsman.contracts.modes import Mode
from pointsman.contracts.policies import MAX_RULES, Policy, PolicyDocument, Rule, Stage
from pointsman.router.admin.live_policies import LivePolicies
from pointsman.store.database import Database
from pointsman.store.policies import PolicyStore, VersionConflict
from pointsman.store.policy_projection import change_of, decoded, document_of, encoded

FAST = PolicyDocument(policy=Policy(threshold=0.9))


def test_versions_go_up_and_the_configuration_comes_back(policies: LivePolicies, plain: str) -> None:
    assert (policies.present(plain).version, policies.present(plain).latest) == (0, 0)
    first = policies.put(plain, FAST, expected=None, by="a", comment="c")
    assert (first.version, first.document, first.live) == (1, FAST, False)  # Redis is away
    with pytest.raises(PreconditionRequired):
        policies.put(plain, FAST, expected=None, by="a", comment="")
    with pytest.raises(PreconditionFailed):
        policies.put(plain, FAST, expected=0, by="a", comment="")
    gone = policies.delete(plain, expected=1, by="a", comment="")
    assert (gone.version, gone.latest, gone.document) == (0, 2, PolicyDocument())
    assert policies.delete(plain, expected=None, by="a", comment="").latest == 2  # nothing to take back
    again = policies.put(plain, FAST, expected=None, by="a", comment="")
    assert again.version == 3
    assert [one.version for one in policies.history(plain, limit=9, before=3)] == [2, 1]
    with pytest.raises(TenantNotFound):
        policies.present("nobody")


def test_of_two_writers_the_database_takes_one(database: Database, policies: LivePolicies, plain: str) -> None:
    store = PolicyStore(database)
    store.write(plain, FAST, after=0, by="another process")
    with pytest.raises(VersionConflict):
        store.write(plain, FAST, after=0, by="a")
    rule = Rule(name="pin", mode=Mode.THINK)
    assert policies.append_rule(plain, rule, "a").version == 2  # made of what is there now
    kept = policies.present(plain).document
    assert (kept.policy.threshold, kept.policy.rules) == (0.9, (rule,))


def test_a_pinned_rule_is_first_everywhere_and_once(policies: LivePolicies, staged: str) -> None:
    for mode in (Mode.THINK, Mode.NO_THINK):
        policies.append_rule(staged, Rule(name="other", threshold=0.1), "a")
        present = policies.append_rule(staged, Rule(name="pin", mode=mode), "a")
    candidate = present.document.candidate
    assert candidate is not None
    for policy in (present.document.policy, candidate.policy):
        assert [(rule.name, rule.mode) for rule in policy.rules] == [("pin", Mode.NO_THINK), ("other", None)]
    assert (candidate.stage, candidate.policy.threshold) == (Stage.ENFORCE, 0.2)
    full = Policy(rules=tuple(Rule(name=f"r{number}", mode=Mode.THINK) for number in range(MAX_RULES)))
    policies.put(staged, PolicyDocument(policy=full), expected=4, by="a", comment="")
    with pytest.raises(InvalidRequest, match="200 rules"):
        policies.append_rule(staged, Rule(name="pin", mode=Mode.THINK), "a")
    assert (
        policies.append_rule(staged, Rule(name="r7", mode=Mode.NO_THINK), "a").document.policy.rules[0].name == "r7"
    )


def test_a_candidate_of_the_file_can_be_moved_and_promoted(policies: LivePolicies, staged: str) -> None:
    moved = policies.move(staged, Stage.CANARY, share=0.5, by="a")
    assert moved.document.candidate is not None
    assert (moved.document.candidate.stage, moved.document.candidate.share) == (Stage.CANARY, 0.5)
    promoted = policies.promote(staged, expected=1, by="a", comment="")
    assert promoted.document == PolicyDocument(policy=Policy(threshold=0.2))
    assert [one.comment for one in policies.history(staged, limit=2, before=None)] == ["promoted", "stage canary"]


def test_a_document_survives_database_and_redis(database: Database, plain: str) -> None:
    text = encoded(PolicyDocument.model_validate({"policy": {"cost_of_wrong_fast": 0.002, "abstain": [0.4, 0.6]}}))
    written = PolicyStore(database).write(plain, decoded(text), after=0, by="a")
    assert written.document == text
    version, document = document_of(change_of(written).entry)
    assert (version, decoded(document or b"")) == (1, decoded(text))
    taken_back = PolicyStore(database).write(plain, None, after=1, by="a")
    assert document_of(change_of(taken_back).entry) == (2, None)
