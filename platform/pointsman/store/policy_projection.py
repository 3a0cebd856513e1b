"""The copy of all policies that routers read.

How it is kept and read is `counted_projection.py`; here is what an entry says. Its version is the policy's own, so
that a copy which arrives late can't turn a later one back; a policy that was taken back stays as an entry without a
document, for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.names import RedisKey
from pointsman.contracts.policies import PolicyDocument
from pointsman.store.counted_projection import Change, Counted, CountedProjection, CountedReader

_KEYS = Counted(RedisKey.POLICIES, RedisKey.POLICIES_REVISION, RedisKey.POLICY_CHANGES)

_AT_ONCE = 20
"""Entries read at a time: a few hundred kilobytes at most, as long as streams may wait for their turn."""


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


class PolicyProjection(CountedProjection):
    """The admin process's side: writes. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, _KEYS, version_of=_version_of)


class PolicyReader(CountedReader):
    """A router's side: reads. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis) -> None:
        super().__init__(redis, _KEYS, at_once=_AT_ONCE)


def change_of(written: PolicyVersion) -> Change:
    """What the projection takes for one version of a policy."""
    entry = b'{"version":%d,"document":%b}' % (written.version, (written.document or "null").encode())
    return Change(written.tenant, written.version, entry)


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


def _version_of(entry: bytes) -> int:
    try:
        return document_of(entry)[0]
    except ValueError:
        return -1
