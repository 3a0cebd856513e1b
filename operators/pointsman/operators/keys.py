"""Keys of a Tenant as Secrets: made, replaced and taken back, so that the Secret always holds a key that is good.

The admin API makes a key and shows it once; the operator writes it to the Secret and forgets it. Between the two it
may be killed, so each step can be found again from what is there:

- A Secret is made before the key, empty, with the id of the key that clients may hold meanwhile (`replaces`).
- A good key of the tenant with the operator's label that no Secret names was never shown to anybody: it is revoked.
- A Secret whose key is good no longer (revoked by a person, say) gets a new one.

A key appears in nothing but the answer that brought it and the body that writes it to the Secret.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from pointsman.contracts.keys import KeyScope
from pointsman.contracts.tenants import key_digest
from pointsman.operators.admin_client import AdminApi, AdminNotFound, AdminRefused, below
from pointsman.operators.cluster import SECRETS, Cluster, Conflict, NotFound
from pointsman.operators.documents import Annotation, KeySecret, KeyStatus, TenantObject
from pointsman.operators.key_index import (
    ENTRY,
    KEY_ID,
    KEY_LABEL,
    REPLACES,
    ROTATED_FOR,
    KeyIndex,
    KeySecretState,
    state_of,
)
from pointsman.operators.kinds import API_VERSION, FIELD_MANAGER
from pointsman.operators.mirror import DIGEST_LABEL, LABEL, KeyState, Mirror, key_state, scope_text, unreplaced
from pointsman.operators.objects import Ref


@dataclass(slots=True)
class KeysOutcome:
    """
    How a Tenant's keys are. `problems`: reason and message of what is not as it should be; `notes`: reason and
    message of what was done; `again`: seconds until the next key is to be replaced.
    """

    statuses: list[KeyStatus] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    again: float | None = None


class SecretTaken(Exception):
    """There is a Secret of this name that is not the Tenant's."""


