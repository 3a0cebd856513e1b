"""Tenants of the cluster become tenants of the platform: with their policy, and with keys in Secrets.

The watch, the lists and the clock only name who is to be looked at; a worker then compares what the cluster says
with what the admin API has and makes the difference good, so that events may come late, twice or not at all. No
finalizer holds a Tenant back: that one is gone is found by comparing the admin API's list with the cluster's, and
believed once the API server says so of that very object.

A tenant is made of one object. Another of the same name, in another namespace, is told so and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import kopf

from pointsman.operators.admin_client import AdminApi, AdminRefused, AdminUnavailable
from pointsman.operators.claims import Claims
from pointsman.operators.cluster import Cluster, ClusterError, ClusterUnreachable, NotFound, Resource
from pointsman.operators.documents import Annotation, InvalidObject, ModePolicyObject, TenantObject
from pointsman.operators.key_index import KeyIndex
from pointsman.operators.keys import KeyKeeper, KeysOutcome
from pointsman.operators.kinds import GROUP, MODE_POLICY, TENANT, VERSION
from pointsman.operators.metrics import RECONCILED, Outcome
from pointsman.operators.mirror import Mirror, TenantState
from pointsman.operators.objects import Objects, Ref, ref_of, version_of
from pointsman.operators.policies import PolicyKeeper, PolicyOutcome, summary
from pointsman.operators.queue import Away, WorkQueue
from pointsman.operators.returns import Returns
from pointsman.operators.statuses import ModePolicyStatus, TenantStatus
from pointsman.operators.telling import Teller, Told, some
from pointsman.operators.tenant_keeper import TenantKeeper

log = logging.getLogger(__name__)

TENANTS = Resource(GROUP, VERSION, TENANT.plural, TENANT.name)
MODE_POLICIES = Resource(GROUP, VERSION, MODE_POLICY.plural, MODE_POLICY.name)

WORKERS = 16
"""Tenants that are made good at a time."""

RESYNC = 300.0
"""Seconds between two comparisons of all lists."""

SETTLE = 0.5
"""Seconds for which a ModePolicy waits before it counts its Tenants: many of them change at once."""

CROWD = 100
"""Tenants of one ModePolicy from which on they wait, when it changes, for what was changed of single ones."""

SOON = 5.0
"""Seconds until something is looked at again that could not be told or known for sure."""

ADOPTABLE = "api"
"""Whose tenants and policies a Tenant may take over, where it says so: those that people made."""

_LONGEST_DELAY = 15.0


class Tenancy:
    """
    Keeps the platform's tenants as the Tenants and ModePolicies of `namespaces` (none: of all) say.

    `register` its handlers with kopf, and `run` it beside.
    """

    def __init__(self, cluster: Cluster, admin: AdminApi, namespaces: tuple[str, ...] = ()) -> None:
        self._cluster = cluster
        self._namespaces = namespaces
        self._tenants = Objects(TENANT)
        self._policies = Objects(MODE_POLICY)
        self._claims = Claims()
        self._outcomes: dict[Ref, PolicyOutcome] = {}
        self._mirror = Mirror(admin)
        self._secrets = KeyIndex(cluster, namespaces, self._secret_changed)
        self._tenant_keeper = TenantKeeper(admin, self._mirror)
        self._policy_keeper = PolicyKeeper(admin, self._mirror)
        self._returns = Returns(admin, self._sent_back)
        self._key_keeper = KeyKeeper(cluster, admin, self._mirror, self._secrets)
        self._teller = Teller(cluster, TENANTS, self._tenants)
        self._policy_teller = Teller(cluster, MODE_POLICIES, self._policies)
        self.queue: WorkQueue[str] = WorkQueue(self._look_at, workers=WORKERS, name="tenants")
        self.policy_queue: WorkQueue[Ref] = WorkQueue(self._tell_policy, workers=4, name="policies")
        self._listed = asyncio.Event()
        self._last_list = time.monotonic()

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Hear of every Tenant and ModePolicy that is made, changed or deleted."""

        async def tenant(event: Any, **_: Any) -> None:
            self.heard(self._tenants, event["type"], event["object"])

        async def policy(event: Any, **_: Any) -> None:
            self.heard(self._policies, event["type"], event["object"])

        kopf.on.event(GROUP, VERSION, TENANT.plural, registry=registry)(tenant)
        kopf.on.event(GROUP, VERSION, MODE_POLICY.plural, registry=registry)(policy)

    async def run(self) -> None:
        """List all, then keep all as it should be, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._returns.follow())
            group.create_task(self._list_again_and_again())
            await self._listed.wait()
            group.create_task(self._secrets.follow())
            group.create_task(self.queue.run())
            group.create_task(self.policy_queue.run())

    def healthy(self) -> bool:
        """Whether the lists were compared of late, or the operator has only just started."""
        return time.monotonic() - self._last_list < 3 * RESYNC

    def heard(self, objects: Objects, kind: str | None, body: dict[str, Any]) -> None:
        """Take up one event of the watch; `kind` is None for what was there when it began."""
        ref = ref_of(body)
        if kind == "DELETED":
            news = objects.gone(ref, resource_version=version_of(body["metadata"]))
        else:
            news = objects.seen(body)
        if news:
            self._changed(objects, ref, last=kind is None)

    def _changed(self, objects: Objects, ref: Ref, *, last: bool = False) -> None:
        """Have everything looked at that the object there has to do with; `last`: as of `WorkQueue.add`."""
        if objects is self._policies:
            tenants = self._claims.naming(ref)
            for tenant in tenants:
                self._add(tenant, last=last or len(tenants) > CROWD)
            self.policy_queue.add(ref, after=SETTLE)
            return
        copy = self._tenants.get(ref)
        touched = self._claims.take(ref, copy)
        if copy is None:
            self._outcomes.pop(ref, None)
        for name in touched.names:
            self.queue.add(name, last=last)
        for policy in touched.policies:
            self.policy_queue.add(policy, after=SETTLE)

    def _add(self, tenant: Ref, *, last: bool = False) -> None:
        name = self._claims.name_of(tenant)
        if name is not None:
            self.queue.add(name, last=last)

    def _secret_changed(self, tenant: Ref) -> None:
        self._add(tenant)

    async def _sent_back(self, name: str) -> None:
        """The platform has moved a candidate of the tenant `name`, whose policy may be one of ours."""
        await self._policy_keeper.look(name)
        self.queue.add(name)

    async def _list_again_and_again(self) -> None:
        delay = 1.0
        while True:
            try:
                await self._list()
            except (AdminUnavailable, AdminRefused, ClusterError) as error:
                log.warning("tenants can't be listed (%s: %s): again in %.0f s", type(error).__name__, error, delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
                continue
            self._listed.set()
            self._last_list = time.monotonic()
            delay = 1.0
            await asyncio.sleep(RESYNC)

    async def _list(self) -> None:
        """See all that there is on both sides, and have all of it looked at."""
        await self._mirror.read_all()
        if not self._listed.is_set():
            await self._secrets.read_all()
        for namespace in self._namespaces or (None,):
            await self._list_kind(MODE_POLICIES, self._policies, namespace)
            await self._list_kind(TENANTS, self._tenants, namespace)
        for name in self._claims.names() | self._mirror.tenants.keys():
            self.queue.add(name, last=True)
        for ref in self._policies.refs():
            self.policy_queue.add(ref, after=SETTLE)

    async def _list_kind(self, resource: Resource, objects: Objects, namespace: str | None) -> None:
        listed: set[Ref] = set()
        version = None
        async for page in self._cluster.pages(resource, namespace):
            version = version or version_of(page["metadata"])
            for body in page["items"]:
                listed.add(ref_of(body))
                if objects.seen(body):
                    self._changed(objects, ref_of(body), last=True)
        for ref in objects.retain(listed, namespace=namespace, resource_version=version or 0):
            self._changed(objects, ref, last=True)

    async def _look_at(self, name: str) -> float | None:
        """Make the tenant `name` what the cluster says; returns the seconds until it wants another look."""
        outcome = Outcome.FAILED
        try:
            again = await self._settle(name)
            outcome = Outcome.DONE
            return again
        except ClusterUnreachable as error:
            raise Away(f"the API server does not answer ({error.reason})") from None
        except AdminUnavailable as error:
            for ref in self._in_turn(name)[:1]:
                with contextlib.suppress(ClusterError):
                    await self._teller.tell_unknown(ref, "Synced", "AdminUnavailable", str(error))
            raise Away(f"the admin API can't be asked: {error}") from None
        finally:
            RECONCILED.labels(TENANT.name, outcome).inc()

    def _in_turn(self, name: str) -> list[Ref]:
        """The Tenants that claim `name`, in the order in which they may have it: as before, else the oldest."""
        known = self._mirror.tenants.get(name)
        origin = None if known is None else _ref(known.origin)
        return sorted(self._claims.claiming(name), key=lambda ref: (ref != origin, self._age(ref)))

    def _age(self, ref: Ref) -> tuple[str, Ref]:
        copy = self._tenants.get(ref)
        return ("" if copy is None else copy.created, ref)

    async def _settle(self, name: str) -> float | None:
        known = self._mirror.tenants.get(name)
        origin = None if known is None else _ref(known.origin)
        if known is not None and origin is not None and origin not in self._claims.claiming(name):
            again = await self._remove(name, known)
            if again is not None:
                return again
        again = None
        accepted: Ref | None = None
        for ref in self._in_turn(name):
            if accepted is not None:
                await self._tell_refused(ref, "NameTaken", f"the tenant {name} is made of {accepted}")
                continue
            taken, again = await self._settle_object(ref)
            if not taken:
                accepted = ref
        return again

    async def _settle_object(self, ref: Ref) -> tuple[bool, float | None]:
        """Make the platform what the Tenant there says; whether its name is taken, and when to look again."""
        copy = self._tenants.get(ref)
        if copy is None:
            return True, None
        try:
            tenant = TenantObject.read(copy.body(TENANT))
        except InvalidObject as error:
            await self._tell_refused(ref, "Invalid", str(error))
            return False, None
        if tenant.meta.deleting:
            return False, None
        if tenant.meta.paused:
            await self._teller.tell_paused(ref)
            return False, None
        policy = self._policy(tenant)
        adopt = ADOPTABLE if tenant.meta.annotations.get(Annotation.ADOPT) == "true" else None
        told = Told(tenant.meta.generation)
        new = tenant.name not in self._mirror.tenants
        state: TenantState | None = None
        usable = tenant.policy_ref is None or isinstance(policy, ModePolicyObject)
        if usable or tenant.name in self._mirror.tenants:
            state = await self._tenant_keeper.settle(tenant, adopt=adopt, told=told)
        else:
            # Its rules are not known yet: better no tenant than one that may do anything.
            told.add("Synced", False, "WaitsForPolicy", "its ModePolicy is not there, or is not valid")
        outcome = PolicyOutcome(False, "NoTenant", "there is no tenant yet")
        if state is not None:
            outcome = await self._policy_keeper.settle(tenant, policy, adopt=adopt)
        told.add("PolicyReady", outcome.holds, outcome.reason, outcome.message)
        self._note_outcome(ref, outcome)
        keys = KeysOutcome()
        new = new and state is not None and state.version == 1
        if state is not None and (outcome.holds or self._mirror.keys.get(tenant.name)):
            keys = await self._key_keeper.settle(tenant, new=new)
        elif tenant.keys:
            keys.problems.append(("WaitsForTenant", "no key is made before tenant and policy are there"))
        reason = keys.problems[0][0] if keys.problems else "Ready" if tenant.keys else "NoKeys"
        told.add("KeysReady", not keys.problems, reason, some(text for _, text in keys.problems))
        for why, text in keys.notes:
            await self._teller.event(ref, why, text)
        status = TenantStatus(
            observed_generation=tenant.meta.generation,
            version=None if state is None else state.version,
            policy_version=outcome.version,
            keys=tuple(keys.statuses),
        )
        await self._teller.tell(ref, status, told.all())
        live = state is None or (state.live and outcome.live)
        waits = [seconds for seconds in (keys.again, None if live else SOON) if seconds is not None]
        return told.reason("Synced") == "NameTaken", min(waits, default=None)

    def _policy(self, tenant: TenantObject) -> ModePolicyObject | InvalidObject | None:
        """The ModePolicy that `tenant` names, or what is wrong with it."""
        if tenant.policy_ref is None:
            return None
        copy = self._policies.get(Ref(tenant.meta.namespace, tenant.policy_ref.name))
        if copy is None:
            return None
        try:
            return ModePolicyObject.read(copy.body(MODE_POLICY))
        except InvalidObject as error:
            return error

    async def _remove(self, name: str, known: TenantState) -> float | None:
        """Take the tenant `name` away, if the object that it was made of is really gone."""
        origin = _ref(known.origin)
        if origin is None or (self._namespaces and origin.namespace not in self._namespaces):
            return None
        try:
            body = await self._cluster.get(TENANTS, origin.namespace, origin.name)
        except NotFound as error:
            if error.about != origin.name:
                log.error("there is no kind Tenant: the tenant %s is left as it is", name)
                return RESYNC
        else:
            if (body.get("spec") or {}).get("name", origin.name) == name:
                if self._tenants.seen(body):
                    self._changed(self._tenants, origin)
                return SOON
        await self._tenant_keeper.delete(name, str(known.origin))
        return None

    def _note_outcome(self, ref: Ref, outcome: PolicyOutcome) -> None:
        policy = self._claims.policy_of(ref)
        if policy is not None and self._outcomes.get(ref) != outcome:
            self.policy_queue.add(policy, after=SETTLE)
        self._outcomes[ref] = outcome

    async def _tell_refused(self, ref: Ref, reason: str, message: str) -> None:
        self._note_outcome(ref, PolicyOutcome(False, reason, message))
        told = Told(self._teller.generation(ref))
        told.add("Synced", False, reason, message)
        await self._teller.tell(ref, TenantStatus(observed_generation=told.generation), told.all())

    async def _tell_policy(self, ref: Ref) -> float | None:
        """Say on a ModePolicy what became of it."""
        copy = self._policies.get(ref)
        if copy is None:
            return None
        told = Told(self._policy_teller.generation(ref))
        found = summary(
            (self._claims.name_of(tenant) or tenant.name, self._outcomes[tenant])
            for tenant in self._claims.naming(ref)
            if tenant in self._outcomes
        )
        try:
            policy = ModePolicyObject.read(copy.body(MODE_POLICY))
        except InvalidObject as error:
            told.add("Applied", False, "Invalid", str(error))
        else:
            holds = not found.refused
            reason = ("InUse" if found.tenants else "Unused") if holds else "Refused"
            told.add("Applied", holds, reason, some(found.refused))
            if policy.document.candidate is not None:
                kept = not found.sent_back
                told.add("CandidateKept", kept, "Kept" if kept else "SentBack", some(found.sent_back))
        status = ModePolicyStatus(observed_generation=told.generation, tenants=found.tenants)
        try:
            await self._policy_teller.tell(ref, status, told.all())
        except ClusterUnreachable as error:
            raise Away(f"the API server does not answer ({error.reason})") from None
        return None


def _ref(origin: str | None) -> Ref | None:
    namespace, slash, name = (origin or "").partition("/")
    return Ref(namespace, name) if slash else None
