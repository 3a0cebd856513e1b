"""How one version of a pool replaces another: a pure step from what is observed to what ought to be.

Separate from what reads and writes the cluster, so that every course of an upgrade can be tested without one. All
that a step remembers lies in the pool's status: whoever is killed between two steps goes on from there, and the
same step taken twice changes nothing.

A new version gets the shares of `spec.upgrade.shares` one after the other, each once it has the replicas for it,
and each is watched against the present version for `hold` seconds; the present one keeps all its replicas until
then, so that going back is instant. After the last share it takes over replica by replica. One that too few
have asked to judge it goes no further unless the spec says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import ceil

from pointsman.operators.deployment import Unobserved, Upgrade
from pointsman.operators.ray_service import Counts
from pointsman.operators.statuses import CanaryStatus, DrainingStatus

WHOLE = 1000
"""All of a pool's traffic, in the weights that the admin API takes."""

PATIENCE = 3
"""How many times `hold` a share is kept until it is told that the new version has too few requests to judge by."""

SETTLED = 3.0
"""Seconds until every router has surely heard that a version gets nothing any more."""

TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Report:
    """What routers say of one version: over the last `window` seconds, and `replicas` and `running` now."""

    replicas: int = 0
    running: int = 0
    requests: int = 0
    errors: int = 0
    ttft: float | None = None
    """Time to first token in seconds, 95th percentile."""
    window: float = 60.0


@dataclass(frozen=True, slots=True)
class Observed:
    """
    The world, as of `now`.

    `reports`: by revision; None where no router could be asked: then nothing moves. `failures`: why a version
    cannot start, by revision, as Ray says it. `serving`: versions that Ray has replicas of. `existing`: versions
    that have a RayService, the oldest first.
    """

    now: datetime
    reports: Mapping[str, Report] | None
    failures: Mapping[str, str] = field(default_factory=dict)
    serving: frozenset[str] = frozenset()
    existing: tuple[str, ...] = ()

    def answers(self, revision: str) -> bool:
        """Whether routers or Ray know a replica of `revision`: one that both have lost has nothing to lose."""
        known = (self.reports or {}).get(revision, Report()).replicas
        return known > 0 or revision in self.serving


