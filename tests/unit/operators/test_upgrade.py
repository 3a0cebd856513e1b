"""Every course of an upgrade: shares, verdicts, going back, taking over, whatever happens in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.operators.deployment import Unobserved, Upgrade
from pointsman.operators.ray_service import Counts
from pointsman.operators.upgrade import WHOLE, Course, Observed, Report, Step, step

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """A pool whose replicas start at once, or never, and whose versions answer as `behaviour` says."""

    wanted: str = "old"
    counts: Counts = field(default_factory=lambda: Counts(4, 4))
    upgrade: Upgrade = field(default_factory=lambda: Upgrade(shares=(0.25, 0.5), hold=300.0, at_least=50))
    now: datetime = START
    course: Course = field(default_factory=Course)
    versions: dict[str, int] = field(default_factory=dict)
    behaviour: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By version: the share of its requests that fail, and its time to first token."""
    requests: int = 2000
    broken: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    taken: Step | None = None

    def reports(self) -> Mapping[str, Report]:
        weights = (self.taken.traffic if self.taken else None) or {self.wanted: WHOLE}
        total = sum(weights.values()) or 1
        found = {}
        for version, number in self.versions.items():
            errors, ttft = self.behaviour.get(version, (0.0, 0.5))
            asked = round(self.requests * weights.get(version, 0) / total)
            ready = 0 if version in self.broken else number
            found[version] = Report(ready, 0, asked, round(asked * errors), ttft if asked else None)
        return found

    def look(self, *, blind: bool = False) -> Step:
        taken = step(
            self.course,
            wanted=self.wanted,
            counts=self.counts,
            upgrade=self.upgrade,
            start_timeout=1800.0,
            drain_timeout=300.0,
            observed=Observed(
                now=self.now,
                reports=None if blind else self.reports(),
                failures=self.failures,
                existing=tuple(self.versions),
            ),
        )
        self.taken, self.course = taken, taken.course
        self.told += [each.reason for each in taken.happenings]
        self.versions = {
            version: self.versions.get(version, 0) if counts is None else counts.least
            for version, counts in taken.versions.items()
        }
        return taken

    def run(self, seconds: float, *, each: float = 10.0) -> None:
        for _ in range(int(seconds / each)):
            self.look()
            self.now += timedelta(seconds=each)


def begun(**options: object) -> World:
    """A world whose version `old` answers, just told to have `new`."""
    world = World(**options)  # type: ignore[arg-type]
    world.look()
    world.wanted = "new"
    return world


def test_a_good_version_takes_over_share_by_share() -> None:
    world = begun()
    shares, surplus = [], 0
    for _ in range(200):
        world.look()
        if world.course.canary and world.course.canary.share not in shares:
            shares.append(world.course.canary.share)
        surplus = max(surplus, sum(world.versions.values()))
        world.now += timedelta(seconds=10)
    assert shares == [0.0, 0.25, 0.5, 1.0]
    assert world.course.revision == "new"
    assert world.versions == {"new": 4}
    assert world.taken is not None
    assert world.taken.traffic == {}
    assert surplus == 6, "half as many again at most, with these shares"
    assert world.told == ["UpgradeStarted", "ShareRaised", "ShareRaised", "ShareRaised", "Upgraded"]


def test_the_present_version_keeps_its_replicas_while_the_new_one_is_watched() -> None:
    world = begun()
    while not (world.course.canary and world.course.canary.share == 0.5):
        world.look()
        assert world.versions["old"] == 4
        world.now += timedelta(seconds=10)
    assert world.taken is not None
    assert world.taken.traffic == {"old": 500, "new": 500}


@pytest.mark.parametrize(
    ("behaviour", "what"),
    [((0.2, 0.5), "requests failed"), ((0.0, 2.0), "first token")],
    ids=["errors", "slow"],
)
def test_a_worse_version_is_taken_back(behaviour: tuple[float, float], what: str) -> None:
    world = begun(behaviour={"new": behaviour})
    world.run(400)
    assert world.course.failed_revision == "new"
    assert what in (world.course.failed_message or "")
    world.run(400)
    assert world.versions == {"old": 4}
    assert world.taken is not None
    assert world.taken.traffic == {}
    assert world.told.count("RolledBack") == 1, "it is not tried again"
    world.wanted = "newer"
    world.run(3000)
    assert world.course.revision == "newer"
    assert world.course.failed_revision is None


def test_one_as_bad_as_the_present_version_is_no_reason_to_go_back() -> None:
    world = begun(behaviour={"old": (0.2, 2.0), "new": (0.2, 2.0)})
    world.run(3000)
    assert world.course.revision == "new"


def test_a_version_that_never_starts_is_taken_back_and_gets_nothing() -> None:
    world = begun(broken={"new"})
    for _ in range(220):
        taken = world.look()
        assert (taken.traffic or {}).get("new", 0) == 0
        world.now += timedelta(seconds=10)
    assert world.course.failed_revision == "new"
    assert "no replica" in (world.course.failed_message or "")
    assert world.versions == {"old": 4}


