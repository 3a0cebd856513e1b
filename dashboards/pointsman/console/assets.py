"""The console's own files: named by what is in them, so that a browser keeps them until they change."""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

from pointsman.console.gate import ASSETS
from pointsman.console.theme import PALETTE, palette_css

_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@functools.cache
def content(name: str) -> bytes | None:
    """What is in the file called `name`; None: there is none."""
    if name == PALETTE:
        return palette_css().encode()
    file = files("pointsman.console") / "static" / name
    return file.read_bytes() if name.rpartition(".")[2] in _TYPES and file.is_file() else None


@functools.cache
def asset(name: str) -> str:
    """The path of a file that there is."""
    found = content(name)
    assert found is not None
    return f"{ASSETS}{hashlib.sha256(found).hexdigest()[:12]}/{name}"


def asset_routes() -> APIRouter:
    """`/assets/DIGEST/NAME`."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(ASSETS + "{digest}/{name}")
    def one(digest: str, name: str) -> Response:
        found = content(name) if "/" not in name and ".." not in name else None
        if found is None:
            return Response("There is no such file.", 404)
        return Response(found, media_type=_TYPES[name.rpartition(".")[2]], headers={"cache-control": _FOREVER})

    return routes
