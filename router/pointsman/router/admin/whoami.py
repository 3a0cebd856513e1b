"""The API by which the holder of a key learns what it is: a tenant's or an administrator's, and what it opens.

HTTP and nothing else: whose a key is, `key_ring.py` says. A key that is limited to other paths may ask this too: it
is told nothing that its holder doesn't know.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from pointsman.contracts.keys import Role
from pointsman.router.admin.access import Access


class WhoAnswer(BaseModel):
    """What a key is."""

    key: str = Field(description="The first eight hexadecimal digits of its SHA-256.")
    role: Role | None = Field(description="Of an admin key; null: it is a tenant's.")
    tenant: str | None = Field(description="Whose it is; null: it is an admin key.")
    models: list[str] = Field(description="What a tenant's key may ask for, by name.")
    expires_at: datetime | None = Field(description="When it ends; null: never by itself.")


def whoami_routes(access: Access) -> APIRouter:
    """The path `/v1/whoami`. Every error has the form of OpenAI's."""
    routes = APIRouter(responses={"default": {"description": "An error in OpenAI's form."}})

    @routes.get("/v1/whoami", tags=["keys"], summary="What this key is, and what it opens")
    def whoami(request: Request) -> WhoAnswer:
        owner = access.owner(request)
        return WhoAnswer(
            key=owner.tag,
            role=owner.role,
            tenant=owner.tenant,
            models=sorted(owner.models),
            expires_at=None if owner.expires_at is None else datetime.fromtimestamp(owner.expires_at / 1000, UTC),
        )

    return routes
