"""The admin API of keys: make one, which is shown this once, rotate it, revoke it, see what each opens.

HTTP and nothing else: what a change does is `live_keys.py`. Keys of tenants and admin keys are made alike; the one
names a tenant, the other a role.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from pointsman.contracts.config_types import Digest, Name
from pointsman.contracts.errors import InvalidRequest
from pointsman.contracts.keys import KeyScope, Role
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.bodies import PLAIN, Tag, expected_version
from pointsman.router.admin.live_keys import LONGEST, LiveKeys, MadeKey
from pointsman.store.keys import KeyRow, decoded_scope

MOST = 1000
"""Keys on one page at most."""

OVERLAP = 86_400
"""Seconds for which a rotated key stays good, where nobody says otherwise."""

LONGEST_OVERLAP = 90 * 86_400
"""Seconds for which a rotated key can stay good."""

Identity = Annotated[str, Path(alias="id", pattern=r"^key-[0-9a-f]{16}$", description="As in lists of keys.")]
Lifetime = Annotated[
    int, Field(strict=True, ge=1, le=LONGEST, description="Instead of `expires_at`: seconds from now on.")
]


class End(BaseModel):
    """When a key shall expire."""

    model_config = ConfigDict(extra="forbid")

    expires_at: datetime | None = Field(
        None, description="When it expires; UTC where it says none. Default: never."
    )
    expires_in: Lifetime | None = None

    def milliseconds(self) -> int | None:
        """The same in milliseconds since 1970; raises `InvalidRequest` where both are given."""
        if self.expires_at is not None and self.expires_in is not None:
            raise InvalidRequest("expires_in: give this or `expires_at`.", param="expires_in", code="invalid_value")
        if self.expires_in is not None:
            return int((time.time() + self.expires_in) * 1000)
        if self.expires_at is None:
            return None
        end = self.expires_at if self.expires_at.tzinfo else self.expires_at.replace(tzinfo=UTC)
        return int(end.timestamp() * 1000)


class NewKey(KeyScope, End):
    """A key to be made: a tenant's, limited as its fields say, or with a role an admin key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: Name | None = Field(None, description="Whose key it is.")
    role: Role | None = Field(None, description="An admin key: what it may do. `networks` limits it too.")
    label: str = Field("", max_length=100, pattern=PLAIN, description="A name for people, as in lists.")
    digest: Digest | None = Field(
        None, description="The SHA-256 of a key that the tenant has already: the answer then holds no key."
    )


class Rotation(End):
    """How a key is to be replaced. Without an end the new one is good for as long as the old one was made for."""

    overlap: int = Field(
        OVERLAP,
        strict=True,
        ge=0,
        le=LONGEST_OVERLAP,
        description="Seconds for which the old key stays good. Default: a day.",
    )
    scope: KeyScope | None = Field(None, description="What the new key is limited to. Default: as the old one.")


class KeyAnswer(BaseModel):
    """A key, all but itself."""

    id: str
    tenant: str | None = None
    role: Role | None = None
    label: str
    state: str = Field(description="`live`, `expired` or `revoked`.")
    live: bool = Field(description="Whether routers can know of this state; if not, when Redis is back.")
    digest: str = Field(description="Its SHA-256, as rules of policies name keys.")
    scope: KeyScope = Field(description="What a tenant's key is limited to.")
    version: int
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaces: str | None = Field(None, description="The key before it, in rotation.")
    replaced_by: str | None = Field(None, description="The key after it.")


class MadeKeyAnswer(KeyAnswer):
    """A new key, with itself."""

    key: str | None = Field(None, description="The key: shown now and never again.")
    replaced: KeyAnswer | None = Field(None, description="The key whose place it takes, and when that one ends.")


class KeyPage(BaseModel):
    """Some keys, by id."""

    data: list[KeyAnswer]
    after: str | None = Field(description="What to give as `after` for the next page; null: there is none.")


