"""Logging in and out: plain pages with a form, without the framework: who is nobody yet shall cost no memory.

A key is shown to the router, which says whose it is; it then lives in the session alone. A new session begins with
every log-in, whatever cookie the browser came with.
"""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from pointsman.console.admin_client import AdminClient, AdminError
from pointsman.console.assets import asset
from pointsman.console.gate import COOKIE, LOGIN, LOGOUT, session_of
from pointsman.console.sessions import LONGEST, Session, Sessions, SessionsAway
from pointsman.console.theme import PALETTE, wanted_scheme
from pointsman.console.who import Who
from pointsman.contracts.tenants import is_well_formed

log = logging.getLogger(__name__)

WHOAMI = "/v1/whoami"

_LARGEST = 4096
"""Bytes of a form."""

_AT_ONCE = 8
"""Keys that are shown to the router at a time."""

_ENDED = {
    "out": "You are logged out.",
    "key": "Your session has ended: the key is no longer valid.",
    "time": "Your session has ended: log in again.",
}

_STARTING = (0, 502, 503)
"""What is answered where a part of the platform, or all of it, does not run; 0: no router answers."""

_NOT_YET = "The platform is still starting, or a part of it is being started again. Try again in a moment."

_PAGE = Markup("""<!doctype html>
<html lang="en" data-scheme="{scheme}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · Pointsman</title>
<link rel="icon" href="{icon}" type="image/svg+xml">
<link rel="stylesheet" href="{palette}">
<link rel="stylesheet" href="{style}">
<script src="{script}" defer></script>
</head>
<body class="pm-login">
<main>
<img class="pm-login-mark" src="{icon}" alt="" width="44" height="44">
<h1>Pointsman</h1>
<p class="pm-dim">Log in with an admin key or a tenant's key.</p>
{message}
<form method="post" action="{action}">
<label for="key">Key</label>
<input id="key" name="key" type="password" autocomplete="current-password" spellcheck="false" required autofocus
 placeholder="pk-…" maxlength="256">
<input type="hidden" name="next" value="{next}">
<button type="submit">Log in</button>
</form>
<p class="pm-dim pm-small">The key stays on the server, for this session alone. Keys of this machine's own platform
are in its state folder.</p>
</main>
</body>
</html>
""")


def login_routes(client: AdminClient, sessions: Sessions, ended: asyncio.Queue[tuple[Session, str]]) -> APIRouter:
    """`/login` and `/logout`; sessions that somebody left are put into `ended`."""
    routes = APIRouter(include_in_schema=False)
    turns = asyncio.Semaphore(_AT_ONCE)

    @routes.get(LOGIN)
    async def form(request: Request) -> Response:
        note = _ENDED.get(request.query_params.get("ended", ""))
        return _page(request, note=note, target=request.query_params.get("next", "/"))

    @routes.post(LOGIN)
    async def enter(request: Request) -> Response:
        fields = await _fields(request)
        key, target = fields.get("key", "").strip(), _own(fields.get("next", "/"))
        if not is_well_formed(key):
            return _page(request, error="This is no key: keys begin with pk-.", target=target, status=422)
        try:
            async with turns:
                answer = await client.ask(key, "GET", WHOAMI)
            who = Who.read(answer.body)
        except AdminError as error:
            if error.status == 401:
                return _page(request, error="The router does not know this key.", target=target, status=401)
            if error.status in _STARTING:
                return _page(request, note=_NOT_YET, target=target, status=503)
            return _page(request, error=error.message, target=target, status=502)
        except (ValueError, KeyError, TypeError):
            return _page(request, error="What answers is no Pointsman router.", target=target, status=502)
        try:
            word = await sessions.open(key, who)
        except SessionsAway:
            return _page(request, error="Redis does not answer: try again in a moment.", target=target, status=503)
        log.info("%s logged in with key %s", who.name, who.key)
        response = RedirectResponse(target, 303)
        response.set_cookie(
            COOKIE, word, max_age=LONGEST, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return response

    @routes.post(LOGOUT)
    async def leave(request: Request) -> Response:
        session = session_of(request.scope)
        try:
            await sessions.close(session)
        except SessionsAway:
            return _page(request, error="Redis does not answer: you are still logged in.", status=503)
        ended.put_nowait((session, "out"))
        response = RedirectResponse(f"{LOGIN}?ended=out", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return routes


def _page(
    request: Request, *, note: str | None = None, error: str | None = None, target: str = "/", status: int = 200
) -> Response:
    message = Markup("")
    if error is not None:
        message = Markup('<p class="pm-login-error" role="alert">{}</p>').format(error)
    elif note is not None:
        message = Markup('<p class="pm-login-note" role="status">{}</p>').format(note)
    text = _PAGE.format(
        scheme=wanted_scheme(request.cookies),
        icon=asset("mark.svg"),
        palette=asset(PALETTE),
        style=asset("console.css"),
        script=asset("theme.js"),
        action=LOGIN,
        message=message,
        next=_own(target),
    )
    return HTMLResponse(text, status, headers={"cache-control": "no-store"})


async def _fields(request: Request) -> dict[str, str]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST:
            return {}
    found = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)
    return {name: values[0] for name, values in found.items()}


def _own(target: str) -> str:
    """`target` where it is a page of this console, else the first one: nobody is led elsewhere by a link."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain and not target.startswith((LOGIN, LOGOUT)) else "/"
