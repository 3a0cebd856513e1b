"""Take up changed policies while the process runs: what is in Redis is compiled and put in the tenants' views.

A task of every worker, so that no request ever asks for its policy: a request finds the one that was in the view
when it came. A counted word in Redis tells that something has changed, and a stream beside it whose policy; where
that can't be told any more, all are read. Only those that differ are compiled, one after the other with other work
in between, since streams must not wait for a thousand of them; that of a tenant who is not in use, when he comes
into use. Redis may go away or be empty: what is known holds on, and lies in a file of the state folder, for a
process that starts just then.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from pointsman.router.change_bell import ChangeBell
from pointsman.router.kept_file import KeptFile
from pointsman.router.policies import TenantPolicy, compile_policy
from pointsman.router.rounds import Rounds
from pointsman.router.snapshot import Snapshot
from pointsman.store.policy_projection import PolicyReader, decoded, document_of

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks, where nothing wakes the watch before."""

PATIENCE = 5.0
"""Seconds that Redis has for one look, all policies included."""

FIRST = 3.0
"""Seconds that a process which starts waits for the policies before it begins without."""

MANY = 20
"""
Changed policies from which on the garbage collector is kept from walking them: a thousand of them are a million
objects, and a walk over those a tenth of a second in which no stream moves.
"""


class PolicyWatch:
    """
    Keeps the policy of each tenant in `snapshot` as `reader` has it; where it has none, the configuration's.

    `known` is the file for what is known; neither reading nor writing it ever raises. `bell`: what wakes it
    between two looks.
    """

    def __init__(
        self, reader: PolicyReader, snapshot: Snapshot, known: Path, *, bell: ChangeBell | None = None
    ) -> None:
        self._reader = reader
        self._file = known
        self._kept = KeptFile(known, self._content, what="policies")
        self._tenants = snapshot.tenants
        self._taken: dict[str, bytes] = {}  # digests of the entries that were taken up or found wanting
        self._unread: dict[str, bytes] = {}  # newer entries of tenants who are not in use
        self._known: dict[str, bytes] = {}  # the entries that hold
        self._revision: str | None = None
        self._rounds = Rounds(
            self.look,
            what="policies",
            pause=asyncio.sleep if bell is None else bell.pause(reader.stream, lambda: self._revision),
            between=self._kept.write_if_due,
        )
        snapshot.tenants.policy_of = self._policy_of

    async def begin(self) -> None:
        """Look for the first time, not for longer than `FIRST` seconds; where nothing is there, read the file."""
        await self._rounds.once(FIRST)
        if self._revision is None and not self._taken:
            self._load()
        await self._kept.write()

    async def follow(self) -> None:
        """Look at the interval until cancelled."""
        await self._rounds.follow(INTERVAL, PATIENCE)

    async def look(self) -> None:
        """Take up what has changed since the last time. Raises RedisError and OSError where Redis fails."""
        revision = await self._reader.revision()
        if revision is None or revision == self._revision:
            return
        names = None if self._revision is None else await self._reader.changes(self._revision, revision)
        changes = await (self._take_all(revision) if names is None else self._take_some(names))
        if changes is None:
            return
        self._revision = revision
        if changes:
            log.info("took up %d changed policies", changes)
            self._kept.changed()

    async def _take_some(self, names: set[str]) -> int:
        """Take up the policies of `names`; how many of them were anything new."""
        changes = 0
        for tenant, entry in (await self._reader.some(names)).items():
            if entry is None:
                changes += self._drop(tenant)
            elif self._take(tenant, entry):
                changes += 1
                await asyncio.sleep(0)
        return changes

    async def _take_all(self, revision: str) -> int | None:
        """As `_take_some`, for all; None where there were writes meanwhile: the next look reads all again."""
        found = set()
        changes = 0
        try:
            async for tenant, entry in self._reader.all():
                found.add(tenant)
                if self._take(tenant, entry):
                    changes += 1
                    if changes == MANY:
                        gc.disable()
                    await asyncio.sleep(0)
        finally:
            if changes >= MANY:
                gc.freeze()
                gc.enable()
        if await self._reader.revision() != revision:
            return None  # what was not found may have come since
        return changes + sum([self._drop(tenant) for tenant in self._taken.keys() - found])

    def _drop(self, tenant: str) -> bool:
        """Let the document of `tenant` hold again; whether there was anything else."""
        if self._taken.pop(tenant, None) is None:
            return False
        self._known.pop(tenant, None)
        self._unread.pop(tenant, None)
        self._put(tenant, None)
        return True

    def _take(self, tenant: str, entry: bytes) -> bool:
        """Put the policy in `entry` into the view of `tenant`; whether there was anything new in it."""
        digest = hashlib.sha256(entry).digest()
        if self._taken.get(tenant) == digest:
            return False
        self._taken[tenant] = digest
        if tenant not in self._tenants.views:
            if tenant in self._unread:
                self._policy_of(tenant)  # the one before it holds, should this one make no sense
            self._unread[tenant] = entry
            return True
        try:
            policy = _compiled(entry)
        except (ValueError, ValidationError):  # the latter's message would hold what the policy says
            log.error("the policy of %s can't be read: the one before it holds on", tenant)
        else:
            self._put(tenant, policy)
            self._known[tenant] = entry
        return True

    def _policy_of(self, tenant: str) -> TenantPolicy | None:
        """The policy of a tenant who comes into use, None where it is his document's own."""
        entry = self._unread.pop(tenant, None)
        if entry is not None:
            try:
                policy = _compiled(entry)
            except (ValueError, ValidationError):
                log.error("the policy of %s can't be read: the one before it holds", tenant)
            else:
                self._known[tenant] = entry
                return policy
        known = self._known.get(tenant)
        return None if known is None else _compiled(known)

    def _put(self, tenant: str, policy: TenantPolicy | None) -> None:
        """Let `policy` hold for `tenant`, if he is in use; None: his document's own."""
        view = self._tenants.views.get(tenant)
        if view is not None:
            assert view.own is not None
            view.policy = view.own if policy is None else policy
            self._tenants.tell(view)

    def _load(self) -> None:
        """Begin with the policies in the file."""
        try:
            content: Any = orjson.loads(self._file.read_bytes())
            entries = [(str(tenant), orjson.dumps(entry)) for tenant, entry in content.items()]
        except FileNotFoundError:
            return
        except (OSError, ValueError, AttributeError):
            log.warning("the policies that were known last can't be read")
            return
        for tenant, entry in entries:
            self._take(tenant, entry)
        known = len(self._known) + len(self._unread)
        log.warning("Redis has no policies: beginning with the %d that were known last", known)

    def _content(self) -> Callable[[], bytes]:
        """What is known, for the file."""
        known = {**self._known, **self._unread}
        return lambda: (
            b"{%b}" % b",\n".join([b'"%b":%b' % (tenant.encode(), entry) for tenant, entry in known.items()])
        )


def _compiled(entry: bytes) -> TenantPolicy | None:
    """The policy in an entry, None where it was taken back; raises ValueError and ValidationError."""
    version, document = document_of(entry)
    return None if document is None else compile_policy(decoded(document), version=str(version))
