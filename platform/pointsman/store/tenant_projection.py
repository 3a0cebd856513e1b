"""The copy of all tenants and their keys that routers read: a hash in Redis, a counted revision, and a stream that
names what changed.

Redis may lose it or be behind: the admin process puts it right from the database, whose numbers of changes a copy
that arrives late can't turn back. With a hundred thousand tenants nobody should read all of them for one change:
the revision is `CHAIN.NUMBER`, and each change the entry `NUMBER-0` of the stream, so that a reader sees whether it
has missed one. Where everything is written anew, a new chain begins.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeVar, cast

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pointsman.contracts.keys import Role
from pointsman.contracts.names import RedisKey
from pointsman.store.tenant_scripts import FINISH, PUT, SET_ADMINS, SOME

OF_FILE: Literal["file"] = "file"
"""Stands for the document of a tenant that the configuration holds."""

ADMIN_KEYS_CHANGED = ""
"""The name, which no tenant can have, by which the stream tells that admin keys have changed."""

CHANGES_KEPT = 10_000
"""Changes that the stream holds at least; who is further behind reads everything."""

_AT_ONCE = 200
"""Entries read or written at a time: some hundred kilobytes, as long as streams may wait for their turn."""

_BUILT = RedisKey.TENANTS + ":next:"
_BUILT_LIVES = 600
"""Seconds after which a copy that nobody finished goes by itself."""


class Change(NamedTuple):
    """A tenant's entry, and the number of the change that made it."""

    name: str
    version: int
    entry: bytes


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


class TenantProjection:
    """The admin process's side: writes. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._put = redis.register_script(PUT)
        self._set_admins = redis.register_script(SET_ADMINS)
        self._finish = redis.register_script(FINISH)

    def put(self, changes: Iterable[Change]) -> str | None:
        """
        Project `changes`, but those that are older than what is there; returns the revision from now on.

        None: Redis was emptied or lost a part of it. A few tenants alone would look as if all others were gone.
        """
        revision: str | None = None
        for some in _pieces(changes, _AT_ONCE):
            arguments = [part for change in some for part in change]
            revision = _text(self._put(keys=_KEYS, args=[CHANGES_KEPT, *arguments]))
            if revision is None:
                return None
        return revision or self.revision()

    def put_admin_keys(self, roles: Mapping[str, Role]) -> str | None:
        """Let these be the admin keys, by the digest in hexadecimal; the result is `put`'s."""
        pairs = [part for digest, role in roles.items() for part in (digest, role.value)]
        keys = [RedisKey.ADMIN_KEYS, RedisKey.TENANTS_REVISION, RedisKey.TENANT_CHANGES]
        return _text(self._set_admins(keys=keys, args=[CHANGES_KEPT, *pairs]))

    def replace(self, changes: Iterable[Change]) -> str | None:
        """
        Make the projection these entries and nothing else; returns the new revision, None where it didn't work.

        They are written beside the present ones, which readers go on reading, and then take their place at once.
        What is put meanwhile is lost: the caller must put again what has changed since `changes` was read.
        """
        built = _BUILT + secrets.token_hex(8)
        number = 0
        try:
            for some in _pieces(changes, _AT_ONCE):
                with self._redis.pipeline(transaction=False) as batch:
                    batch.hset(built, mapping={change.name: change.entry for change in some})
                    batch.expire(built, _BUILT_LIVES)
                    batch.execute()
                number += len(some)
            return _text(self._finish(keys=[*_KEYS, built], args=[f"{secrets.token_hex(8)}.0", number]))
        except BaseException:
            self._redis.unlink(built)
            raise

    def versions(self) -> Iterator[tuple[str, int]]:
        """Each tenant that is there with its version; -1 where an entry makes no sense. One may come twice."""
        cursor = 0
        while True:
            found: tuple[int, dict[bytes, bytes]]
            found = cast(Any, self._redis.hscan(RedisKey.TENANTS, cursor, count=_AT_ONCE))
            cursor = found[0]
            for name, entry in found[1].items():
                yield name.decode("utf-8", "replace"), _version_of(entry)
            if not cursor:
                return

    def admin_keys(self) -> dict[str, str]:
        """The role by the digest in hexadecimal, as they are there."""
        found = cast(dict[bytes, bytes], self._redis.hgetall(RedisKey.ADMIN_KEYS))
        return {
            digest.decode("utf-8", "replace"): role.decode("utf-8", "replace") for digest, role in found.items()
        }

    def revision(self) -> str | None:
        """The word of the last write; None where Redis was emptied."""
        return _text(self._redis.get(RedisKey.TENANTS_REVISION))


_KEYS = [RedisKey.TENANTS, RedisKey.TENANTS_REVISION, RedisKey.TENANT_CHANGES]


class TenantReader:
    """A router's side: reads. Every method raises `redis.exceptions.RedisError` where Redis fails."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis
        self._some = redis.register_script(SOME)

    async def revision(self) -> str | None:
        """The word of the last write; None where nobody wrote, or Redis was emptied: nothing follows from that."""
        return _text(await self._redis.get(RedisKey.TENANTS_REVISION))

    async def changes(self, since: str, until: str) -> set[str] | None:
        """
        The names of what has changed after revision `since`, up to `until` at least; `ADMIN_KEYS_CHANGED` is among
        them where admin keys have. None: that can't be told any more, everything is to be read.
        """
        chain, _, first = since.partition(".")
        same, _, last = until.partition(".")
        if chain != same or not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
            return None
        names: set[str] = set()
        number = int(first)
        while number < int(last):
            found = await self._redis.xrange(RedisKey.TENANT_CHANGES, min=f"{number + 1}-0", count=_AT_ONCE)
            for identity, fields in cast(list[tuple[bytes, dict[bytes, bytes]]], found):
                number += 1
                if identity != b"%d-0" % number:
                    return None
                names.add(fields.get(b"tenant", b"").decode("utf-8", "replace"))
            if not found:
                return None
        # The stream may belong to a chain that has begun meanwhile.
        now = await self.revision()
        return names if now is not None and now.partition(".")[0] == chain else None

    async def some(self, names: Iterable[str]) -> dict[str, bytes | None]:
        """The entries of `names`; None where there is none."""
        found: dict[str, bytes | None] = {}
        for some in _pieces(names, _AT_ONCE):
            entries = cast(list[bytes | None], await cast(Any, self._redis.hmget(RedisKey.TENANTS, some)))
            found.update(zip(some, entries, strict=True))
        return found

    async def all(self) -> AsyncIterator[tuple[str, bytes]]:
        """
        Each tenant with its entry, some at a time; `tenant_entry` reads one.

        An entry may come twice, and one that is written meanwhile may be missed: the revision tells.
        """
        cursor = b"0"
        while True:
            cursor, joined = await self._some(keys=[RedisKey.TENANTS], args=[cursor, _AT_ONCE])
            found = joined.split(b"\0") if joined else []
            for name, entry in zip(found[::2], found[1::2], strict=False):
                yield name.decode("utf-8", "replace"), entry
            if cursor == b"0":
                return

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


def _text(value: object) -> str | None:
    return value.decode() if isinstance(value, bytes) else None


T = TypeVar("T")


def _pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
