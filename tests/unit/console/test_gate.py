"""What passes the gate, and what a page's scripts and headers look like when they have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from pointsman.console.gate import COOKIE, SESSION, Gate, with_nonce
from pointsman.console.sessions import SessionsAway

WORD = "the-word-of-a-session"
SESSION_OF_WORD = SimpleNamespace(identity="one", key="pk-1")
PAGE = (
    '<script type="importmap">{}</script><script defer src="/x.js"></script>'
    'createApp(parseElements(String.raw`{"0": "<script>alert(1)</script>"}`), {query: {}});'
    "<script>after()</script><scripted>"
)


class Sessions:
    """Knows one word; raises where Redis is away."""

    away = False

    async def find(self, word: str) -> Any:
        if self.away:
            raise SessionsAway
        return SESSION_OF_WORD if word == WORD else None


class Tabs:
    """Two open pages: one of the session, one of somebody else's."""

    def session_of(self, client_id: str) -> str | None:
        return {"mine": "one", "theirs": "two"}.get(client_id)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with a page, or accepts a socket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    assert SESSION in scope or scope["path"] in ("/login", "/healthz") or scope["path"].startswith("/assets/")
    headers = {"x-nicegui-content": "page"} if scope["path"] == "/" else {}
    await HTMLResponse(PAGE, headers=headers)(scope, receive, send)


def asked(
    path: str = "/",
    *,
    method: str = "GET",
    kind: str = "http",
    query: str = "",
    word: str | None = WORD,
    away: bool = False,
    **headers: str,
) -> tuple[int | str, Mapping[str, str], str]:
    """The status (or the type of the message to a socket), the headers and the body of the answer."""
    sent: list[dict[str, Any]] = []
    sessions: Any = Sessions()
    sessions.away = away
    tabs: Any = Tabs()
    all_headers = {"host": "console.test:8081", "accept": "text/html", **headers}
    if word is not None:
        all_headers["cookie"] = f"other=1; {COOKIE}={word}"
    scope = {
        "type": kind,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in all_headers.items()],
        **({"method": method} if kind == "http" else {}),
    }

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    asyncio.run(Gate(application, sessions, tabs)(scope, receive, send))
    if kind == "websocket":
        return sent[0]["type"], {}, ""
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(one.get("body", b"") for one in sent[1:]).decode()


def test_who_is_logged_in_gets_the_page_and_nobody_else() -> None:
    assert asked()[0] == 200
    for word in (None, "", "another"):
        status, headers, _ = asked(word=word)
        assert (status, headers["location"]) == (303, "/login")
    assert asked("/costs", query="by=mode", word=None)[1]["location"] == "/login?next=/costs%3Fby%3Dmode"
    assert asked("/_nicegui/3/static/vue.js", word=None, accept="*/*")[0] == 401
    assert asked("/download/costs.csv", word="another", accept="text/csv")[0] == 401
    for path in ("/login", "/healthz", "/assets/0/console.css"):
        assert asked(path, word=None)[0] == 200
    for path in ("/login/", "/loginx", "/assets", "/healthz/x", "//login", "/LOGIN"):
        assert asked(path, word=None)[0] == 303


def test_without_redis_nobody_is_taken_for_anybody() -> None:
    assert asked(away=True)[0] == 503
    assert asked("/login", word=None, away=True)[0] == 200


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"origin": "http://console.test:8081"}, True),
        ({"origin": "https://console.test:8081", "sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://console.test:8082"}, False),
        ({"origin": "http://evil.test"}, False),
        ({"origin": "http://console.test:8081.evil.test"}, False),
        ({"origin": "http://console.test:8081", "sec_fetch_site": "same-site"}, False),
        ({"origin": "http://console.test:8081", "sec_fetch_site": "cross-site"}, False),
    ],
    ids=lambda value: str(value),
)
def test_what_changes_anything_comes_from_a_page_of_this_host(headers: dict[str, str], passes: bool) -> None:
    expected = 200 if passes else 403
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert asked("/logout", method=method, **headers)[0] == expected
        assert asked("/login", method=method, word=None, **headers)[0] == expected
    # The framework's events come by polling where there is no socket: these too.
    assert asked("/_nicegui_ws/socket.io/", query="client_id=mine", **headers)[0] == expected
    opened = asked("/_nicegui_ws/socket.io/", kind="websocket", query="client_id=mine", **headers)[0]
    assert (opened == "websocket.accept") == (passes and "origin" in headers)


def test_a_socket_is_for_a_page_of_the_same_session() -> None:
    here = {"origin": "http://console.test:8081"}

    def opened(query: str, **rest: Any) -> bool:
        return (
            asked("/_nicegui_ws/socket.io/", kind="websocket", query=query, **here, **rest)[0] == "websocket.accept"
        )

    assert opened("client_id=mine")
    assert opened("client_id=nobody")  # which the framework refuses
    assert not opened("client_id=theirs")
    assert not opened("client_id=mine&client_id=theirs")
    assert not opened("client_id=mine", word=None)
    assert not opened("client_id=mine", away=True)


def test_scripts_of_a_page_carry_a_nonce_and_what_it_shows_does_not() -> None:
    page = with_nonce(PAGE, "N0NCE")
    assert page.count('nonce="N0NCE"') == 3
    assert '<script nonce="N0NCE" type="importmap">' in page
    assert '"<script>alert(1)</script>"' in page
    assert "<scripted>" in page

    _, headers, body = asked()
    policy = headers["content-security-policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert len(nonce) > 20
    assert body == with_nonce(PAGE, nonce)
    assert headers["content-length"] == str(len(body.encode()))
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe-inline" not in scripts
    assert "http" not in policy
    assert nonce not in asked()[1]["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/login", "/nowhere", "/healthz"])
def test_every_answer_is_protected(path: str) -> None:
    for word in (WORD, None):
        _, headers, _ = asked(path, word=word)
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
