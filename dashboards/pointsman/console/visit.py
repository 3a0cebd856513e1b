"""One page that somebody has open: who it is, and how the page asks the router in their name.

What a page gets to work with; it has no other way to the platform.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec
from urllib.parse import quote

import httpx
from nicegui import Client, ui
from starlette.requests import Request

from pointsman.console.admin_client import AdminClient, AdminError, Answer, Params
from pointsman.console.feeds import Feeds, Fetched
from pointsman.console.sessions import Session
from pointsman.console.theme import Scheme, is_dark, scheme_of
from pointsman.console.who import Who

log = logging.getLogger(__name__)

P = ParamSpec("P")


class Visit:
    """
    `path`: the values in the page's path; `query`: those behind its question mark. `shared`: what pages remember
    for all who logged in with the same key.

    A page is built anew for every visit, so what it keeps in local variables is nobody else's.
    """

    def __init__(self, request: Request, client: Client, session: Session, asks: AdminClient, feeds: Feeds) -> None:
        self.client = client
        self.path: Mapping[str, Any] = request.path_params
        self.query: Mapping[str, str] = request.query_params
        self.cookies: Mapping[str, str] = request.cookies
        self.who: Who = session.who
        self.shared: dict[str, Any] = feeds.shared(session.key)
        self._session = session
        self._asks = asks
        self._feeds = feeds
        self._trouble: Callable[[str | None], None] = lambda _: None

    @property
    def is_dark(self) -> bool:
        """Whether this browser shows dark pages."""
        return is_dark(self.cookies)

    @property
    def scheme(self) -> Scheme:
        """The colours to draw with."""
        return scheme_of(self.cookies)

    async def get(self, path: str, params: Params | None = None, *, max_age: float = 1.0) -> Any:
        """
        The JSON at `path` of the router's API; one of up to `max_age` seconds ago will do. Raises `AdminError`.

        For what pages show. Parts of a path that come from anybody go through `part` first.
        """
        return await self._feeds.get(self._session.key, path, params, max_age=max_age)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One question to the router, asked now: for changes, and for what needs an `ETag`. Raises `AdminError`."""
        answer = await self._asks.ask(self._session.key, method, path, params=params, json=json, headers=headers)
        if method != "GET":
            self._feeds.outdated(self._session.key)
        return answer

    def stream(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        silence: float | None = None,
    ) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        """
        An answer that is read while it comes: `async with visit.stream(…) as response`.

        `key`: whose request it is; None: of whoever is logged in. `silence`: seconds without a byte after which it
        is given up; None: as for any other question.
        """
        asking = key or self._session.key
        return self._asks.stream(asking, method, path, json=json, headers=headers, silence=silence)

    def live(self, path: str, show: Callable[[Any], None], *, every: float, params: Params | None = None) -> None:
        """
        Call `show` with the JSON at `path` about every `every` seconds, as long as this page is open.

        All who look at the same thing share one question. Where there is no answer, the page's head says so and
        what was shown stays. `show` must not wait for anything.
        """
        client = self.client

        def told(fetched: Fetched) -> None:
            with client:
                if fetched.error is not None:
                    self._trouble(fetched.error.message)
                    return
                self._trouble(None)
                show(fetched.body)

        looking = self._feeds.look(
            self._session.key,
            path,
            params,
            every=every,
            show=told,
            wants=lambda: client.has_socket_connection and not client.is_deleted,
        )
        client.on_delete(looking.cancel)

    def doing(self, action: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
        """`action` as a handler of events: why the router refused it is told to whoever asked for it."""

        @functools.wraps(action)
        async def handled(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                await action(*args, **kwargs)
            except AdminError as error:
                self.say(error.message, bad=True)

        return handled

    def say(self, sentence: str, *, bad: bool = False) -> None:
        """Tell something in passing."""
        with self.client:
            ui.notify(
                sentence, type="negative" if bad else "positive", position="bottom", timeout=8000 if bad else 3000
            )

    def on_trouble(self, show: Callable[[str | None], None]) -> None:
        """Who shows what is wrong with the router's answers; None: nothing is."""
        self._trouble = show


def part(word: str) -> str:
    """`word` as one part of a path: whatever is in it, it leads nowhere else."""
    return quote(word, safe="").replace(".", "%2E") if word.strip(".") == "" else quote(word, safe="")
