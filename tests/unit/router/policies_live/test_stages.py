"""The keeper of stages: what sends a candidate back, when, how far, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.contracts.decisions import DecisionRecord
from pointsman.contracts.errors import PreconditionFailed
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.policies import Candidate, Policy, PolicyDocument, Stage, StageLimits, Trigger
from pointsman.router.admin.live_policies import LivePolicies
from pointsman.router.stages import BUCKETS, REASONS, Figures, StageKeeper, Window, beyond

NOW = 1_800_000_000.0


def record(tenant: str, version: int = 0, **fields: Any) -> DecisionRecord:
    """A decision by a candidate in enforce that went well."""
    values: dict[str, Any] = {
        "id": "dec-" + "0" * 32,
        "request_id": "req-1",
        "at": NOW,
        "tenant": tenant,
        "key": "0" * 8,
        "model": "m",
        "endpoint": "/v1/chat/completions",
        "mode": Mode.NO_THINK,
        "source": Source.PREDICTOR,
        "detail": "threshold",
        "probability": 0.1,
        "threshold": 0.2,
        "policy_version": str(version),
        "arm": "candidate",
        "stage": Stage.ENFORCE,
        "shadow": Mode.NO_THINK,
        "predictor": "base",
        "status": 200,
        "duration": 1.0,
    }
    return DecisionRecord(**{**values, **fields})


BAD: dict[str, dict[str, Any]] = {
    "errors": {"status": 502},
    "escalations": {"escalated": Trigger.EMPTY},
    "disagreement": {"shadow": Mode.THINK},
}


class Returns(list[tuple[str, Stage, str]]):
    def __call__(self, *what: Any) -> None:
        self.append(what)


@pytest.fixture
def returns() -> Returns:
    return Returns()


@pytest.fixture
def keeper(policies: LivePolicies, returns: Returns) -> StageKeeper:
    policies.all_present()
    return StageKeeper(policies, returned=returns)


def stage_of(policies: LivePolicies, tenant: str) -> Stage:
    candidate = policies.present(tenant).document.candidate
    assert candidate is not None
    return candidate.stage


@pytest.mark.parametrize("reason", REASONS)
def test_each_limit_sends_back_once_it_is_exceeded(
    reason: str, keeper: StageKeeper, policies: LivePolicies, returns: Returns, staged: str
) -> None:
    limit = getattr(StageLimits(), reason)
    enough = int(100 * limit)
    keeper.seen(record(staged) for _ in range(100 - enough))
    keeper.seen(record(staged, **BAD[reason]) for _ in range(enough))
    keeper.tick(NOW)
    assert stage_of(policies, staged) is Stage.ENFORCE  # at the limit, not beyond it
    keeper.seen(record(staged, **BAD[reason]) for _ in range(2))
    keeper.tick(NOW + 1)
    present = policies.present(staged)
    assert stage_of(policies, staged) is Stage.CANARY
    assert returns == [(staged, Stage.ENFORCE, reason)]
    assert present.written is not None
    assert present.written.updated_by == "pointsman"
    assert f"back from enforce to canary: {reason} " in present.written.comment
    assert "in 102 requests of the last 60 s" in present.written.comment


def test_it_goes_back_step_by_step_and_each_version_starts_from_nothing(
    keeper: StageKeeper, policies: LivePolicies, returns: Returns, staged: str
) -> None:
    keeper.seen(record(staged, status=500) for _ in range(10))
    keeper.tick(NOW)
    keeper.seen(record(staged, status=500) for _ in range(50))  # of the version before, arriving late
    keeper.tick(NOW + 1)
    assert stage_of(policies, staged) is Stage.CANARY
    keeper.seen(record(staged, version=1, status=500, stage=Stage.CANARY) for _ in range(9))
    keeper.tick(NOW + 2)
    assert stage_of(policies, staged) is Stage.CANARY  # fewer than `at_least`
    keeper.seen([record(staged, version=1, status=500, stage=Stage.CANARY)])
    keeper.tick(NOW + 3)
    assert stage_of(policies, staged) is Stage.OBSERVE
    assert [stage for _, stage, _ in returns] == [Stage.ENFORCE, Stage.CANARY]
    observed = {"version": 2, "stage": Stage.OBSERVE, "arm": "present", "shadow": Mode.THINK, "status": 500}
    keeper.seen(record(staged, **observed) for _ in range(20))
    keeper.tick(NOW + 4)
    assert policies.present(staged).version == 2  # there is nothing before observe
    looked = keeper.figures(policies.present(staged))
    assert looked is not None
    assert looked.figures == Figures(20, 0, 0, 20)


def test_what_the_present_policy_does_is_not_held_against_the_candidate(
    keeper: StageKeeper, policies: LivePolicies, staged: str, plain: str
) -> None:
    policies.move(staged, Stage.CANARY, by="test")
    keeper.seen(record(staged, 1, status=500, stage=Stage.CANARY, arm="present") for _ in range(100))
    keeper.seen(record(plain, status=500, stage=None, arm="present") for _ in range(100))
    keeper.seen(record("nobody", status=500) for _ in range(100))
    keeper.tick(NOW)
    assert stage_of(policies, staged) is Stage.CANARY
    assert keeper.figures(policies.present(staged)) is None


def test_a_writer_that_was_faster_is_not_overwritten(
    keeper: StageKeeper, policies: LivePolicies, returns: Returns, staged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: Any, **__: Any) -> None:
        raise PreconditionFailed("x")

    keeper.seen(record(staged, status=500) for _ in range(10))
    with monkeypatch.context() as patched:
        patched.setattr(policies, "move", too_late)
        keeper.tick(NOW)
    assert returns == []
    policies.put(staged, PolicyDocument(policy=Policy()), expected=0, by="test", comment="")
    keeper.tick(NOW + 1)
    assert policies.present(staged).document == PolicyDocument(policy=Policy())
    keeper.tick(NOW + 2)


def test_requests_that_take_longer_than_the_window_count_when_they_end(
    keeper: StageKeeper, policies: LivePolicies, staged: str
) -> None:
    for second in range(10):
        keeper.seen([record(staged, at=NOW + second, duration=600.0, status=504)])
    keeper.tick(NOW + 610)
    assert stage_of(policies, staged) is Stage.CANARY


def test_a_clock_that_was_ahead_does_not_keep_the_window_open() -> None:
    window = Window(1, 60.0)
    window.add(NOW + 86_400, Figures(7, 1))
    assert window.sums(NOW) == Figures(7, 1)
    for second in range(30):
        window.add(NOW + second, Figures(1))
    assert window.sums(NOW + 30) == Figures(37, 1)
    assert window.sums(NOW + 95) == Figures()


def test_only_the_window_counts() -> None:
    window = Window(1, 60.0)
    window.add(NOW, Figures(10, 1, 2, 3))
    window.add(NOW + 30, Figures(5))
    window.add(NOW + 20, Figures(1, 1))  # late: counts with the newest
    assert window.sums(NOW + 30) == Figures(16, 2, 2, 3)
    assert window.sums(NOW + 59) == Figures(16, 2, 2, 3)
    assert window.sums(NOW + 62) == Figures(6, 1, 0, 0)
    assert window.sums(NOW + 92) == Figures()
    for second in range(1000):
        window.add(NOW + second, Figures(1))
        assert window.sums(NOW + second).requests <= 60 + 60 // BUCKETS


def test_limits_are_beyond_not_at() -> None:
    limits = Candidate(policy=Policy()).limits
    assert beyond(Figures(49, 49, 49, 49), limits) is None
    assert beyond(Figures(100, 10, 5, 50), limits) is None
    assert beyond(Figures(100, 11, 6, 51), limits) == "errors"
    assert beyond(Figures(100, 11, 5, 51), limits) == "escalations"
    assert beyond(Figures(100, 0, 0, 51), limits) == "disagreement"
