"""The console as an ASGI application: the framework's pages behind the gate."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import logging
from collections.abc import AsyncIterator, Sequence

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from nicegui import Client, core, ui
from redis.asyncio import Redis
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp

from pointsman.console.admin_client import AdminClient, AdminError
from pointsman.console.assets import asset_routes, content
from pointsman.console.downloads import download_routes
from pointsman.console.feeds import Feeds, Fetched, Subscription
from pointsman.console.frame import frame
from pointsman.console.gate import HEALTH, Gate, session_of
from pointsman.console.login import WHOAMI, login_routes
from pointsman.console.page import Page
from pointsman.console.parts import states
from pointsman.console.sessions import Session, Sessions, SessionsAway
from pointsman.console.tabs import Tabs
from pointsman.console.theme import choice_of
from pointsman.console.visit import Visit

log = logging.getLogger(__name__)

CHECKED = 10.0
"""Seconds between two looks at whether the sessions of open pages, and their keys, still hold."""

_BUILT_WITHIN = 20.0
"""Seconds that a page may take to be built: longer than the router has for an answer."""

_MISSING = "There is no such page in this console."


def build_app(client: AdminClient, redis: Redis, pages: Sequence[Page]) -> ASGIApp:
    """The application; `client` and `redis` are closed with it. One in a process: the framework has one of all."""
    sessions, tabs = Sessions(redis), Tabs()
    ended: asyncio.Queue[tuple[Session, str]] = asyncio.Queue()

    def refused(key: str) -> None:
        for session in tabs.sessions_with(key):
            ended.put_nowait((session, "key"))

    feeds = Feeds(client, refused)

    async def end_sessions() -> None:
        while True:
            session, reason = await ended.get()
            tabs.ended(session, reason)
            if not tabs.sessions_with(session.key):
                feeds.forget(session.key)
            with contextlib.suppress(SessionsAway):
                await sessions.close(session)

    async def check_sessions() -> None:
        keys: dict[str, Subscription] = {}
        while True:
            await asyncio.sleep(CHECKED)
            present = {session.key for session in tabs.sessions}
            for key in present - keys.keys():  # the answer is of no matter: a key that is not known ends sessions
                wants = functools.partial(_has_sessions, tabs, key)
                keys[key] = feeds.look(key, WHOAMI, None, every=CHECKED, show=_nobody, wants=wants)
            for key in keys.keys() - present:
                keys.pop(key).cancel()
            for session in tabs.sessions:
                if not await sessions.is_there(session):
                    ended.put_nowait((session, "time"))

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work()) for work in (feeds.run, end_sessions, check_sessions)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()
            await redis.aclose()

    app = FastAPI(title="Pointsman console", docs_url=None, redoc_url=None, openapi_url=None, lifespan=running)
    app.include_router(login_routes(client, sessions, ended))
    app.include_router(asset_routes())
    app.include_router(download_routes(client))

    @app.get(HEALTH, include_in_schema=False)
    def healthy() -> Response:
        return PlainTextResponse("ok")

    for page in pages:
        _serve(page, pages, client, feeds, tabs)
    ui.run_with(
        app,
        title="Pointsman",
        favicon=(content("mark.svg") or b"").decode(),
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=10.0,
        message_history_length=200,
        binding_refresh_interval=None,
        gzip_middleware_factory=lambda inner: GZipMiddleware(inner, minimum_size=1000, compresslevel=4),
    )
    core.app.exception_handlers[404] = _not_found
    return Gate(app, sessions, tabs)


def _serve(page: Page, pages: Sequence[Page], asks: AdminClient, feeds: Feeds, tabs: Tabs) -> None:
    @ui.page(page.path, title=f"{page.title} · Pointsman", language="en-US", response_timeout=_BUILT_WITHIN)
    async def built(request: Request, client: Client) -> None:
        session = session_of(request.scope)
        tabs.opened(client, session)
        visit = Visit(request, client, session, asks, feeds)
        chosen = choice_of(request.cookies)
        if chosen != "auto":  # which style sheets do by themselves, also while a page is open
            client.page = copy.copy(client.page)  # else it would be every other visitor's, too
            client.page.dark = chosen == "dark"
        with frame(visit, page, pages):
            if not page.allowed(visit.who):
                states.failed(AdminError("This page is for administrators.", status=403))
                return
            try:
                await page.build(visit)
            except AdminError as error:
                states.failed(error, ui.navigate.reload)


def _has_sessions(tabs: Tabs, key: str) -> bool:
    return bool(tabs.sessions_with(key))


def _nobody(fetched: Fetched) -> None:
    """Nobody is shown it."""


async def _not_found(request: Request, error: Exception) -> Response:
    return PlainTextResponse(_MISSING, 404)