def test_what_ray_says_of_a_version_that_cannot_start_ends_it_at_once() -> None:
    world = begun(broken={"new"}, failures={"new": "no such model"})
    world.run(30)
    assert "no such model" in (world.course.failed_message or "")


def test_a_version_that_too_few_ask_goes_no_further_and_says_so_once() -> None:
    world = begun(requests=1)
    world.run(800)
    assert world.course.canary is not None
    assert (world.course.canary.share, world.course.canary.unobserved) == (0.25, False)
    world.run(9000)
    assert (world.course.canary.share, world.course.canary.unobserved) == (0.25, True)
    assert world.told == ["UpgradeStarted", "ShareRaised", "CanaryUnobserved"]
    assert world.versions["old"] == 4
    world.requests = 400  # somebody asks after all
    world.run(4000)
    assert world.course == Course(revision="new")


@pytest.mark.parametrize("late", [False, True], ids=["from-the-start", "when-it-waits"])
def test_a_version_that_too_few_ask_is_promoted_where_the_spec_says_so(late: bool) -> None:
    promoting = Upgrade(shares=(0.25, 0.5), hold=300.0, at_least=50, unobserved=Unobserved.PROMOTE)
    world = begun(requests=1) if late else begun(requests=1, upgrade=promoting)
    world.run(700)
    assert world.course.canary is not None
    assert world.course.canary.share == 0.25
    if late:
        world.run(4000)
        assert world.course.canary.unobserved
        world.upgrade = promoting
    world.run(4000)
    assert world.course == Course(revision="new")
    assert world.told.count("CanaryUnobserved") == 2 + late


def test_a_version_that_fails_goes_back_when_enough_have_asked_it_late() -> None:
    world = begun(requests=1, behaviour={"new": (0.5, 0.5)})
    world.run(4000)
    assert world.course.canary is not None
    assert world.course.canary.unobserved
    world.requests = 400
    world.run(1000)
    assert world.course.failed_revision == "new"


def test_a_version_that_answers_nobody_is_replaced_at_once() -> None:
    world = begun(broken={"old"})
    world.look()
    assert world.course.revision == "new"
    world.run(30)
    assert world.versions == {"new": 4}


def test_where_nothing_is_known_nothing_moves() -> None:
    world = begun()
    world.run(100)
    before = (world.course, dict(world.versions))
    for _ in range(50):
        taken = world.look(blind=True)
        assert taken.traffic is None
        world.now += timedelta(seconds=60)
    assert (world.course, world.versions) == before


def test_back_to_the_present_version_while_another_is_tried() -> None:
    world = begun()
    world.run(100)
    world.wanted = "old"
    world.run(60)
    assert world.versions == {"old": 4}
    assert world.course == Course(revision="old")


def test_a_lost_status_is_made_up_from_what_exists() -> None:
    world = begun()
    world.run(100)
    world.course = Course()
    world.run(3000)
    assert world.course.revision == "new"
    assert world.versions == {"new": 4}


@given(
    looks=st.lists(
        st.tuples(st.sampled_from(["old", "new", "newer"]), st.booleans(), st.floats(1, 400), st.integers(0, 3)),
        max_size=60,
    ),
    counts=st.sampled_from([Counts(0, 0), Counts(1, 1), Counts(4, 4), Counts(1, 8), Counts(0, 3)]),
    shares=st.sampled_from([(), (0.1,), (0.1, 0.5), (1.0,)]),
)
def test_whatever_happens(
    looks: list[tuple[str, bool, float, int]], counts: Counts, shares: tuple[float, ...]
) -> None:
    """Somebody always gets the requests, nobody who has no replica gets all, and in the end one version is left."""
    world = World(counts=counts, upgrade=Upgrade(shares=shares, hold=60.0, at_least=10))
    world.look()
    for wanted, blind, seconds, behaviour in looks:
        world.wanted = wanted
        world.behaviour[wanted] = [(0.0, 0.5), (1.0, 0.5), (0.0, 9.0), (0.0, 0.5)][behaviour]
        taken = world.look(blind=blind)
        again = step(
            taken.course,
            wanted=wanted,
            counts=counts,
            upgrade=world.upgrade,
            start_timeout=1800.0,
            drain_timeout=300.0,
            observed=Observed(now=world.now, reports=None, existing=tuple(world.versions)),
        )
        assert again.course == taken.course, "what was decided holds when it is looked at again"
        if taken.traffic:
            assert sum(taken.traffic.values()) == WHOLE
            assert all(weight >= 0 for weight in taken.traffic.values())
        assert taken.course.revision in taken.versions
        if taken.course.canary is not None:
            assert taken.course.canary.revision in taken.versions
        world.now += timedelta(seconds=seconds)
    world.behaviour.clear()
    world.run(6000)
    assert world.course.canary is None
    assert world.course.draining == ()
    assert set(world.versions) == {world.course.revision}
    assert world.course.revision == world.wanted or world.course.failed_revision == world.wanted
