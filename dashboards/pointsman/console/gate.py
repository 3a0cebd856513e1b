"""What every request passes before the console answers it: who is it, was it this console's own page that sent it.

Around the whole application, so that no page, socket or file of the framework can be had without a session:

- a browser without one is sent to the log-in page, everything else is refused;
- what changes anything, and every socket, must come from a page of this very host;
- a page's scripts carry a nonce that is new each time, and the browser runs no others;
- nothing may be loaded from, sent to, or framed by another host.

`unsafe-eval` stays in the policy: Vue compiles the framework's templates in the browser. Styles may be inline, as
Quasar and Vue set them; scripts may not.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pointsman.console.sessions import Session, Sessions, SessionsAway
from pointsman.console.tabs import Tabs

COOKIE = "pointsman_session"

SESSION = "pointsman.session"
"""Where in a request's scope its `Session` is."""

LOGIN, LOGOUT, HEALTH, ASSETS = "/login", "/logout", "/healthz", "/assets/"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SOCKET = "/_nicegui_ws/"
_PAGE_MARK = "x-nicegui-content"

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; worker-src 'none'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_STRICT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_CONTENT = "parseElements(String.raw`"
"""From here on a page's script holds what the page shows: no text in there may ever be taken for a tag of ours."""
_END_OF_CONTENT = "`), {"
_SCRIPT = re.compile(r"<script(?=[\s>])")


class Gate:
    """The application `app`, for those who are logged in."""

    def __init__(self, app: ASGIApp, sessions: Sessions, tabs: Tabs) -> None:
        self._app = app
        self._sessions = sessions
        self._tabs = tabs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer: Response | None = None
        if not _is_from_here(scope, headers):
            answer = Response("This request does not come from a page of this console.", 403)
        elif not _is_open(scope["path"]):
            answer = await self._entered(scope, headers)
        if scope["type"] == "websocket":
            if answer is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        guarded = _Guarded(scope, send)
        if answer is None:
            _forget_encodings(scope)
            await self._app(scope, receive, guarded)
        else:
            await answer(scope, receive, guarded)

    async def _entered(self, scope: Scope, headers: Headers) -> Response | None:
        """None, with the session in `scope`; or the answer for who has none."""
        try:
            session = await self._session(headers)
        except SessionsAway:
            return Response("Redis does not answer, so the console cannot tell who you are.", 503)
        if session is None:
            if scope["type"] == "http" and "text/html" in headers.get("accept", ""):
                asked = scope["path"] + (
                    "?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""
                )
                return RedirectResponse(LOGIN if asked == "/" else f"{LOGIN}?next={quote(asked, safe='/')}", 303)
            return Response("Log in first.", 401)
        if scope["path"].startswith(_SOCKET) and not self._is_own_tab(scope, session):
            return Response("This page is somebody else's.", 403)
        scope[SESSION] = session
        return None

    async def _session(self, headers: Headers) -> Session | None:
        word = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return None if not word else await self._sessions.find(word)

    def _is_own_tab(self, scope: Scope, session: Session) -> bool:
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("client_id", [])
        return all(self._tabs.session_of(client) in (None, session.identity) for client in asked)


class _Guarded:
    """Sends what is sent, with headers that protect it; a page's scripts with their nonce."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._path = scope["path"]
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()
        self._nonce = secrets.token_urlsafe(16)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            is_page = _PAGE_MARK in headers
            headers["content-security-policy"] = _POLICY.format(nonce=self._nonce) if is_page else _STRICT_POLICY
            if is_page:
                self._start = message
                return
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            page = with_nonce(self._body.decode(), self._nonce).encode()
            MutableHeaders(scope=self._start)["content-length"] = str(len(page))
            await self._send(self._start)
            self._start = None
            await self._send({"type": "http.response.body", "body": page})
            return
        await self._send(message)


def with_nonce(page: str, nonce: str) -> str:
    """`page` with `nonce` in each script of the framework's own, and in nothing that the page shows."""
    before, opening, rest = page.partition(_CONTENT)
    shown, closing, after = rest.partition(_END_OF_CONTENT)
    mark = f'<script nonce="{nonce}"'
    return _SCRIPT.sub(mark, before) + opening + shown + closing + _SCRIPT.sub(mark, after)


def _is_open(path: str) -> bool:
    return path in (LOGIN, HEALTH) or path.startswith(ASSETS)


def _is_from_here(scope: Scope, headers: Headers) -> bool:
    """Whether the browser says that a page of this host sent it; what only reads may come from anywhere."""
    if scope["type"] == "http" and scope["method"] in _SAFE and not scope["path"].startswith(_SOCKET):
        return True
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = headers.get("origin")
    if origin is None:  # which browsers send with all but the simplest requests, and these say where they come from
        return scope["type"] == "http" and headers.get("sec-fetch-site") == "same-origin"
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""


def _forget_encodings(scope: Scope) -> None:
    """A page is changed on its way out, so it must come uncompressed; files are compressed as they like."""
    if scope["path"].startswith("/_nicegui/"):
        return
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    scope["headers"] = [(name, value) for name, value in headers if name != b"accept-encoding"]


def session_of(scope: Any) -> Session:
    """The session that a request came with, which passed the gate."""
    session = scope[SESSION]
    assert isinstance(session, Session)
    return session
