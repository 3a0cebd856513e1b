"""The policies that hold now, and every way in which one of them is changed.

Stands between those who change policies (the admin API, the keeper of stages, reviewers) and the two places where
they are kept: the database, which decides which of two writers was first, and Redis, from which routers read. A
change is first in the one, then in the other; what did not get through to Redis is sent again until it did. Needs
no event loop: all of it may be called from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic

from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from pointsman.contracts.config import Config
from pointsman.contracts.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    ManagedElsewhere,
    NoCandidate,
    PreconditionFailed,
    PreconditionRequired,
    TenantNotFound,
)
from pointsman.contracts.policies import MAX_RULES, Candidate, Policy, PolicyDocument, Rule, Stage
from pointsman.store.audit import AuditLog
from pointsman.store.database import Database
from pointsman.store.policies import API, PolicyStore, VersionConflict
from pointsman.store.policy_projection import PolicyProjection, PolicyVersion, change_of, decoded
from pointsman.store.tenants import TenantStore, decoded_tenant

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks whether Redis holds what was written last."""

RECONCILE = 15.0
"""Seconds after which Redis is compared with the database even where nothing seems to have changed."""

_TRIES = 5
"""Attempts of a change that is made of whatever is the newest version."""


@dataclass(frozen=True, slots=True)
class PresentPolicy:
    """
    What holds for a tenant. `version` is 0 where it is the configuration's; `latest` is the newest version that was
    ever written, which a change must know; the rest is None where there never was one. `live`: in Redis as well.
    """

    tenant: str
    document: PolicyDocument
    version: int
    latest: int
    written: PolicyVersion | None
    live: bool