class KeyKeeper:
    """Settles keys. What is away is raised (`AdminUnavailable`, `ClusterError`), what is refused is told."""

    def __init__(self, cluster: Cluster, admin: AdminApi, mirror: Mirror, index: KeyIndex) -> None:
        self._cluster = cluster
        self._admin = admin
        self._mirror = mirror
        self._index = index

    async def settle(self, tenant: TenantObject, *, new: bool) -> KeysOutcome:
        """
        Make the keys of `tenant`, and the Secrets that hold them, what it says they are.

        `new`: it was made this very moment, and can have none.
        """
        outcome = KeysOutcome()
        known = self._mirror.keys.get(tenant.name, ())
        if not self._all_fine(tenant, known):
            if not new:
                known = await self._mirror.read_keys(tenant.name)
            await self._take_back(tenant, known, outcome)
            for secret in tenant.keys:
                try:
                    await self._settle(tenant, secret, known, outcome)
                except SecretTaken as error:
                    outcome.problems.append(("SecretTaken", str(error)))
                except AdminRefused as error:
                    outcome.problems.append(("KeyRefused", f"{secret.name}: {error}"))
            await self._settle_digests(tenant, known, outcome)
            known = self._mirror.keys.get(tenant.name, ())
        self._tell(tenant, known, outcome)
        return outcome

    def _all_fine(self, tenant: TenantObject, known: tuple[KeyState, ...]) -> bool:
        """Whether nothing has to be asked or done, as far as is known."""
        wanted = {_label(secret) for secret in tenant.keys}
        wanted.update(map(_digest_label, tenant.tenant.key_digests))
        if {key.label for key in known if not key.replaced_by} != wanted:
            return False
        if {_ref(tenant, secret) for secret in tenant.keys} != set(self._index.of(tenant.meta.uid)):
            return False
        return all(self._is_fine(tenant, secret, known) for secret in tenant.keys)

    def _is_fine(self, tenant: TenantObject, secret: KeySecret, known: tuple[KeyState, ...]) -> bool:
        state = self._index.get(_ref(tenant, secret))
        keys = unreplaced(known, _label(secret))
        if state is None or len(keys) != 1 or keys[0].id != state.key_id or not state.sound:
            return False
        return state.owner == tenant.meta.uid and not _is_due(tenant, secret, state, keys[0])

    async def _take_back(self, tenant: TenantObject, known: tuple[KeyState, ...], outcome: KeysOutcome) -> None:
        """Revoke the keys that the Tenant names no more, and delete their Secrets."""
        wanted = {_label(secret) for secret in tenant.keys}
        for key in known:
            if key.label not in wanted and not key.label.startswith(DIGEST_LABEL):
                await self._revoke(tenant, key, outcome, "is not in spec.keys any more")
        places = {_ref(tenant, secret) for secret in tenant.keys}
        for ref in self._index.of(tenant.meta.uid):
            state = self._index.get(ref)
            if state is None or ref in places:
                continue
            renamed = f"{LABEL}{state.key_name}" in wanted
            if not renamed:
                await self._delete(ref, state)

    async def _settle(
        self, tenant: TenantObject, wanted: KeySecret, known: tuple[KeyState, ...], outcome: KeysOutcome
    ) -> None:
        """Make one key, and its Secret, what the Tenant says."""
        ref = _ref(tenant, wanted)
        keys = unreplaced(known, _label(wanted))
        there = await self._secret(tenant, wanted, ref, keys)
        state = state_of(there)
        self._index.take(there)
        held = state.key_id or state.replaces
        current = next((key for key in known if key.id == held), None)
        for key in keys:
            if key is not current:
                await self._revoke(tenant, key, outcome, "was never written to a Secret")
        if current is not None and not current.replaced_by:
            if state.key_id and _holds(there, current) and not _is_due(tenant, wanted, state, current):
                await self._delete_former(tenant, wanted)
                return
            made = await self._rotated(current, wanted, outcome)
        else:
            made = await self._made(tenant, wanted, outcome, again=held is not None)
        annotations = {KEY_ID: made["id"], ROTATED_FOR: _rotate_mark(tenant, wanted), REPLACES: None}
        written = await self._cluster.merge(
            SECRETS,
            ref.namespace,
            ref.name,
            {
                "metadata": {
                    "resourceVersion": there["metadata"]["resourceVersion"],
                    "annotations": annotations,
                },
                "data": {ENTRY: base64.b64encode(made.pop("key").encode()).decode()},
            },
        )
        self._index.take(written)
        self._mirror.put_key(tenant.name, key_state(made), replaces=None if current is None else current.id)
        await self._delete_former(tenant, wanted)

    async def _made(
        self, tenant: TenantObject, wanted: KeySecret, outcome: KeysOutcome, *, again: bool
    ) -> dict[str, Any]:
        body = {"tenant": tenant.name, "label": _label(wanted), **_scope(wanted)}
        made: dict[str, Any] = (await self._admin.ask("POST", "/keys", json=body)).body
        if again:
            outcome.notes.append(("KeyMade", f"{made['id']} for {wanted.name}, whose key was good no longer"))
        return made

    async def _rotated(self, old: KeyState, wanted: KeySecret, outcome: KeysOutcome) -> dict[str, Any]:
        body = {"overlap": wanted.overlap, "scope": _scope(wanted)}
        made: dict[str, Any] = (await self._admin.ask("POST", below("/keys", old.id, "rotate"), json=body)).body
        ends = made["replaced"].get("expires_at") or "now"
        outcome.notes.append(("KeyRotated", f"{made['id']} for {wanted.name}; {old.id} is good until {ends}"))
        return made

    async def _revoke(self, tenant: TenantObject, key: KeyState, outcome: KeysOutcome, why: str) -> None:
        with contextlib.suppress(AdminNotFound):
            await self._admin.ask("DELETE", below("/keys", key.id))
        self._mirror.drop_key(tenant.name, key.id)
        outcome.notes.append(("KeyRevoked", f"{key.id} {why}"))

    async def _settle_digests(
        self, tenant: TenantObject, known: tuple[KeyState, ...], outcome: KeysOutcome
    ) -> None:
        """Let keys in that the tenant's clients had before, by their digests; and no others any more."""
        wanted = set(tenant.tenant.key_digests)
        theirs = {key.digest: key for key in known if key.label.startswith(DIGEST_LABEL)}
        for digest in wanted - theirs.keys():
            body = {"tenant": tenant.name, "label": _digest_label(digest), "digest": digest}
            try:
                answer = await self._admin.ask("POST", "/keys", json=body)
                self._mirror.put_key(tenant.name, key_state(answer.body), replaces=None)
            except AdminRefused as error:
                message = f"spec.keyDigests: {digest[:8]}…: {error}"
                outcome.problems.append(("KeyRefused", message))
        for digest in theirs.keys() - wanted:
            await self._revoke(tenant, theirs[digest], outcome, "is not in spec.keyDigests any more")

    async def _secret(
        self, tenant: TenantObject, wanted: KeySecret, ref: Ref, keys: list[KeyState]
    ) -> dict[str, Any]:
        """The Secret there, key and all, or a new one without. Raises `SecretTaken`."""
        if self._index.get(ref) is None:
            held = keys[0].id if keys else None
            with contextlib.suppress(Conflict):
                return await self._cluster.create(SECRETS, _empty(tenant, wanted, ref, held))
        try:
            there = await self._cluster.get(SECRETS, ref.namespace, ref.name)
        except NotFound:
            self._index.drop(ref)
            raise
        state = state_of(there)
        if state.owner != tenant.meta.uid or KEY_LABEL not in (there["metadata"].get("labels") or {}):
            raise SecretTaken(f"there is a Secret {ref.name} that is not this Tenant's: it is left as it is")
        return there

    async def _delete_former(self, tenant: TenantObject, wanted: KeySecret) -> None:
        """Delete the Secrets that held the key before `secretName` was changed."""
        place = _ref(tenant, wanted)
        for ref in self._index.of(tenant.meta.uid):
            state = self._index.get(ref)
            if state is not None and ref != place and state.key_name == wanted.name:
                await self._delete(ref, state)

    async def _delete(self, ref: Ref, state: KeySecretState) -> None:
        with contextlib.suppress(NotFound, Conflict):  # somebody deleted it, and perhaps made another one
            await self._cluster.delete(SECRETS, ref.namespace, ref.name, uid=state.uid)
        self._index.drop(ref)

    def _tell(self, tenant: TenantObject, known: tuple[KeyState, ...], outcome: KeysOutcome) -> None:
        now = time.time()
        for secret in tenant.keys:
            state = self._index.get(_ref(tenant, secret))
            key = next((one for one in known if state is not None and one.id == state.key_id), None)
            if key is None:
                continue
            ends = None if secret.rotate_every is None else key.created_at + secret.rotate_every
            if ends is not None:
                left = max(1.0, ends - now)
                outcome.again = left if outcome.again is None else min(outcome.again, left)
            outcome.statuses.append(
                KeyStatus(
                    name=secret.name,
                    secret_name=_ref(tenant, secret).name,
                    key_id=key.id,
                    rotated_at=_moment(key.created_at),
                    rotate_at=None if ends is None else _moment(ends),
                )
            )