@dataclass(frozen=True, slots=True)
class Course:
    """Where the upgrade of a pool stands; what its status keeps."""

    revision: str | None = None
    canary: CanaryStatus | None = None
    draining: tuple[DrainingStatus, ...] = ()
    failed_revision: str | None = None
    failed_message: str | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to tell whoever looks at the pool."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """
    What ought to be: `course` goes into the status first, then `traffic` (weights by revision, empty: no split;
    None: as it is) to the routers, then `versions` are applied (None: kept as they are), and RayServices of no
    version among them deleted.
    """

    course: Course
    versions: Mapping[str, Counts | None]
    traffic: Mapping[str, int] | None
    happenings: tuple[Happening, ...] = ()


def step(
    course: Course,
    *,
    wanted: str,
    counts: Counts,
    upgrade: Upgrade,
    start_timeout: float,
    drain_timeout: float,
    observed: Observed,
) -> Step:
    """The next step of a pool whose spec asks for the version `wanted` with `counts` replicas."""
    told: list[Happening] = []
    course = _with_present(course, wanted, observed)
    present = course.revision
    if course.failed_revision is not None and course.failed_revision != wanted:
        course = replace(course, failed_revision=None, failed_message=None)
    if course.canary is not None and course.canary.revision != wanted:
        told.append(Happening("UpgradeCancelled", f"version {course.canary.revision} is wanted no more"))
        course = _drained(course, course.canary.revision, observed.now)
    if wanted not in (present, course.failed_revision) and observed.reports is not None:
        course = _advanced(course, wanted, counts, upgrade, start_timeout, observed, told)
    course = replace(course, draining=_still_draining(course, drain_timeout, observed))
    return Step(
        course, _versions(course, counts, upgrade, observed), _traffic(course, counts, observed), tuple(told)
    )


def _with_present(course: Course, wanted: str, observed: Observed) -> Course:
    """`course` with a present version that exists, or that can be made to: what is gone for good is replaced."""
    if course.revision is not None and (course.revision == wanted or course.revision in observed.existing):
        return course
    leaving = {each.revision for each in course.draining}
    others = [each for each in observed.existing if each not in leaving and each != course.failed_revision]
    present = others[0] if others else wanted
    canary = course.canary if course.canary is not None and course.canary.revision != present else None
    failed = course.failed_revision if course.failed_revision != present else None
    message = course.failed_message if failed is not None else None
    return replace(course, revision=present, canary=canary, failed_revision=failed, failed_message=message)


def _advanced(
    course: Course,
    wanted: str,
    counts: Counts,
    upgrade: Upgrade,
    start_timeout: float,
    observed: Observed,
    told: list[Happening],
) -> Course:
    """`course` after one look at the version `wanted`, which is not the present one."""
    assert observed.reports is not None
    assert course.revision is not None
    now, present = observed.now, observed.reports.get(course.revision, Report())
    if not observed.answers(course.revision) and (course.canary is None or course.canary.share == 0):
        told.append(Happening("Replaced", f"version {wanted} replaces {course.revision}, which has no replica"))
        return _promoted(course, wanted, now)
    if course.canary is None:
        told.append(Happening("UpgradeStarted", f"version {wanted} is started beside {course.revision}"))
        return replace(course, canary=CanaryStatus(revision=wanted, share=0.0, since=_text(now)))
    canary = _looked(course.canary, present, observed.reports.get(wanted, Report()), upgrade, now)
    if (why := observed.failures.get(wanted)) or (why := _worse(canary, upgrade)):
        return _rolled_back(course, canary, why, now, told)
    held = (now - _time(canary.since)).total_seconds()
    ready = observed.reports.get(wanted, Report()).replicas
    full = _full(counts, present)
    if canary.share == 1:
        if ready >= full:
            told.append(Happening("Upgraded", f"version {wanted} answers all requests"))
            return _promoted(course, wanted, now)
        return replace(course, canary=canary)
    if canary.share > 0 and not _held_long_enough(canary, upgrade, held):
        if held >= upgrade.hold * PATIENCE and canary.requests < upgrade.at_least and not canary.unobserved:
            canary = canary.model_copy(update={"unobserved": True})
            told.append(Happening("CanaryUnobserved", unobserved(canary, upgrade), warning=True))
        return replace(course, canary=canary)
    following = _following(upgrade, canary.share)
    if ready < _needed(upgrade, following, full):
        if canary.share == 0 and held > start_timeout:
            why = f"no replica of it has answered within {start_timeout:.0f} s"
            return _rolled_back(course, canary, why, now, told)
        return replace(course, canary=canary)
    if canary.share > 0 and canary.requests < upgrade.at_least:
        text = f"version {wanted} goes on as `unobserved` says, though it had {_of_requests(canary, upgrade)}"
        told.append(Happening("CanaryUnobserved", text, warning=True))
    told.append(Happening("ShareRaised", f"version {wanted} gets {following:.0%} of the requests"))
    return replace(course, canary=CanaryStatus(revision=wanted, share=following, since=_text(now)))


def _looked(canary: CanaryStatus, present: Report, new: Report, upgrade: Upgrade, now: datetime) -> CanaryStatus:
    """`canary` with one more look at both versions in it, where a whole window has passed since the last."""
    if not 0 < canary.share < 1:
        return canary
    since = (now - _time(canary.looked or canary.since)).total_seconds()
    if since < min(new.window, upgrade.hold):
        return canary
    looks, requests = canary.looks + 1, canary.requests + new.requests
    failed = (canary.errors or 0.0) * canary.requests + new.errors
    share_failed = present.errors / present.requests if present.requests else None
    return canary.model_copy(
        update={
            "looks": looks,
            "looked": _text(now),
            "requests": requests,
            "errors": min(1.0, failed / requests) if requests else None,
            "ttft": _mean(canary.ttft, new.ttft, looks),
            "present_errors": _mean(canary.present_errors, share_failed, looks),
            "present_ttft": _mean(canary.present_ttft, present.ttft, looks),
        }
    )


def _worse(canary: CanaryStatus, upgrade: Upgrade) -> str | None:
    """In what the new version is worse than the present one, so far that it goes; None where it is not."""
    if canary.requests < upgrade.at_least:
        return None
    errors, present = canary.errors or 0.0, canary.present_errors or 0.0
    if errors > present + upgrade.errors:
        return f"{errors:.1%} of its {canary.requests} requests failed, {present:.1%} of the present version's"
    if canary.ttft and canary.present_ttft and canary.ttft > canary.present_ttft * upgrade.ttft:
        seconds = f"{canary.ttft:.2f} s, the present version's after {canary.present_ttft:.2f} s"
        return f"its first token came after {seconds}"
    return None


def _held_long_enough(canary: CanaryStatus, upgrade: Upgrade, held: float) -> bool:
    if held < upgrade.hold or canary.looks == 0:
        return False
    if canary.requests >= upgrade.at_least:
        return True
    return upgrade.unobserved is Unobserved.PROMOTE and held >= upgrade.hold * PATIENCE


def unobserved(canary: CanaryStatus, upgrade: Upgrade) -> str:
    """What is told of a version that has waited in vain for requests to judge it by."""
    return (
        f"version {canary.revision} keeps its {canary.share:.0%} of the requests: it had "
        f"{_of_requests(canary, upgrade)}. It goes on once it has had them, or by spec.upgrade.unobserved: promote"
    )


def _of_requests(canary: CanaryStatus, upgrade: Upgrade) -> str:
    return f"{canary.requests} of the {upgrade.at_least} requests that it is judged by"


def _following(upgrade: Upgrade, share: float) -> float:
    return next((each for each in upgrade.shares if each > share), 1.0)


def _full(counts: Counts, present: Report) -> int:
    """Replicas that the new version has once it is the present one: where they are scaled, as many as run now."""
    if counts.least == counts.most:
        return counts.least
    return min(counts.most, max(counts.least, present.replicas))


def _needed(upgrade: Upgrade, share: float, full: int) -> int:
    """Replicas that the new version must have before it gets `share`; the last share is grown into."""
    if share == 1 and upgrade.shares:
        share = upgrade.shares[-1]
    return max(1, ceil(share * full))


def _promoted(course: Course, revision: str, now: datetime) -> Course:
    former = course.revision
    course = replace(course, revision=revision, canary=None, failed_revision=None, failed_message=None)
    return course if former is None else _drained(course, former, now)


def _rolled_back(course: Course, canary: CanaryStatus, why: str, now: datetime, told: list[Happening]) -> Course:
    message = f"version {canary.revision} was rolled back: {why}"
    told.append(Happening("RolledBack", message, warning=True))
    course = _drained(course, canary.revision, now)
    return replace(course, failed_revision=canary.revision, failed_message=message)


def _drained(course: Course, revision: str, now: datetime) -> Course:
    """`course` with the version `revision` on its way out, no canary any more."""
    others = tuple(each for each in course.draining if each.revision != revision)
    return replace(course, canary=None, draining=(*others, DrainingStatus(revision=revision, since=_text(now))))


def _still_draining(course: Course, drain_timeout: float, observed: Observed) -> tuple[DrainingStatus, ...]:
    kept = {course.revision, course.canary.revision if course.canary else None}

    def remains(each: DrainingStatus) -> bool:
        drained = (observed.now - _time(each.since)).total_seconds()
        if each.revision in kept or drained >= drain_timeout:
            return False
        if observed.reports is None or drained < SETTLED:
            return True
        return observed.reports.get(each.revision, Report()).running > 0

    return tuple(each for each in course.draining if remains(each))


def _versions(course: Course, counts: Counts, upgrade: Upgrade, observed: Observed) -> dict[str, Counts | None]:
    assert course.revision is not None
    versions: dict[str, Counts | None] = {each.revision: None for each in course.draining}
    versions[course.revision] = counts
    if course.canary is None:
        return versions
    if observed.reports is None:
        return {**versions, course.revision: None, course.canary.revision: None}
    ready = observed.reports.get(course.canary.revision, Report()).replicas
    full = _full(counts, observed.reports.get(course.revision, Report()))
    if course.canary.share < 1:
        grown = _needed(upgrade, _following(upgrade, course.canary.share), full)
        versions[course.canary.revision] = _at_least(counts, grown)
        return versions
    surge = _needed(upgrade, upgrade.shares[0] if upgrade.shares else 1.0, full)
    grown = max(_needed(upgrade, 1.0, full), ready + surge)
    left = max(1, full - ready)
    versions[course.canary.revision] = _at_least(counts, min(full, grown))
    versions[course.revision] = Counts(min(counts.least, left), min(counts.most, left))
    return versions


def _at_least(counts: Counts, least: int) -> Counts:
    return Counts(least, least if counts.least == counts.most else max(counts.most, least))


def _traffic(course: Course, counts: Counts, observed: Observed) -> dict[str, int] | None:
    """Weights by revision; where one version alone is known none are needed."""
    if observed.reports is None:
        return None
    assert course.revision is not None
    weights = {each.revision: 0 for each in course.draining}
    if course.canary is not None:
        share = course.canary.share
        if share == 1:
            full = _full(counts, observed.reports.get(course.revision, Report()))
            ready = observed.reports.get(course.canary.revision, Report()).replicas
            share = min(1.0, ready / max(1, full))
        weights[course.canary.revision] = round(WHOLE * share)
        weights[course.revision] = WHOLE - weights[course.canary.revision]
    elif weights:
        weights[course.revision] = WHOLE
    return weights


def _mean(mean: float | None, value: float | None, number: int) -> float | None:
    """The mean of `number` values, of which `value` is the last and `mean` that of the ones before."""
    if mean is None or value is None:
        return value if mean is None else mean
    return mean + (value - mean) / number


def _time(text: str) -> datetime:
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(TIME)
