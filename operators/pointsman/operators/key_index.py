"""Which Secrets hold keys of tenants, and which key each holds: by their metadata alone, never by what is in them.

Follows Secrets that carry the operator's label, so that one that is deleted or written by others is noticed at
once. The API server is asked for metadata only: no key passes through here, and none stays in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pointsman.operators.cluster import SECRETS, Cluster, ClusterError, Gone
from pointsman.operators.kinds import FIELD_MANAGER, GROUP
from pointsman.operators.objects import Ref, version_of

log = logging.getLogger(__name__)

KEY_LABEL = f"{GROUP}/tenant-key"
"""Label of such a Secret: the key's name in the Tenant."""

KEY_ID = f"{GROUP}/key-id"
"""Annotation: the id of the key in it; missing until there is one."""

ROTATED_FOR = f"{GROUP}/rotated-for"
"""Annotation: digits of the value of the Tenant's `rotate` that the key was last made for."""

REPLACES = f"{GROUP}/replaces"
"""Annotation: the id of the key that clients hold while the new one is being made."""

ENTRY = "key"
"""The entry of the Secret that clients are given."""

RETRY = 5.0
"""Seconds until a watch that broke begins anew."""


class KeySecretState(NamedTuple):
    """
    A Secret. `owner`: uid of the Tenant it belongs to; `sound`: whether what is in it was written by the operator
    and by nobody since.
    """

    uid: str
    owner: str
    owner_name: str
    key_name: str
    key_id: str | None
    rotated_for: str | None
    replaces: str | None
    sound: bool
    resource_version: int


class KeyIndex:
    """The Secrets in `namespaces` (none: in all). `changed` is told the Tenant of each that has changed."""

    def __init__(self, cluster: Cluster, namespaces: tuple[str, ...], changed: Callable[[Ref], None]) -> None:
        self._cluster = cluster
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._changed = changed
        self._secrets: dict[Ref, KeySecretState] = {}
        self._of: dict[str, set[Ref]] = {}
        self._versions: dict[str | None, str] = {}

    def get(self, ref: Ref) -> KeySecretState | None:
        """The Secret there."""
        return self._secrets.get(ref)

    def of(self, owner: str) -> list[Ref]:
        """Where the Secrets of the Tenant with the uid `owner` stand."""
        return sorted(self._of.get(owner, ()))

    async def read_all(self) -> None:
        """List all anew. Raises `ClusterError`."""
        for namespace in self._namespaces:
            await self._list(namespace)

    async def follow(self) -> None:
        """Take up what changes, until cancelled; call after `read_all`."""
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                group.create_task(self._follow(namespace))

    def take(self, secret: Mapping[str, Any]) -> None:
        """Take up a Secret as the API server has just told it, in answer to a write of the operator's own."""
        ref = _ref(secret)
        self._put(ref, state_of(secret))

    def drop(self, ref: Ref) -> None:
        """The operator has deleted the Secret there."""
        self._remove(ref)

    async def _follow(self, namespace: str | None) -> None:
        while True:
            try:
                if namespace not in self._versions:
                    await self._list(namespace)
                async for kind, told in self._cluster.watch(
                    SECRETS,
                    namespace,
                    resource_version=self._versions[namespace],
                    labels=KEY_LABEL,
                    metadata_only=True,
                ):
                    self._versions[namespace] = told["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        self._hear(kind, told)
            except Gone:
                self._versions.pop(namespace, None)
            except ClusterError as error:
                log.warning("Secrets can't be watched (%s): again in %.0f s", error.reason, RETRY)
                await asyncio.sleep(RETRY)

    async def _list(self, namespace: str | None) -> None:
        found: dict[Ref, KeySecretState] = {}
        version = ""
        async for page in self._cluster.pages(SECRETS, namespace, labels=KEY_LABEL, metadata_only=True):
            version = page["metadata"]["resourceVersion"]
            found.update((_ref(item), state_of(item)) for item in page["items"])
        self._versions[namespace] = version
        for ref in [ref for ref in self._secrets if namespace in (None, ref.namespace) and ref not in found]:
            if self._secrets[ref].resource_version <= int(version or 0):
                self._tell(ref)
                self._remove(ref)
        for ref, state in found.items():
            known = self._secrets.get(ref)
            if known is not None and known.resource_version >= state.resource_version:
                continue
            self._put(ref, state)
            self._tell(ref)

    def _hear(self, kind: str, told: Mapping[str, Any]) -> None:
        ref, state = _ref(told), state_of(told)
        known = self._secrets.get(ref)
        if known is not None and known.resource_version >= state.resource_version:
            return
        if kind == "DELETED":
            self._tell(ref)
            self._remove(ref)
            return
        self._put(ref, state)
        self._tell(ref)

    def _tell(self, ref: Ref) -> None:
        state = self._secrets.get(ref)
        if state is not None:
            self._changed(Ref(ref.namespace, state.owner_name))

    def _put(self, ref: Ref, state: KeySecretState) -> None:
        self._remove(ref)
        self._secrets[ref] = state
        self._of.setdefault(state.owner, set()).add(ref)

    def _remove(self, ref: Ref) -> None:
        known = self._secrets.pop(ref, None)
        if known is not None:
            theirs = self._of[known.owner]
            theirs.discard(ref)
            if not theirs:
                del self._of[known.owner]


def state_of(secret: Mapping[str, Any]) -> KeySecretState:
    """What is known of a Secret by its metadata."""
    metadata = secret["metadata"]
    annotations = metadata.get("annotations") or {}
    owner: Mapping[str, Any] = next(
        (one for one in metadata.get("ownerReferences") or () if one.get("kind") == "Tenant"), {}
    )
    return KeySecretState(
        metadata["uid"],
        owner.get("uid", ""),
        owner.get("name", ""),
        (metadata.get("labels") or {}).get(KEY_LABEL, ""),
        annotations.get(KEY_ID),
        annotations.get(ROTATED_FOR),
        annotations.get(REPLACES),
        _sound(metadata.get("managedFields") or ()),
        version_of(metadata),
    )


def _sound(fields: Any) -> bool:
    """Whether the operator wrote the key, and nobody else any entry since, as the API server remembers it."""
    writers = {
        entry.get("manager") for entry in fields if f"f:{ENTRY}" in (entry.get("fieldsV1") or {}).get("f:data", {})
    }
    return writers == {FIELD_MANAGER}


def _ref(secret: Mapping[str, Any]) -> Ref:
    metadata = secret["metadata"]
    return Ref(metadata["namespace"], metadata["name"])
