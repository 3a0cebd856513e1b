"""The copy of all policies that routers read: a hash in Redis, and a word beside it that changes with every write.

Redis may lose it or be behind: the admin process puts it right from the database, whose order of versions a copy
that arrives late can't turn back. A policy that was taken back stays as an entry without a document, for the same
reason.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import cast

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.names import RedisKey
from pointsman.contracts.policies import PolicyDocument


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """
    One version of a tenant's policy. `document` is its JSON with the fields that were set; None: the policy was
    taken back, and the configuration's holds. `updated_at`: milliseconds since 1970. `managed_by`: who alone may
    change it.
    """

    tenant: str
    version: int
    document: str | None
    updated_at: int
    updated_by: str
    comment: str
    managed_by: str = "api"


def encoded(document: PolicyDocument) -> str:
    """`document` as it is kept: fields at their default are written only where they were set."""
    return document.model_dump_json(exclude_unset=True)


def decoded(text: str | bytes) -> PolicyDocument:
    """What `encoded` made of a document. Raises pydantic's `ValidationError` where it does not fit the schema."""
    return PolicyDocument.model_validate_json(text)


_PUT = """
local revision = redis.call('GET', KEYS[2])
if not revision then return false end
local present = redis.call('HGET', KEYS[1], ARGV[1])
if present and cjson.decode(present).version >= tonumber(ARGV[2]) then return revision end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[4])
return ARGV[4]
"""
"""Takes the keys of hash and revision; tenant, version, entry, new revision. Returns the revision that is there."""

_AT_ONCE = 20
"""Entries read at a time: a few hundred kilobytes at most, as long as streams may wait for their turn."""


class PolicyProjection:
    """The admin process's side: writes. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._put = redis.register_script(_PUT)

    def put(self, written: PolicyVersion) -> str | None:
        """
        Project one version, unless a newer one is there; returns the revision from now on.

        None: Redis was emptied, and nothing was written. One policy alone would look as if all others were gone.
        """
        revision = self._put(
            keys=[RedisKey.POLICIES, RedisKey.POLICIES_REVISION],
            args=(written.tenant, written.version, _entry(written), secrets.token_hex(8)),
        )
        return _text(revision)

    def replace(self, versions: Iterable[PolicyVersion]) -> str:
        """Make the projection these versions and nothing else, in one step; returns the new revision."""
        revision = secrets.token_hex(8)
        with self._redis.pipeline(transaction=True) as batch:
            batch.delete(RedisKey.POLICIES)
            for written in versions:
                batch.hset(RedisKey.POLICIES, written.tenant, _entry(written))
            batch.set(RedisKey.POLICIES_REVISION, revision)
            batch.execute()
        return revision

    def versions(self) -> dict[str, int]:
        """The version of each tenant that is there; -1 where an entry makes no sense."""
        found = cast(dict[bytes, bytes], self._redis.hgetall(RedisKey.POLICIES))
        return {tenant.decode("utf-8", "replace"): _version_of(entry) for tenant, entry in found.items()}

    def revision(self) -> str | None:
        """The word of the last write; None where Redis was emptied."""
        return _text(self._redis.get(RedisKey.POLICIES_REVISION))


class ProjectionReader:
    """A router's side: reads. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def revision(self) -> str | None:
        """The word of the last write; None where nobody wrote, or Redis was emptied."""
        return _text(await self._redis.get(RedisKey.POLICIES_REVISION))

    async def entries(self) -> AsyncIterator[tuple[str, bytes]]:
        """
        Each tenant with its entry, a few at a time; `document_of` reads one.

        An entry may come twice, and one that is written meanwhile may be missed: the revision tells.
        """
        cursor = 0
        while True:
            cursor, found = await self._redis.hscan(RedisKey.POLICIES, cursor, count=_AT_ONCE)
            for tenant, entry in cast(dict[bytes, bytes], found).items():
                yield tenant.decode("utf-8", "replace"), entry
            if not cursor:
                return


def document_of(entry: bytes) -> tuple[int, bytes | None]:
    """
    Version and JSON document of an entry; None where the policy was taken back.

    Raises ValueError where it is no entry.
    """
    fields = orjson.loads(entry)
    if not isinstance(fields, dict) or type(fields.get("version")) is not int or "document" not in fields:
        raise ValueError("not an entry of the projection")
    document = fields["document"]
    return fields["version"], None if document is None else orjson.dumps(document)


def _entry(written: PolicyVersion) -> bytes:
    return b'{"version":%d,"document":%b}' % (written.version, (written.document or "null").encode())


def _version_of(entry: bytes) -> int:
    try:
        return document_of(entry)[0]
    except ValueError:
        return -1


def _text(value: object) -> str | None:
    return value.decode() if isinstance(value, bytes) else None
