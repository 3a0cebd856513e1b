"""What the status of a ModelPool says of what was found and done.

Pure: what the keeper of pools knows after one look goes in, a status as it is written comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pointsman.operators.cluster import Object
from pointsman.operators.conditions import Condition, condition, merged
from pointsman.operators.documents import ModelPoolObject, ModelPoolStatus
from pointsman.operators.platform_pools import PlatformPool
from pointsman.operators.ray_service import POOL_LABEL, SERVE_PORT, Counts, ray_service_name
from pointsman.operators.upgrade import Course, Report, unobserved

UNKNOWN = "the admin API does not answer"


@dataclass(frozen=True, slots=True)
class Look:
    """
    What one look at a pool has shown. `platform` is None where the admin API could not be asked, `trouble` why not.
    `versions`: how many replicas each version is to have; None: as many as it has.
    """

    platform: PlatformPool | None
    trouble: str
    course: Course
    versions: Mapping[str, Counts | None]
    failures: Mapping[str, str]


def refused(generation: int, old: Object, reason: str, message: str) -> Object:
    """The status of a pool that is not acted upon; what was true of its replicas stays as it was."""
    conditions = [
        condition("Ready", False, reason, message, generation),
        condition("Accepted", False, reason, message, generation),
        *(one for one in old.get("conditions") or () if one.get("type") not in ("Ready", "Accepted")),
    ]
    phase = "Paused" if reason == "Paused" else "Failed"
    return {
        **old,
        "phase": phase,
        "observedGeneration": generation,
        "conditions": merged(old.get("conditions") or (), conditions),
    }


def draining(generation: int, old: Object, message: str) -> Object:
    """The status of a pool that is being deleted."""
    conditions = [condition("Ready", False, "Draining", message, generation)]
    return {
        **old,
        "phase": "Draining",
        "observedGeneration": generation,
        "conditions": merged(old.get("conditions") or (), conditions),
    }


def external(pool: ModelPoolObject, old: Object, platform: PlatformPool | None, trouble: str) -> Object:
    """The status of a pool whose replicas somebody else runs."""
    ready = old.get("readyReplicas") if platform is None else platform.ready
    status = ModelPoolStatus(
        observed_generation=pool.meta.generation,
        replicas=len(pool.pool.urls),
        ready_replicas=ready,
        gpus=0,
        endpoint=", ".join(pool.pool.urls),
        version=old.get("version") if platform is None else platform.version,
    )
    conditions = [*_synced(pool, platform, trouble), _available(pool, ready)]
    return _written(pool, status, conditions, old, ready or 0, len(pool.pool.urls))


def run(pool: ModelPoolObject, old: Object, look: Look) -> Object:
    """The status of a pool whose replicas Pointsman runs."""
    platform, course = look.platform, look.course
    reports: Mapping[str, Report] = (platform.reports if platform else None) or {}
    known = platform is not None and platform.reports is not None
    # Routers know the replicas of a version for a moment longer than it is there.
    answering = sum(reports.get(revision, Report()).replicas for revision in look.versions)
    ready = answering if known else old.get("readyReplicas")
    wanted = 0
    for revision, counts in look.versions.items():
        running = reports.get(revision, Report()).replicas
        if counts is None:
            wanted += running
        else:
            wanted += counts.least if counts.least == counts.most else max(counts.least, running)
    gpus = wanted * pool.pool.nodes * (pool.pool.gpu.per_node if pool.pool.gpu else 0)
    hourly = pool.deployment.gpu_hourly_usd
    assert course.revision is not None
    service = f"{ray_service_name(pool.meta, course.revision)}-serve-svc.{pool.meta.namespace}.svc"
    status = ModelPoolStatus(
        observed_generation=pool.meta.generation,
        replicas=wanted,
        ready_replicas=ready,
        selector=f"{POOL_LABEL}={pool.name}",
        gpus=gpus,
        hourly_usd=None if hourly is None else f"{hourly * gpus:f}",
        endpoint=f"http://{service}:{SERVE_PORT}",
        revision=course.revision,
        failed_revision=course.failed_revision,
        failed_message=course.failed_message,
        canary=course.canary,
        draining=course.draining,
        version=platform.version if platform else old.get("version"),
    )
    conditions = [
        *_synced(pool, platform, look.trouble),
        _available(pool, ready),
        _progressing(pool, look),
    ]
    return _written(pool, status, conditions, old, ready or 0, Counts.of(pool.pool).least)


def _synced(pool: ModelPoolObject, platform: PlatformPool | None, trouble: str) -> list[Condition]:
    generation = pool.meta.generation
    if platform is None:
        return [condition("Synced", None, "AdminUnavailable", trouble or UNKNOWN, generation)]
    return [
        condition("Accepted", True, "Accepted", "it goes with all other pools", generation),
        condition("Synced", True, "Synced", f"routers have version {platform.version}", generation),
    ]


def _available(pool: ModelPoolObject, ready: int | None) -> Condition:
    generation = pool.meta.generation
    if ready is None:
        return condition("Available", None, "Unknown", "no router has said anything of it yet", generation)
    if ready:
        return condition("Available", True, "ReplicasReady", f"{ready} replicas answer", generation)
    if _sleeps(pool):
        return condition("Available", True, "Sleeping", "it sleeps until somebody asks", generation)
    return condition("Available", False, "NoReplicas", "no replica answers", generation)


def _progressing(pool: ModelPoolObject, look: Look) -> Condition:
    course, generation = look.course, pool.meta.generation
    assert course.revision is not None
    if course.canary is not None:
        if course.canary.unobserved:
            message = unobserved(course.canary, pool.upgrade)
            return condition("Progressing", False, "CanaryUnobserved", message, generation)
        message = f"version {course.canary.revision} has {course.canary.share:.0%} of the requests"
        return condition("Progressing", True, "Upgrading", message, generation)
    if course.failed_message is not None:
        return condition("Progressing", False, "RolledBack", course.failed_message, generation)
    if failure := look.failures.get(course.revision):
        return condition("Progressing", False, "StartFailed", failure, generation)
    return condition("Progressing", False, "Settled", f"version {course.revision} answers", generation)


def _written(
    pool: ModelPoolObject,
    status: ModelPoolStatus,
    conditions: list[Condition],
    old: Object,
    ready: int,
    wanted: int,
) -> Object:
    """`status` with its conditions, `Ready` that sums them up, and one word for people."""
    kinds = {each["type"]: each for each in conditions}
    generation = pool.meta.generation
    available, progressing = kinds["Available"], kinds.get("Progressing")
    failed = progressing is not None and progressing["reason"] == "StartFailed"
    if available["status"] == "True" and (ready >= wanted or _sleeps(pool)):
        summary = condition("Ready", True, available["reason"], available["message"], generation)
    elif available["status"] == "True":
        summary = condition("Ready", False, "TooFewReplicas", f"{ready} of {wanted} replicas answer", generation)
    else:
        told = progressing if failed and progressing else available
        summary = condition(
            "Ready", None if told["status"] == "Unknown" else False, told["reason"], told["message"], generation
        )
    if status.canary is not None:
        phase = "Upgrading"
    elif available["reason"] == "Sleeping":
        phase = "Sleeping"
    elif summary["status"] == "True":
        phase = "Ready"
    elif failed:
        phase = "Failed"
    elif ready:
        phase = "Degraded"
    else:
        phase = "Starting" if summary["status"] == "False" else "Pending"
    if "Accepted" not in kinds:  # known from the time when it could be asked
        conditions = [
            *conditions,
            *(each for each in old.get("conditions") or () if each.get("type") == "Accepted"),
        ]
    return {
        **status.written(),
        "phase": phase,
        "conditions": merged(old.get("conditions") or (), [summary, *conditions]),
    }


def _sleeps(pool: ModelPoolObject) -> bool:
    """Whether having no replica is what the pool asks for."""
    return not pool.external and Counts.of(pool.pool).least == 0
