"""The copy of all tenants and their keys that routers read, and of the admin keys beside them.

How it is kept and read is `counted_projection.py`; here is what an entry says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, cast

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.keys import Role
from pointsman.contracts.names import RedisKey
from pointsman.store.counted_projection import (
    CHANGES_KEPT,
    Change,
    Counted,
    CountedProjection,
    CountedReader,
    text_of,
)
from pointsman.store.counted_scripts import SET_ADMINS

__all__ = [
    "ADMIN_KEYS_CHANGED",
    "OF_FILE",
    "Change",
    "KeyEntry",
    "TenantEntry",
    "TenantProjection",
    "TenantReader",
    "encoded_entry",
    "tenant_entry",
]

OF_FILE: Literal["file"] = "file"
"""Stands for the document of a tenant that the configuration holds."""

ADMIN_KEYS_CHANGED = ""
"""The name, which no tenant can have, by which the stream tells that admin keys have changed."""


class KeyEntry(NamedTuple):
    """
    A key as routers read it. `expires_at`: milliseconds since 1970; None, as in the rest: not limited.

    `digest`: 32 bytes, the SHA-256 of the key. `networks`: in CIDR notation.
    """

    id: str
    digest: bytes
    expires_at: int | None = None
    models: tuple[str, ...] | None = None
    modes: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None


class TenantEntry(NamedTuple):
    """
    What an entry says. `tenant`: the tenant's document with its name and without keys, as `Tenant` reads it;
    `OF_FILE` where the configuration has it; None where it was deleted.
    """

    version: int
    tenant: dict[str, Any] | Literal["file"] | None
    keys: tuple[KeyEntry, ...]


class TenantProjection(CountedProjection):
    """The admin process's side: writes. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, _KEYS, version_of=_version_of)
        self._set_admins = redis.register_script(SET_ADMINS)

    def put_admin_keys(self, roles: Mapping[str, Role]) -> str | None:
        """Let these be the admin keys, by the digest in hexadecimal; the result is `put`'s."""
        pairs = [part for digest, role in roles.items() for part in (digest, role.value)]
        keys = [RedisKey.ADMIN_KEYS, RedisKey.TENANTS_REVISION, RedisKey.TENANT_CHANGES]
        return text_of(self._set_admins(keys=keys, args=[CHANGES_KEPT, *pairs]))

    def admin_keys(self) -> dict[str, str]:
        """The role by the digest in hexadecimal, as they are there."""
        found = cast(dict[bytes, bytes], self._redis.hgetall(RedisKey.ADMIN_KEYS))
        return {
            digest.decode("utf-8", "replace"): role.decode("utf-8", "replace") for digest, role in found.items()
        }


_KEYS = Counted(RedisKey.TENANTS, RedisKey.TENANTS_REVISION, RedisKey.TENANT_CHANGES)


class TenantReader(CountedReader):
    """A router's side: reads. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis) -> None:
        super().__init__(redis, _KEYS)

    async def admin_keys(self) -> dict[bytes, Role]:
        """The roles of the admin keys that the admin API has made, by the 32 bytes of their digests."""
        found = cast(dict[bytes, bytes], await cast(Any, self._redis.hgetall(RedisKey.ADMIN_KEYS)))
        keys = {}
        for digest, role in found.items():
            try:
                keys[bytes.fromhex(digest.decode("ascii"))] = Role(role.decode("ascii"))
            except ValueError:
                continue  # opens nothing
        return keys


def tenant_entry(entry: bytes) -> TenantEntry:
    """What `entry` says. Raises ValueError where it is no entry of the projection."""
    fields = orjson.loads(entry)
    try:
        version, tenant = fields["version"], fields["tenant"]
        keys = tuple(_key(key) for key in fields["keys"])
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not an entry of the projection") from None
    if type(version) is not int or not (tenant is None or tenant == OF_FILE or isinstance(tenant, dict)):
        raise ValueError("not an entry of the projection")
    return TenantEntry(version, tenant, keys)


def encoded_entry(version: int, document: str | None, keys: Iterable[Mapping[str, Any]]) -> bytes:
    """
    An entry. `document`: the tenant's, as JSON, `OF_FILE` or None; `keys`: their fields as JSON has them, a digest
    in hexadecimal, without those that are None.
    """
    tenant = "null" if document is None else '"file"' if document == OF_FILE else document
    return b'{"version":%d,"tenant":%b,"keys":%b}' % (version, tenant.encode(), orjson.dumps(list(keys)))


def _key(fields: dict[str, Any]) -> KeyEntry:
    get = fields.get
    return KeyEntry(
        fields["id"],
        bytes.fromhex(fields["digest"]),
        get("expires_at"),
        _tuple(get("models")),
        _tuple(get("modes")),
        _tuple(get("endpoints")),
        _tuple(get("networks")),
    )


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _version_of(entry: bytes) -> int:
    try:
        return tenant_entry(entry).version
    except ValueError:
        return -1
