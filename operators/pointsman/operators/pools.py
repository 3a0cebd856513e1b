"""ModelPools: one look at a pool brings the platform and the cluster to what its spec says, and tells how they are.

Level-triggered: a look reads everything anew and carries nothing over from the one before, so that it does not
matter why it was taken, how often, or where the operator was killed in between. What it decides goes into the
status first, then to the routers, then into the cluster.

Watches wake it: of the pools, and of their RayServices, whose changes are as much a reason to look as one's own.
Only the deletion is kopf's to handle: its finalizer keeps the object until the last answer has ended.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime
from typing import Any

import kopf
import orjson

from pointsman.operators import belongings, pool_status
from pointsman.operators.admin_client import AdminUnavailable
from pointsman.operators.cluster import SECRETS, ClusterError, NotFound, Object, Resource
from pointsman.operators.context import Context
from pointsman.operators.documents import (
    GROUP,
    VERSION,
    CanaryStatus,
    InvalidObject,
    Meta,
    ModelPoolObject,
)
from pointsman.operators.kinds import MODEL_POOL
from pointsman.operators.metrics import RECONCILED, Outcome
from pointsman.operators.platform_pools import PlatformPool, PlatformPools, PoolRefused
from pointsman.operators.queue import WorkQueue
from pointsman.operators.ray_service import (
    POOL_LABEL,
    RAY_SERVICES,
    Counts,
    Defaults,
    version,
)
from pointsman.operators.services import ServiceKeeper
from pointsman.operators.spelling import to_snake
from pointsman.operators.statuses import DrainingStatus
from pointsman.operators.upgrade import Course, Happening, Observed, Step, step

log = logging.getLogger(__name__)

MODEL_POOLS = Resource(GROUP, VERSION, MODEL_POOL.plural, MODEL_POOL.name)

WORKERS = 8
"""Pools that are looked at at a time."""

SOON, LATE = 1.0, 15.0
"""Seconds between two looks at a pool that is not as it should be: the longer it is so, the later."""

WATCHED = 20
"""How often a share of an upgrade is looked at, at least every few seconds."""

DRAINING = 1.0
"""Seconds between two looks at what is left of a pool that is being deleted."""

Key = tuple[str, str]
"""Namespace and name of a ModelPool."""


class PoolKeeper:
    """Keeps all ModelPools. `register` before kopf starts; `run` beside it."""

    def __init__(self, context: Context) -> None:
        self._settings = context.settings
        self._cluster = context.cluster
        self._platform = PlatformPools(context.admin)
        self._services = ServiceKeeper(context.cluster)
        self.queue: WorkQueue[Key] = WorkQueue(self._reconciled, workers=WORKERS, name="pools")

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Have kopf tell of pools and of what belongs to them, and hold pools until they are drained."""

        @kopf.on.event(GROUP, VERSION, MODEL_POOL.plural, registry=registry)
        def of_pool(namespace: str | None, name: str | None, **_: Any) -> None:
            self.queue.add((namespace or "", name or ""))

        @kopf.on.event(
            RAY_SERVICES.group,
            RAY_SERVICES.version,
            RAY_SERVICES.plural,
            labels={POOL_LABEL: kopf.PRESENT},
            registry=registry,
        )
        def of_service(namespace: str | None, meta: Any, **_: Any) -> None:
            for owner in meta.get("ownerReferences") or ():
                if owner.get("kind") == MODEL_POOL.name:
                    self.queue.add((namespace or "", owner["name"]))

        @kopf.on.delete(GROUP, VERSION, MODEL_POOL.plural, registry=registry)
        async def drained(body: Any, retry: int, **_: Any) -> None:
            await self._drained(orjson.loads(orjson.dumps(dict(body))), retry)

    async def run(self) -> None:
        """Work until cancelled."""
        await self.queue.run()

    # -- one look

    async def _reconciled(self, key: Key) -> float | None:
        with contextlib.suppress(NotFound):
            outcome, after = Outcome.FAILED, None
            try:
                after = await self._look(*key)
                outcome = Outcome.DONE
            except NotFound:
                outcome = Outcome.DONE
                raise
            finally:
                RECONCILED.labels(MODEL_POOL.name, outcome).inc()
            return after
        return None

    async def _look(self, namespace: str, name: str) -> float | None:
        """Seconds until the next look, None where the pool is gone."""
        body = await self._cluster.get(MODEL_POOLS, namespace, name)
        meta, old = Meta.read(body), body.get("status") or {}
        if meta.deleting:
            return None
        try:
            pool = ModelPoolObject.read(body)
        except InvalidObject as error:
            return await self._refuse(body, meta, old, "InvalidSpec", str(error))
        if meta.paused:
            return await self._refuse(body, meta, old, "Paused", "nothing of it is changed until it goes on")
        if not pool.external and (missing := self._missing(pool)):
            return await self._refuse(body, meta, old, "NotConfigured", missing)
        platform, trouble = None, ""
        try:
            platform = await self._platform.put(pool, reprice=_just_changed(meta, old))
        except PoolRefused as error:
            return await self._refuse(body, meta, old, error.reason, str(error))
        except AdminUnavailable as error:
            trouble = str(error)
        if pool.external:
            await self._write_status(body, pool_status.external(pool, old, platform, trouble))
            return self._settings.resync if platform else LATE
        return await self._run(body, pool, old, platform, trouble)

    async def _run(
        self, body: Object, pool: ModelPoolObject, old: Object, platform: PlatformPool | None, trouble: str
    ) -> float:
        """Bring the RayServices of `pool` to what its spec and its upgrade want."""
        wanted, counts = version(pool, self._defaults()), Counts.of(pool.pool)
        course = _course(old)
        services = await self._services.read(pool.meta, pool.name, {*_revisions(course), wanted.revision})
        taken = step(
            course,
            wanted=wanted.revision,
            counts=counts,
            upgrade=pool.upgrade,
            start_timeout=pool.deployment.start_timeout,
            drain_timeout=pool.deployment.drain_timeout,
            observed=Observed(
                now=datetime.now(UTC),
                reports=platform.reports if platform else None,
                failures=services.failures,
                serving=services.serving,
                existing=services.existing,
            ),
        )
        look = pool_status.Look(platform, trouble, taken.course, taken.versions, services.failures)
        status = pool_status.run(pool, old, look)
        await self._write_status(body, status)
        for happening in taken.happenings:
            await self._tell(body, happening)
        await self._direct(pool, platform, taken)
        await self._apply_belongings(pool, counts)
        for revision, number in taken.versions.items():
            there = services.by_revision.get(revision)
            if number is None or (there is None and revision != wanted.revision):
                continue  # what a former version was made of is known from its RayService alone
            if happened := await self._services.apply(pool, wanted, revision, number, there):
                await self._tell(body, happened)
        for revision, there in services.by_revision.items():
            if revision not in taken.versions:
                await self._services.delete(there)
                await self._tell(body, Happening("VersionRemoved", f"version {revision} is gone"))
        return next_look(
            taken.course, wanted.revision, status, hold=pool.upgrade.hold, resync=self._settings.resync
        )

    async def _direct(self, pool: ModelPoolObject, platform: PlatformPool | None, taken: Step) -> None:
        """Have routers divide requests as `taken` wants it, before a new version has its first replica."""
        if platform is not None and taken.traffic is not None and dict(platform.traffic) != dict(taken.traffic):
            await self._platform.direct(pool.name, taken.traffic)

    async def _apply_belongings(self, pool: ModelPoolObject, counts: Counts) -> None:
        settings = self._settings
        assert settings.replica_secret is not None
        assert settings.redis_url is not None
        await self._cluster.apply(SECRETS, belongings.secret(pool, settings.replica_secret, settings.redis_url))
        if settings.release is not None:
            policy = belongings.network_policy(pool, release=settings.release, namespace=settings.namespace)
            await self._cluster.apply(belongings.NETWORK_POLICIES, policy)
        budget = belongings.disruption_budget(pool, counts)
        if budget is not None:
            await self._cluster.apply(belongings.BUDGETS, budget)
        else:
            with contextlib.suppress(NotFound):
                await self._cluster.delete(belongings.BUDGETS, pool.meta.namespace, belongings.budget_name(pool))

    # -- the end of a pool

    async def _drained(self, body: Object, retry: int) -> None:
        """Return once the pool may go; raises `kopf.TemporaryError` as long as it may not."""
        meta, old = Meta.read(body), body.get("status") or {}
        if meta.paused:
            raise kopf.TemporaryError("it is paused", delay=LATE / 3)
        name = str((body.get("spec") or {}).get("name") or meta.name)
        try:
            if retry == 0:
                await self._tell(body, Happening("Draining", "it gets no new requests any more"))
            await self._platform.delete(name, str(meta))
            services = await self._services.read(meta, name, _revisions(_course(old)))
            await self._write_status(
                body, pool_status.draining(meta.generation, old, "its last answers are awaited")
            )
            waited = not services.by_revision or self._given_up(body, meta)
            if not waited and await self._platform.left(name) != 0:
                raise kopf.TemporaryError("its last answers are awaited", delay=DRAINING)
            for there in services.by_revision.values():
                await self._services.delete(there)
        except AdminUnavailable as error:
            raise kopf.TemporaryError(f"the admin API does not answer: {error}", delay=LATE / 3) from None
        except ClusterError as error:
            raise kopf.TemporaryError(f"the API server refuses: {error.reason}", delay=LATE / 3) from None

    def _given_up(self, body: Object, meta: Meta) -> bool:
        """Whether a pool that is being deleted has waited for its last answers for as long as it may."""
        try:
            timeout = ModelPoolObject.read(body).deployment.drain_timeout
        except InvalidObject:
            return True
        since = datetime.fromisoformat(body["metadata"]["deletionTimestamp"])
        return (datetime.now(UTC) - since).total_seconds() > timeout

    # -- reading and writing

    async def _write_status(self, body: Object, status: Object) -> None:
        """Write `status` where it says something new; it is the operator's alone."""
        if status == body.get("status"):
            return
        document = {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": {key: body["metadata"][key] for key in ("name", "namespace", "uid")},
            "status": status,
        }
        await self._cluster.apply(MODEL_POOLS, document, sub="status")

    async def _refuse(self, body: Object, meta: Meta, old: Object, reason: str, message: str) -> float:
        if not any(one.get("reason") == reason and one["type"] == "Ready" for one in old.get("conditions") or ()):
            await self._tell(body, Happening(reason, message, warning=reason != "Paused"))
        await self._write_status(body, pool_status.refused(meta.generation, old, reason, message))
        return self._settings.resync

    async def _tell(self, body: Object, happening: Happening) -> None:
        await self._cluster.event(body, happening.reason, happening.message, warning=happening.warning)

    def _missing(self, pool: ModelPoolObject) -> str | None:
        if not (self._settings.replica_secret and self._settings.redis_url):
            return "the operator was given no replica secret or no Redis, which replicas need"
        if not (pool.deployment.image or self._settings.image):
            return "spec.deployment.image: is missing, and the operator was given no image for all pools"
        return None

    def _defaults(self) -> Defaults:
        settings = self._settings
        assert settings.replica_secret is not None
        assert settings.redis_url is not None
        return Defaults(
            image=settings.image or "",
            ray_version=settings.ray_version,
            secrets=belongings.digest(settings.replica_secret, settings.redis_url),
        )