def key_routes(access: Access, keys: LiveKeys) -> APIRouter:
    """The paths under `/admin/v1/keys`. Every error has the form of OpenAI's."""
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    Owner = Annotated[Actor, Depends(access.needs(Role.OWNER))]
    routes = APIRouter(
        prefix="/admin/v1/keys",
        tags=["keys"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )

    def made(response: Response, new: MadeKey) -> MadeKeyAnswer:
        response.headers["etag"] = f'"{new.row.version}"'
        response.headers["cache-control"] = "no-store"
        response.headers["location"] = f"/admin/v1/keys/{new.row.id}"
        fields = _fields(new.row, keys)
        if new.replaced is not None:
            fields["replaced"] = _answer(new.replaced, keys)
        if new.key is not None:
            fields["key"] = new.key
        return MadeKeyAnswer(**fields)

    def answer(response: Response, row: KeyRow) -> KeyAnswer:
        response.headers["etag"] = f'"{row.version}"'
        return _answer(row, keys)

    @routes.get("", response_model_exclude_unset=True, summary="Keys by id, page by page")
    def some(
        by: Reader,
        limit: Annotated[int, Query(ge=1, le=MOST, description="How many at most.")] = 100,
        after: Annotated[
            str | None, Query(max_length=32, pattern=PLAIN, description="The `after` of the page before.")
        ] = None,
        tenant: Annotated[str | None, Query(max_length=63, pattern=PLAIN, description="Of this tenant.")] = None,
        admin: Annotated[bool | None, Query(description="Only admin keys, or none of them.")] = None,
        live: Annotated[bool, Query(description="Only those that open anything.")] = False,
    ) -> KeyPage:
        found = keys.page(limit=limit + 1, after=after, tenant=tenant, admin=admin, live=live)
        data = [_answer(row, keys) for row in found[:limit]]
        return KeyPage(data=data, after=data[-1].id if len(found) > limit else None)

    @routes.post(
        "",
        status_code=201,
        response_model_exclude_unset=True,
        summary="Make a key",
        description="The answer holds the key: it is shown this once.",
    )
    def create(new: NewKey, by: Owner, response: Response) -> MadeKeyAnswer:
        scope = KeyScope(models=new.models, modes=new.modes, endpoints=new.endpoints, networks=new.networks)
        key = keys.create(
            tenant=new.tenant,
            role=new.role,
            label=new.label,
            scope=scope,
            expires_at=new.milliseconds(),
            by=by.name,
            digest=new.digest,
        )
        return made(response, key)

    @routes.get("/{id}", response_model_exclude_unset=True, summary="One key")
    def one(identity: Identity, by: Reader, response: Response) -> KeyAnswer:
        return answer(response, keys.get(identity))

    @routes.post(
        "/{id}/rotate",
        status_code=201,
        response_model_exclude_unset=True,
        summary="Replace a key by a new one",
        description="The old one stays good for the overlap. The answer holds the new one: it is shown this once.",
    )
    def rotate(identity: Identity, by: Owner, response: Response, how: Rotation | None = None) -> MadeKeyAnswer:
        how = how or Rotation()
        key = keys.rotate(identity, overlap=how.overlap, expires_at=how.milliseconds(), by=by.name, scope=how.scope)
        return made(response, key)

    @routes.delete("/{id}", response_model_exclude_unset=True, summary="Revoke a key")
    def revoke(identity: Identity, by: Owner, response: Response, if_match: Tag = None) -> KeyAnswer:
        return answer(response, keys.revoke(identity, expected=expected_version(if_match), by=by.name))

    return routes


def _answer(row: KeyRow, keys: LiveKeys) -> KeyAnswer:
    return KeyAnswer(**_fields(row, keys))


def _fields(row: KeyRow, keys: LiveKeys) -> dict[str, Any]:
    """The fields of an answer, but those that say nothing."""
    live = row.opens(int(time.time() * 1000))
    fields = {
        "id": row.id,
        "tenant": row.tenant,
        "role": row.role,
        "label": row.label,
        "state": "live" if live else "expired" if row.revoked_at is None else "revoked",
        "live": keys.live(),
        "digest": row.digest,
        "scope": decoded_scope(row.scope),
        "version": row.version,
        "created_at": _moment(row.created_at),
        "created_by": row.created_by,
        "expires_at": _moment(row.expires_at),
        "revoked_at": _moment(row.revoked_at),
        "replaces": row.replaces,
        "replaced_by": row.replaced_by,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
