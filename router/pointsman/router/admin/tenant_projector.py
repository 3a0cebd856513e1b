"""Keep in Redis what routers read of tenants and keys, as the database has it.

Stands between whoever changes tenants and keys (`live_tenants.py`, `live_keys.py`) and the projection: a change is
first in the database, then here. What did not get through to Redis is sent again until it did; a Redis that comes
back empty, or with what it had long ago, is put right. Another admin process may write to either, and die between
the two: where revision or number of changes are not as this process left them, all versions are compared, now and
then.
"""

from __future__ import annotations

import logging
import threading
from time import monotonic

from redis import Redis
from redis.exceptions import RedisError

from pointsman.contracts.errors import DatabaseUnavailable
from pointsman.contracts.keys import Role
from pointsman.router.admin.key_ring import KeyRing
from pointsman.store.database import Database
from pointsman.store.keys import KeyStore
from pointsman.store.tenant_changes import TenantChanges
from pointsman.store.tenant_projection import TenantProjection

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks whether Redis holds what was written last."""

RECONCILE = 15.0
"""Seconds between two comparisons of all versions, where something was changed by others."""


class TenantProjector:
    """
    Projects tenants and admin keys of `database` into `redis`. That Redis is away hinders nobody: it is made good.

    Safe to share between threads; needs no event loop.
    """

    def __init__(self, database: Database, keys: KeyStore, ring: KeyRing, redis: Redis) -> None:
        self._changes = TenantChanges(database)
        self._keys = keys
        self._ring = ring
        self._projection = TenantProjection(redis)
        self._unsent: set[str] = set()
        self._admins_unsent = False
        self._whole_unsent = False
        self._revision: str | None = None  # of Redis, and the number of changes of the database, when they were
        self._newest = -1  # last known to agree
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="tenants", daemon=True)

    def start(self) -> None:
        """Begin to keep Redis as the database is."""
        self._thread.start()

    def stop(self) -> None:
        """Stop that, and wait until it has."""
        self._stop.set()
        self._thread.join()

    @property
    def live(self) -> bool:
        """Whether Redis holds all that is known to have been changed."""
        return self._revision is not None and not (self._unsent or self._admins_unsent or self._whole_unsent)

    def publish(self, tenant: str) -> bool:
        """Bring what has changed of `tenant` or its keys to Redis; whether it is there now."""
        self._ring.forget()
        with self._lock:
            self._unsent.add(tenant)
        try:
            return self._send(tenant)
        except (RedisError, DatabaseUnavailable) as error:
            log.warning("the tenant %s is not in Redis yet (%s)", tenant, type(error).__name__)
            return False

    def publish_admin_keys(self) -> bool:
        """Bring changed admin keys to Redis; whether they are there now."""
        self._ring.forget()
        self._admins_unsent = True
        try:
            return self._send_admin_keys()
        except (RedisError, DatabaseUnavailable) as error:
            log.warning("the admin keys are not in Redis yet (%s)", type(error).__name__)
            return False

    def _send(self, tenant: str) -> bool:
        change = self._changes.entry(tenant)
        revision = None if change is None else self._projection.put([change])
        with self._lock:
            if change is None or revision is None:
                self._whole_unsent = self._whole_unsent or change is not None
                return change is None
            self._unsent.discard(tenant)
            if change.version == self._newest + 1 and revision == _following(self._revision):
                # Nobody else has written in between: all is as it was known, and this change.
                self._newest, self._revision = change.version, revision
        return True

    def _send_admin_keys(self) -> bool:
        self._admins_unsent = False
        sent = False
        try:
            roles = {row.digest: Role(row.role) for row in self._keys.admin_keys() if row.role is not None}
            sent = self._projection.put_admin_keys(roles) is not None
        finally:
            self._admins_unsent = self._admins_unsent or not sent
        return sent

    def _keep(self) -> None:
        """Runs in a thread of its own until `stop`."""
        compared = 0.0
        troubled = False
        while True:
            try:
                revision, newest = self._projection.revision(), self._changes.newest()
                if revision is None or self._whole_unsent:
                    self._replace()
                elif not _continues(self._revision, revision):
                    self._compare()
                elif (revision, newest) != (self._revision, self._newest):
                    for tenant in list(self._unsent):
                        self._send(tenant)
                    if monotonic() - compared >= RECONCILE:
                        compared = monotonic()
                        self._compare()
                if self._admins_unsent:
                    self._send_admin_keys()
                troubled = False
            except Exception as error:  # a thread that ends would do so unseen
                if not troubled:
                    log.warning("tenants can't be brought into Redis (%s)", type(error).__name__)
                troubled = True
            if self._stop.wait(LOOK):
                return

    def _replace(self) -> None:
        """Make Redis what the database is."""
        newest = self._changes.newest()
        with self._lock:
            unsent = set(self._unsent)
        revision = self._projection.replace(self._changes.all())
        if revision is None:
            raise RedisError("the copy was lost before it was finished")
        # What was changed while the copy was made was put into the one that it has replaced.
        caught_up = self._projection.put(self._changes.since(newest))
        with self._lock:
            self._unsent -= unsent
            self._whole_unsent = caught_up is None
            self._revision, self._newest = revision, newest
        self._admins_unsent = True
        log.info("tenants brought into Redis, up to change %d", newest)

    def _compare(self) -> None:
        """Make sure that Redis has what the database has; it is read first, as the database is never behind it."""
        revision, newest = self._projection.revision(), self._changes.newest()
        projected = dict(self._projection.versions())
        missing = []
        for tenant, number in self._changes.versions():
            there = projected.pop(tenant, 0)
            if there < 0 or there > number:
                # What it holds makes no sense, or the database was put back to what it was once.
                projected[tenant] = there
                break
            if there < number:
                missing.append(tenant)
        if projected:
            self._replace()
            return
        for tenant in missing:
            self._send(tenant)
        roles = {row.digest: row.role for row in self._keys.admin_keys()}
        if roles != self._projection.admin_keys():
            self._admins_unsent = True
        if revision is None:
            return
        with self._lock:
            self._revision, self._newest = revision, newest


def _following(revision: str | None) -> str | None:
    """The revision after `revision` of the same chain."""
    if revision is None:
        return None
    chain, _, number = revision.partition(".")
    return f"{chain}.{int(number) + 1}"


def _continues(known: str | None, revision: str) -> bool:
    """Whether `revision` is `known`, or follows it in the same chain."""
    if known is None:
        return False
    (chain, _, number), (same, _, later) = known.partition("."), revision.partition(".")
    return chain == same and later.isdecimal() and int(later) >= int(number)
