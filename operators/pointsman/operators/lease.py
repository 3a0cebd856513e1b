"""One operator at a time: whoever holds a `coordination.k8s.io` Lease works, everybody else waits.

kopf has none of its own. The clocks of two machines are never compared: a Lease counts as abandoned once it has
not changed for its duration as the waiting one's own clock says. Who holds it and can't renew it stops before
others may take it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from time import monotonic

from pointsman.operators.cluster import Cluster, ClusterError, Conflict, NotFound, Object, Resource

log = logging.getLogger(__name__)

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

NAME = "pointsman-operator"


class LeaseLost(Exception):
    """Somebody else may work now: nothing more may be written."""


class Lease:
    """
    The Lease `NAME` in `namespace`, for `identity`, which is kept for `seconds` after each renewal.

    Two processes may share an identity only where one has ended before the other began, as containers of one pod.
    """

    def __init__(self, cluster: Cluster, *, namespace: str, identity: str, seconds: float) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._identity = identity
        self._seconds = seconds
        self._renewed = 0.0
        self.held = False

    @property
    def pause(self) -> float:
        """Seconds between two renewals, and between two looks of those who wait."""
        return self._seconds / 5

    async def acquire(self) -> None:
        """Return once the Lease is ours. What is wrong with the API server is logged and outlived."""
        seen, since = "", monotonic()
        while True:
            try:
                lease = await self._read()
                version = "" if lease is None else lease["metadata"]["resourceVersion"]
                if version != seen:
                    seen, since = version, monotonic()
                if lease is None or self._free(lease, monotonic() - since):
                    asked = monotonic()
                    await self._take(lease)
                    self._renewed, self.held = asked, True
                    log.info("the lease is ours, as %s", self._identity)
                    return
            except Conflict:
                pass
            except ClusterError as error:
                log.warning("the lease can't be read: %s", error.reason)
            await asyncio.sleep(self.pause)

    async def keep(self) -> None:
        """Renew the Lease until cancelled; raises `LeaseLost` where it is another's, or may soon be."""
        try:
            while True:
                await asyncio.sleep(self.pause)
                await self._renew()
        finally:
            self.held = False

    async def release(self) -> None:
        """Let the next one take it at once; where that fails it has to wait."""
        try:
            lease = await self._read()
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                await self._write(lease, {"holderIdentity": "", "leaseDurationSeconds": 1})
        except ClusterError as error:
            log.warning("the lease can't be released: %s", error.reason)

    async def _renew(self) -> None:
        asked = monotonic()
        try:
            async with asyncio.timeout(self.pause * 2):
                lease = await self._read()
                if lease is None or lease["spec"].get("holderIdentity") != self._identity:
                    raise LeaseLost("the lease is another's")
                await self._write(lease, {"renewTime": _now()})
            self._renewed = asked
        except (ClusterError, TimeoutError) as error:
            log.warning("the lease can't be renewed: %s", type(error).__name__)
        if monotonic() - self._renewed > self._seconds * 0.7:
            raise LeaseLost("the lease could not be renewed in time")

    def _free(self, lease: Object, unchanged: float) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity")
        duration = float(spec.get("leaseDurationSeconds") or self._seconds)
        return not holder or holder == self._identity or unchanged > duration

    async def _read(self) -> Object | None:
        try:
            return await self._cluster.get(LEASES, self._namespace, NAME)
        except NotFound:
            return None

    async def _take(self, lease: Object | None) -> None:
        now = _now()
        spec: Object = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "acquireTime": now,
            "renewTime": now,
        }
        if lease is None:
            document = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": NAME, "namespace": self._namespace},
                "spec": {**spec, "leaseTransitions": 0},
            }
            await self._cluster.create(LEASES, document)
            return
        transitions = int((lease.get("spec") or {}).get("leaseTransitions") or 0)
        await self._write(lease, {**spec, "leaseTransitions": transitions + 1})

    async def _write(self, lease: Object, spec: Object) -> None:
        """Raises `Conflict` where somebody has written since `lease` was read."""
        version = lease["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "spec": spec}
        await self._cluster.merge(LEASES, self._namespace, NAME, patch)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
