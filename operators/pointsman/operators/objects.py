"""What the cluster has of Tenants and ModePolicies, as it was last told: small, and by name.

Filled by the watch and by lists, read by whoever makes things right. Of each object only what is acted upon is
kept, as JSON text: ten thousand of them are a few megabytes. An older copy never replaces a newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from pointsman.operators.kinds import API_VERSION, GROUP, Kind


class Ref(NamedTuple):
    """Where an object stands."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Copy(NamedTuple):
    """One object: JSON of what is acted upon, and of its status; when it was made; its resource version."""

    essence: bytes
    status: bytes
    uid: str
    created: str
    resource_version: int

    def body(self, kind: Kind) -> dict[str, Any]:
        """The object in the form in which the API server tells it."""
        told: dict[str, Any] = orjson.loads(self.essence)
        return {"apiVersion": API_VERSION, "kind": kind.name, **told, "status": orjson.loads(self.status)}


class Objects:
    """All objects of one kind in the namespaces that are watched."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._copies: dict[Ref, Copy] = {}

    def __len__(self) -> int:
        return len(self._copies)

    def refs(self) -> list[Ref]:
        """Where objects stand."""
        return list(self._copies)

    def get(self, ref: Ref) -> Copy | None:
        """The object there, as it was last told."""
        return self._copies.get(ref)

    def seen(self, body: Mapping[str, Any]) -> bool:
        """Take up an object as it is; whether that is news, in anything but the status that is there anyway."""
        copy = copied(body)
        ref = ref_of(body)
        known = self._copies.get(ref)
        if known is not None and known.resource_version > copy.resource_version:
            return False
        self._copies[ref] = copy
        return known is None or (known.essence, known.status) != (copy.essence, copy.status)

    def wrote(self, body: Mapping[str, Any]) -> None:
        """
        Take up an object as it is after a write of the operator's own: no news.

        Where somebody has changed it just before, it is not taken up: the watch is yet to tell, and that is news.
        Nor is one that is gone by now.
        """
        copy, ref = copied(body), ref_of(body)
        known = self._copies.get(ref)
        if known is not None and known.essence == copy.essence and known.resource_version < copy.resource_version:
            self._copies[ref] = copy

    def gone(self, ref: Ref, *, resource_version: int) -> bool:
        """Drop the object there, which was not there any more at `resource_version`; whether one was known."""
        known = self._copies.get(ref)
        if known is None or known.resource_version > resource_version:
            return False
        del self._copies[ref]
        return True

    def retain(self, there: Iterable[Ref], *, namespace: str | None, resource_version: int) -> list[Ref]:
        """Drop what a whole list (of one namespace, or of all) did not name; returns those that were dropped."""
        listed = set(there)
        missing = [
            ref for ref in self._copies if ref not in listed and (namespace is None or ref.namespace == namespace)
        ]
        return [ref for ref in missing if self.gone(ref, resource_version=resource_version)]


def ref_of(body: Mapping[str, Any]) -> Ref:
    """Where the object stands."""
    metadata = body["metadata"]
    return Ref(metadata["namespace"], metadata["name"])


def version_of(metadata: Mapping[str, Any]) -> int:
    """
    The resource version as a number, by which copies of one kind are told old from new; 0 where it is none.

    Kubernetes promises that order from 1.35 on, and etcd has always given it.
    """
    version = str(metadata.get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0


def copied(body: Mapping[str, Any]) -> Copy:
    """What is kept of an object."""
    metadata = body["metadata"]
    annotations = {
        name: value for name, value in (metadata.get("annotations") or {}).items() if name.startswith(f"{GROUP}/")
    }
    kept = {name: metadata[name] for name in ("namespace", "name", "uid", "generation")}
    if metadata.get("deletionTimestamp"):
        kept["deletionTimestamp"] = metadata["deletionTimestamp"]
    return Copy(
        orjson.dumps({"metadata": {**kept, "annotations": annotations}, "spec": body.get("spec") or {}}),
        orjson.dumps(body.get("status") or {}, option=orjson.OPT_SORT_KEYS),
        metadata["uid"],
        metadata.get("creationTimestamp") or "",
        version_of(metadata),
    )