def _empty(tenant: TenantObject, wanted: KeySecret, ref: Ref, held: str | None) -> dict[str, Any]:
    """The Secret before there is a key in it; `held`: the key that clients may have had from an earlier one."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": "Tenant",
        "name": tenant.meta.name,
        "uid": tenant.meta.uid,
        "controller": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "namespace": ref.namespace,
            "name": ref.name,
            "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER, KEY_LABEL: wanted.name},
            "annotations": {} if held is None else {REPLACES: held},
            "ownerReferences": [owner],
        },
    }


def _is_due(tenant: TenantObject, secret: KeySecret, state: KeySecretState, key: KeyState) -> bool:
    """Whether another key is to take the place of `key`: it is too old, opens something else, or somebody asks."""
    if secret.rotate_every is not None and time.time() >= key.created_at + secret.rotate_every:
        return True
    if key.scope != scope_text(_scope(secret)):
        return True
    return (mark := _rotate_mark(tenant, secret)) is not None and mark != state.rotated_for


def _rotate_mark(tenant: TenantObject, secret: KeySecret) -> str | None:
    """Digits of the annotation `rotate` where it speaks of this key; None where it does not."""
    value = tenant.meta.annotations.get(Annotation.ROTATE)
    if not value:
        return None
    named = value.partition("@")[0]
    if named != secret.name and any(named == other.name for other in tenant.keys):
        return None
    return hashlib.sha256(value.encode()).hexdigest()[:16]


def _holds(secret: dict[str, Any], key: KeyState) -> bool:
    """Whether what is in the Secret is `key`."""
    try:
        text = base64.b64decode((secret.get("data") or {}).get(ENTRY, ""), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return key_digest(text) == key.digest


def _ref(tenant: TenantObject, secret: KeySecret) -> Ref:
    return Ref(tenant.meta.namespace, secret.secret_name or f"{tenant.meta.name}-{secret.name}")


def _label(secret: KeySecret) -> str:
    return f"{LABEL}{secret.name}"


def _digest_label(digest: str) -> str:
    return f"{DIGEST_LABEL}{digest[:16]}"


def _scope(secret: KeySecret) -> dict[str, Any]:
    scope = KeyScope(models=secret.models, modes=secret.modes, endpoints=secret.endpoints, networks=secret.networks)
    fields: dict[str, Any] = orjson.loads(scope.model_dump_json(exclude_none=True))
    return fields


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
