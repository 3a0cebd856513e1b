"""What the operator tells on Tenants and ModePolicies: status, conditions, events; only where it is news.

Separate from finding it out. Written by server-side apply to the object that was looked at and to no later one of
its name; what is as it was told last is not written again, so that no write brings about the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import orjson

from pointsman.operators.cluster import Cluster, Conflict, NotFound, Resource
from pointsman.operators.conditions import Condition, condition, merged, status_of
from pointsman.operators.kinds import API_VERSION
from pointsman.operators.objects import Objects, Ref
from pointsman.operators.statuses import Status

PAUSED = "Paused"


class Told:
    """Conditions of one object as they are found, and `Ready`, which sums them up."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self._found: list[Condition] = []

    def add(self, kind: str, holds: bool | None, reason: str, message: str = "") -> None:
        """Whether `kind` holds (None: nobody knows), one word why, and a sentence."""
        self._found.append(condition(kind, holds, reason, message, self.generation))

    def reason(self, kind: str) -> str | None:
        """Why `kind` holds or not, in one word; None where nothing was said of it."""
        return next((str(one["reason"]) for one in self._found if one["type"] == kind), None)

    def all(self) -> list[Condition]:
        """All of them, `Ready` first: the first that does not hold says why."""
        bad = next((one for one in self._found if one["status"] != "True"), None)
        ready = condition("Ready", True, "Ready", "", self.generation)
        return [ready if bad is None else {**bad, "type": "Ready"}, *self._found]


class Teller:
    """Writes to the objects of one kind, and keeps their copies as they are then. Raises `ClusterError`."""

    def __init__(self, cluster: Cluster, resource: Resource, objects: Objects) -> None:
        self._cluster = cluster
        self._resource = resource
        self._objects = objects

    def generation(self, ref: Ref) -> int:
        """The generation of the object there; 0 where there is none."""
        copy = self._objects.get(ref)
        return 0 if copy is None else int(orjson.loads(copy.essence)["metadata"]["generation"])

    async def tell(self, ref: Ref, status: Status, conditions: list[Condition]) -> None:
        """Write the whole status; an event where the object is not ready any more."""
        before = self._conditions(ref)
        await self._write(ref, status.written(), conditions)
        ready = next(one for one in conditions if one["type"] == "Ready")
        if ready["status"] == "False" and status_of(before, "Ready") != "False":
            await self.event(ref, ready["reason"], ready["message"], warning=True)

    async def tell_unknown(self, ref: Ref, kind: str, reason: str, message: str) -> None:
        """Say that nobody knows whether `kind` holds, and leave all else as it was told last."""
        told = Told(self.generation(ref))
        told.add(kind, None, reason, message)
        others = [one for one in self._conditions(ref) if one["type"] not in (kind, "Ready", PAUSED)]
        await self._rewrite(ref, [*told.all(), *others])

    async def tell_paused(self, ref: Ref) -> None:
        """Say that nothing is changed for now, and leave all else as it was told last."""
        paused = condition(PAUSED, True, "Annotation", "nothing is changed for now", self.generation(ref))
        others = [one for one in self._conditions(ref) if one["type"] != PAUSED]
        await self._rewrite(ref, [*others, paused])

    async def event(self, ref: Ref, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell whoever looks at the object what happened. Never raises."""
        copy = self._objects.get(ref)
        if copy is not None:
            await self._cluster.event(copy.body(self._objects.kind), reason, message, warning=warning)

    def _conditions(self, ref: Ref) -> list[Condition]:
        copy = self._objects.get(ref)
        return [] if copy is None else list(orjson.loads(copy.status).get("conditions", ()))

    async def _rewrite(self, ref: Ref, conditions: list[Condition]) -> None:
        copy = self._objects.get(ref)
        if copy is not None:
            rest: dict[str, Any] = orjson.loads(copy.status)
            rest.pop("conditions", None)
            await self._write(ref, rest, conditions)

    async def _write(self, ref: Ref, status: dict[str, Any], conditions: list[Condition]) -> None:
        copy = self._objects.get(ref)
        if copy is None:
            return
        status["conditions"] = merged(self._conditions(ref), conditions)
        if orjson.dumps(status, option=orjson.OPT_SORT_KEYS) == copy.status:
            return
        metadata = {"namespace": ref.namespace, "name": ref.name, "uid": copy.uid}
        document = {
            "apiVersion": API_VERSION,
            "kind": self._resource.kind,
            "metadata": metadata,
            "status": status,
        }
        with contextlib.suppress(NotFound, Conflict):  # gone meanwhile, or another one of its name
            self._objects.wrote(await self._cluster.apply(self._resource, document, sub="status"))


def some(texts: Iterable[str], most: int = 3) -> str:
    """The first `most` of `texts` in one sentence, and how many there are besides."""
    told = list(texts)
    more = f"; and {len(told) - most} more" if len(told) > most else ""
    return "; ".join(told[:most]) + more
