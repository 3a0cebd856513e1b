"""The RayServices of a pool as they are in the cluster: read, applied and deleted, and what Ray says of them.

Between `ray_service.py`, which says what one ought to be, and the keeper of pools, who decides which there are.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import orjson

from pointsman.operators.cluster import Cluster, NotFound, Object
from pointsman.operators.documents import GROUP, Meta, ModelPoolObject
from pointsman.operators.ray_service import (
    POOL_LABEL,
    RAY_SERVICES,
    Counts,
    Version,
    ray_service,
    ray_service_name,
)
from pointsman.operators.upgrade import Happening

APPLIED = f"{GROUP}/applied"
"""Annotation of a RayService: a digest of what was applied, by which a repair is told from a change."""


@dataclass(frozen=True, slots=True)
class Services:
    """The RayServices of one pool, by revision."""

    by_revision: Mapping[str, Object]

    @property
    def existing(self) -> tuple[str, ...]:
        """Revisions, the oldest first."""
        created = {each: found["metadata"]["creationTimestamp"] for each, found in self.by_revision.items()}
        return tuple(sorted(created, key=lambda each: (created[each], each)))

    @property
    def serving(self) -> frozenset[str]:
        """Revisions of which Ray has replicas that answer."""
        return frozenset(name for name, found in self.by_revision.items() if _endpoints(found) > 0)

    @property
    def failures(self) -> dict[str, str]:
        """Why a version cannot start, by revision, as Ray says it."""
        found = {name: _failure(each) for name, each in self.by_revision.items()}
        return {name: why for name, why in found.items() if why is not None}


class ServiceKeeper:
    """Reads, applies and deletes RayServices. Every method raises `ClusterError`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def read(self, meta: Meta, name: str, revisions: AbstractSet[str]) -> Services:
        """
        The RayServices that belong to the pool called `name`: those that are labelled so, and of `revisions`, the
        versions that it is known to have, those whose label somebody has changed. A list of all pools' would be
        long, and is read at every look.
        """
        found: dict[str, Object] = {}

        def take(each: Object) -> None:
            owners = each["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == meta.uid for owner in owners) and not each["metadata"].get("deletionTimestamp"):
                found[each["metadata"]["name"].rpartition("-")[2]] = each  # nobody can change a name

        async for page in self._cluster.pages(RAY_SERVICES, meta.namespace, labels=f"{POOL_LABEL}={name}"):
            for each in page["items"]:
                take(each)
        for revision in revisions - found.keys():
            with contextlib.suppress(NotFound):
                take(await self._cluster.get(RAY_SERVICES, meta.namespace, ray_service_name(meta, revision)))
        return Services(found)

    async def apply(
        self, pool: ModelPoolObject, wanted: Version, revision: str, counts: Counts, there: Object | None
    ) -> Happening | None:
        """
        Let the version `revision` of `pool` have `counts` replicas; what there is to tell of it.

        `there` is its RayService, None where there is none yet: then `revision` is that of `wanted`, since what a
        former version was made of is known from its RayService alone.
        """
        if revision == wanted.revision:
            document = ray_service(pool, wanted, counts)
        else:
            assert there is not None
            document = _resized(there, counts)
        digest = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        document["metadata"]["annotations"] = {APPLIED: digest}
        applied = await self._cluster.apply(RAY_SERVICES, document)
        if there is None:
            name = document["metadata"]["name"]
            return Happening("VersionStarted", f"version {revision} runs as RayService {name}")
        if applied["metadata"]["generation"] != there["metadata"]["generation"] and digest == (
            there["metadata"].get("annotations") or {}
        ).get(APPLIED):
            what = f"RayService {there['metadata']['name']} was changed by somebody else and is as it was again"
            return Happening("DriftRepaired", what, warning=True)
        return None

    async def delete(self, there: Object) -> None:
        """Delete the RayService `there`, and no later one of its name."""
        metadata = there["metadata"]
        with contextlib.suppress(NotFound):
            await self._cluster.delete(RAY_SERVICES, metadata["namespace"], metadata["name"], uid=metadata["uid"])


def _resized(there: Object, counts: Counts) -> Object:
    """A RayService of another version than the spec's, as it is but for its number of replicas."""
    spec = there["spec"]
    config = orjson.loads(spec["serveConfigV2"])
    deployment = config["applications"][0]["deployments"][0]
    if "autoscaling_config" in deployment:
        bounds = {"min_replicas": counts.least, "max_replicas": max(counts.most, 1)}
        deployment["autoscaling_config"] = {**deployment["autoscaling_config"], **bounds}
    else:
        deployment["num_replicas"] = counts.least
    cluster = dict(spec["rayClusterConfig"])
    bounds = {"replicas": counts.least, "minReplicas": counts.least, "maxReplicas": max(counts.most, 1)}
    cluster["workerGroupSpecs"] = [{**group, **bounds} for group in cluster["workerGroupSpecs"]]
    metadata = there["metadata"]
    return {
        "apiVersion": RAY_SERVICES.api_version,
        "kind": RAY_SERVICES.kind,
        "metadata": {key: metadata[key] for key in ("name", "namespace", "labels", "ownerReferences")},
        "spec": {
            **spec,
            "serveConfigV2": orjson.dumps(config, option=orjson.OPT_INDENT_2).decode(),
            "rayClusterConfig": cluster,
        },
    }


def _endpoints(service: Object) -> int:
    return int((service.get("status") or {}).get("numServeEndpoints") or 0)


def _failure(service: Object) -> str | None:
    """Why the application of a RayService can't start, None where it can or nobody knows yet."""
    status = service.get("status") or {}
    for part in ("activeServiceStatus", "pendingServiceStatus"):
        applications = (status.get(part) or {}).get("applicationStatuses") or {}
        for application in applications.values():
            if application.get("status") == "DEPLOY_FAILED":
                return (application.get("message") or "the application failed to deploy")[:500]
    return None