def next_look(course: Course, wanted: str, status: Object, *, hold: float, resync: float) -> float:
    """
    Seconds until a pool that is at `course`, and whose spec asks for the version `wanted`, is looked at again.

    No event says when routers tell of the present version again, for which one that is wanted and has not begun
    waits, nor when they find another replica.
    """
    if course.canary is not None or course.draining:
        return min(max(SOON, hold / WATCHED), LATE / 3)
    if wanted not in (course.revision, course.failed_revision):
        return LATE / 3
    if status["phase"] == "Ready" and status.get("readyReplicas") != status.get("replicas"):
        return LATE
    return resync if status["phase"] in ("Ready", "Sleeping") else _patience(status)


def _patience(status: Object) -> float:
    """Seconds until the next look at a pool that is not ready: a fifth of the time for which it has not been."""
    ready = next(one for one in status["conditions"] if one["type"] == "Ready")
    since = datetime.now(UTC) - datetime.fromisoformat(ready["lastTransitionTime"])
    return min(max(SOON, since.total_seconds() / 5), LATE)


def _just_changed(meta: Meta, status: Object) -> bool:
    """
    Whether a pool that the platform had has another spec than when it was last judged.

    Then its prices go before those of its twins, and never otherwise: two objects that disagree would change each
    other's for ever.
    """
    judged = next((one for one in status.get("conditions") or () if one.get("type") == "Accepted"), None)
    return judged is not None and "version" in status and judged.get("observedGeneration") != meta.generation


def _course(status: Object) -> Course:
    """Where the upgrade stands, as the status keeps it."""
    canary = status.get("canary")
    return Course(
        revision=status.get("revision"),
        canary=None if canary is None else CanaryStatus.model_validate(to_snake(CanaryStatus, canary, [])),
        draining=tuple(DrainingStatus.model_validate(each) for each in status.get("draining") or ()),
        failed_revision=status.get("failedRevision"),
        failed_message=status.get("failedMessage"),
    )


def _revisions(course: Course) -> set[str]:
    """The versions that a pool at `course` has, or has had last."""
    named = (course.revision, course.canary.revision if course.canary else None, course.failed_revision)
    return {revision for revision in named if revision} | {each.revision for each in course.draining}