class LivePolicies:
    """
    Policies of the tenants of `config`, and of those in the database. What touches the database raises
    `DatabaseUnavailable`, what names a tenant `TenantNotFound`. That Redis is away hinders no change: it is made
    good when it is back.
    """

    def __init__(self, config: Config, database: Database, redis: Redis) -> None:
        self._configured = {
            tenant.name: PolicyDocument(policy=tenant.policy, candidate=tenant.candidate)
            for tenant in config.tenants
        }
        self._tenants = TenantStore(database, AuditLog(database))
        self._store = PolicyStore(database)
        self._projection = PolicyProjection(redis)
        self._present: dict[str, PresentPolicy] = {}
        self._unsent = True
        self._revision: str | None = None  # of Redis, when it was last known to be as the database
        self._changing = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="policies", daemon=True)

    def start(self) -> None:
        """Begin to keep Redis as the database is."""
        self._thread.start()

    def stop(self) -> None:
        """Stop that, and wait until it has."""
        self._stop.set()
        self._thread.join()

    def present(self, tenant: str) -> PresentPolicy:
        """What holds for `tenant`, by the database."""
        with self._changing:  # else what was read before a change could be remembered after it
            document = self._document(tenant)
            return self._remember(tenant, document, self._store.latest(tenant))

    def all_present(self) -> list[PresentPolicy]:
        """
        What holds for every tenant of the configuration, in its order, then for the others that have a policy apart
        from what was said when they were made. Looked at one by one: no change waits for ten thousand of them.
        """
        latest = self._store.all_latest()
        others = (tenant for tenant, written in latest.items() if written.document is not None)
        found = []
        for tenant in (*self._configured, *sorted(set(others) - self._configured.keys())):
            with contextlib.suppress(TenantNotFound):  # it was deleted
                found.append(self.present(tenant))
        return found

    def remembered(self, tenant: str) -> PresentPolicy | None:
        """What held for `tenant` when the database was last asked; None: no such tenant, or it can't be asked."""
        if tenant not in self._present and tenant not in self._configured:
            with contextlib.suppress(TenantNotFound, DatabaseUnavailable):
                return self.present(tenant)
        return self._present.get(tenant)

    def made_anew(self, tenant: str) -> None:
        """What was said of `tenant` when it was made has changed: what is remembered of it no longer holds."""
        with self._changing:
            self._present.pop(tenant, None)

    def withdrawn(self, tenant: str) -> None:
        """The policy of `tenant` was taken back together with the tenant: Redis is to hear of it."""
        with self._changing:
            self._present.pop(tenant, None)
            self._unsent = True

    def history(self, tenant: str, *, limit: int, before: int | None) -> list[PolicyVersion]:
        """The newest `limit` versions of `tenant`, newest first; `before`: only those with lower numbers."""
        self._document(tenant)
        return self._store.history(tenant, limit=limit, before=before)

    def former(self, tenant: str, number: int | None) -> tuple[int, PolicyVersion | None]:
        """
        The number of the newest version of `tenant`, and the version `number`, or the one before the newest; where
        that is 0 there is none: the configuration's policy held.

        Raises `InvalidRequest` where there is no such version.
        """
        self._document(tenant)
        newest = self._store.latest(tenant)
        if newest is None:
            raise InvalidRequest("The configuration's policy holds, and no other one ever did.", param="to")
        wanted = newest.version - 1 if number is None else number
        found = self._store.history(tenant, limit=1, before=wanted + 1)
        if wanted and (not found or found[0].version != wanted):
            raise InvalidRequest(f"There is no version {wanted}.", param="to", code="invalid_value")
        return newest.version, found[0] if wanted else None

    def page(self, *, limit: int, after: str | None, managed_by: str | None) -> list[PresentPolicy]:
        """
        What was set by the API, for the first `limit` tenants by name that follow the name `after`; `managed_by`:
        only what is this manager's.
        """
        found = []
        for written in self._store.page(limit=limit, after=after, managed_by=managed_by):
            document = _document_of(written)
            version = 0 if document is None else written.version
            made = PolicyDocument() if document is None else document
            found.append(PresentPolicy(written.tenant, made, version, written.version, written, not self._unsent))
        return found

    def put(
        self,
        tenant: str,
        document: PolicyDocument,
        *,
        expected: int | None,
        by: str,
        comment: str,
        manager: str = API,
        take_from: str | None = None,
    ) -> PresentPolicy:
        """
        Let `document` hold for `tenant`, and `manager` look after it from now on.

        `expected` is the `latest` that the writer has seen. Raises `PreconditionFailed` where it is another one by
        now, `PreconditionRequired` where there is a policy already and the writer says nothing of it,
        `ManagedElsewhere` where somebody else looks after that; `take_from`: who gives it up.
        """
        with self._changing:
            present = self.present(tenant)
            if take_from is None or _manager_of(present) != take_from:
                _managed_by(present, manager)
            if expected is None and present.version:
                raise PreconditionRequired(
                    f"This tenant has a policy, version {present.version}: name its ETag in the header If-Match."
                )
            return self._write(present, document, expected=expected, by=by, comment=comment, manager=manager)

    def delete(
        self, tenant: str, *, expected: int | None, by: str, comment: str, manager: str = API
    ) -> PresentPolicy:
        """
        Let the configuration's policy hold for `tenant` again; nothing happens where it does.

        Raises `ManagedElsewhere` where somebody else than `manager` looks after the one that holds.
        """
        with self._changing:
            present = self.present(tenant)
            _as_expected(present, expected)
            if not present.version:
                return present
            _managed_by(present, manager)
            return self._write(present, None, expected=expected, by=by, comment=comment)

    def move(
        self,
        tenant: str,
        stage: Stage,
        *,
        share: float | None = None,
        expected: int | None = None,
        by: str,
        comment: str = "",
        manager: str | None = API,
    ) -> PresentPolicy:
        """
        Move the candidate of `tenant` to `stage`, with another `share` where one is given.

        `manager`: as in `put`; None: whoever it is, he looks after it afterwards as well.
        """

        def moved(document: PolicyDocument) -> PolicyDocument:
            candidate = _candidate_of(document)
            update = {"stage": stage} if share is None else {"stage": stage, "share": share}
            return document.model_copy(update={"candidate": candidate.model_copy(update=update)})

        said = comment or f"stage {stage}"
        return self._change(tenant, moved, expected=expected, by=by, comment=said, manager=manager)

    def promote(
        self, tenant: str, *, expected: int | None, by: str, comment: str, manager: str = API
    ) -> PresentPolicy:
        """Let the candidate of `tenant` be its policy. `manager`: as in `put`."""

        def promoted(document: PolicyDocument) -> PolicyDocument:
            return PolicyDocument(policy=_candidate_of(document).policy)

        said = comment or "promoted"
        return self._change(tenant, promoted, expected=expected, by=by, comment=said, manager=manager)

    def append_rule(self, tenant: str, rule: Rule, by: str, comment: str = "") -> PresentPolicy:
        """
        Put `rule` before all rules of `tenant`, the candidate's too; one with its name is replaced.

        Raises `InvalidRequest` where there are as many rules as there may be, `ManagedElsewhere` where it is not by
        the API that the policy is changed.
        """

        def with_rule(policy: Policy) -> Policy:
            others = [other for other in policy.rules if other.name != rule.name]
            if len(others) >= MAX_RULES:
                raise InvalidRequest(f"The policy has {MAX_RULES} rules already.", code="too_many_rules")
            return policy.model_copy(update={"rules": (rule, *others)})

        def pinned(document: PolicyDocument) -> PolicyDocument:
            update: dict[str, object] = {"policy": with_rule(document.policy)}
            if document.candidate is not None:
                candidate = document.candidate
                update["candidate"] = candidate.model_copy(update={"policy": with_rule(candidate.policy)})
            return document.model_copy(update=update)

        said = comment or f"rule {rule.name}"
        return self._change(tenant, pinned, expected=None, by=by, comment=said, manager=API)

    def _change(
        self,
        tenant: str,
        change: Callable[[PolicyDocument], PolicyDocument],
        *,
        expected: int | None,
        by: str,
        comment: str,
        manager: str | None,
    ) -> PresentPolicy:
        """Write what `change` makes of the present document; where another writer was faster, of the next one."""
        for tries_left in reversed(range(_TRIES)):
            with self._changing:
                present = self.present(tenant)
                _as_expected(present, expected)
                keeper = _manager_of(present) or API
                if manager is not None:
                    _managed_by(present, manager)
                    keeper = manager
                document = change(present.document)
                try:
                    return self._write(present, document, expected=expected, by=by, comment=comment, manager=keeper)
                except PreconditionFailed:
                    if expected is not None or not tries_left:
                        raise
        raise AssertionError("the last try returns or raises")

    def _write(
        self,
        present: PresentPolicy,
        document: PolicyDocument | None,
        *,
        expected: int | None,
        by: str,
        comment: str,
        manager: str = API,
    ) -> PresentPolicy:
        _as_expected(present, expected)
        try:
            written = self._store.write(
                present.tenant, document, after=present.latest, by=by, comment=comment, managed_by=manager
            )
        except VersionConflict:
            raise PreconditionFailed("Somebody else has just changed this policy: look at it again.") from None
        log.info("policy of %s: version %d by %s", written.tenant, written.version, written.updated_by)
        try:
            self._revision = self._projection.put([change_of(written)])
            self._unsent = self._unsent or self._revision is None
        except RedisError as error:
            log.warning("the policy of %s is not in Redis yet (%s)", written.tenant, type(error).__name__)
            self._unsent = True
        return self._remember(present.tenant, self._document(present.tenant), written)

    def _document(self, tenant: str) -> PolicyDocument:
        """What holds for `tenant` where no policy was set for it."""
        document = self._made(tenant)
        if document is None:
            raise TenantNotFound("There is no tenant of this name.")
        return document

    def _made(self, tenant: str) -> PolicyDocument | None:
        configured = self._configured.get(tenant)
        if configured is not None:
            return configured
        row = self._tenants.get(tenant)
        if row is None or row.document is None:
            return None
        try:
            made = decoded_tenant(row.document)
        except ValidationError:
            log.error("the tenant %s can't be read: the default policy holds", tenant)
            return PolicyDocument()
        return PolicyDocument(policy=made.policy, candidate=made.candidate)

    def _remember(self, tenant: str, made: PolicyDocument, written: PolicyVersion | None) -> PresentPolicy:
        known = self._present.get(tenant)
        if known is not None and known.written == written and known.live != self._unsent:
            return known
        document = None if written is None else _document_of(written)
        present = PresentPolicy(
            tenant,
            made if document is None else document,
            0 if written is None or document is None else written.version,
            0 if written is None else written.version,
            written,
            not self._unsent,
        )
        self._present[tenant] = present
        return present

    def _keep(self) -> None:
        """Runs in a thread of its own until `stop`."""
        compared = monotonic()
        troubled = False
        while True:
            try:
                revision = self._projection.revision()
                if self._unsent or revision is None:
                    self._project()
                elif revision != self._revision or monotonic() - compared >= RECONCILE:
                    self._compare()
                    compared = monotonic()
                troubled = False
            except Exception as error:  # a thread that ends would do so unseen
                if not troubled:
                    log.warning("policies can't be brought into Redis (%s)", type(error).__name__)
                troubled = True
            if self._stop.wait(LOOK):
                return

    def _project(self) -> None:
        """Make Redis what the database is."""
        with self._changing:
            latest = self._store.all_latest()
            try:
                self._revision = self._projection.replace(map(change_of, latest.values()))
                self._unsent = self._revision is None
            finally:
                for tenant, document in self._configured.items():
                    self._remember(tenant, document, latest.get(tenant))
                self._forget({tenant: written.version for tenant, written in latest.items()})
        log.info("%d policies brought into Redis", len(latest))

    def _compare(self) -> None:
        """
        Make sure that what Redis has is what the database has.

        Another admin process may have written to either; Redis may have come back with what it had long ago. Only
        numbers are read: whoever changes a policy meanwhile waits.
        """
        with self._changing:
            revision, latest = self._projection.revision(), self._store.versions()
            if revision is None or latest != dict(self._projection.versions()):
                self._project()
                return
            self._revision = revision
            for tenant, document in self._configured.items():
                known = self._present.get(tenant)
                if known is None or known.latest != latest.get(tenant, 0):
                    self._remember(tenant, document, self._store.latest(tenant))
            self._forget(latest)

    def _forget(self, latest: Mapping[str, int]) -> None:
        """
        Forget what is remembered of tenants beside the configuration's, unless it has the `latest` version and thus
        still holds: what a tenant was made with may have been changed by another admin process.
        """
        for tenant, known in list(self._present.items()):
            if tenant not in self._configured and not (known.version and known.version == latest.get(tenant)):
                del self._present[tenant]
            elif known.live == self._unsent:
                self._present[tenant] = replace(known, live=not self._unsent)


def _candidate_of(document: PolicyDocument) -> Candidate:
    if document.candidate is None:
        raise NoCandidate("This tenant's policy has no candidate.")
    return document.candidate


def _manager_of(present: PresentPolicy) -> str | None:
    """Who looks after what the API has set; None where that holds nothing."""
    return None if present.written is None or not present.version else present.written.managed_by


def _managed_by(present: PresentPolicy, manager: str) -> None:
    keeper = _manager_of(present)
    if keeper not in (None, manager):
        raise ManagedElsewhere(f"This policy is managed by {keeper}: change it there, or say ?manager={keeper}.")


def _as_expected(present: PresentPolicy, expected: int | None) -> None:
    if expected is not None and expected != present.latest:
        raise PreconditionFailed("This policy has been changed since its ETag was read: look at it again.")


def _document_of(written: PolicyVersion) -> PolicyDocument | None:
    """The document of a version; None where there is none, or where this release can't read it."""
    if written.document is None:
        return None
    try:
        return decoded(written.document)
    except ValidationError:
        log.error(
            "version %d of the policy of %s can't be read: the configuration's holds",
            written.version,
            written.tenant,
        )
        return None
