"""What open pages look at again and again: asked for once, however many look.

Everybody who has logged in with the same key and looks at the same thing shares one feed; all feeds together ask
the router at most every `PACE` seconds. A feed that nobody looks at is not asked for.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pointsman.console.admin_client import AdminClient, AdminError, Params

log = logging.getLogger(__name__)

PACE = 0.55
"""Seconds between two questions of feeds: less than two a second, whatever is open."""

KEPT = 60.0
"""Seconds for which the last answer to a question is remembered that nobody looks at."""

MOST = 500
"""Answers that are remembered."""

MOST_SHARED = 50
"""Keys for which pages remember something."""

Show = Callable[["Fetched"], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """`body`: the JSON that came last, None where none ever came; `at`: when, in monotonic seconds; `error`: why
    the last question had no answer."""

    body: Any
    at: float
    error: AdminError | None = None


@dataclass(slots=True, eq=False)
class Subscription:
    """One who looks. `wants()` says whether somebody does right now; ended once by `cancel`."""

    every: float
    show: Show
    wants: Callable[[], bool]
    feed: _Feed

    def cancel(self) -> None:
        """Look no more."""
        self.feed.lookers.discard(self)


@dataclass(slots=True, eq=False)
class _Feed:
    key: str
    path: str
    params: dict[str, Any]
    asked_at: float = 0.0
    fetched: Fetched | None = None
    lookers: set[Subscription] = field(default_factory=set)
    under_way: asyncio.Task[Fetched] | None = None

    def due(self) -> float | None:
        """When it is to be asked for again, in monotonic seconds; None: nobody looks, or an answer is under way."""
        if self.under_way is not None and not self.under_way.done():
            return None
        every = [one.every for one in self.lookers if one.wants()]
        return self.asked_at + min(every) if every else None


class Feeds:
    """All feeds of this process. `refused(key)` is called where the router no longer knows `key`."""

    def __init__(self, client: AdminClient, refused: Callable[[str], None]) -> None:
        self._client = client
        self._refused = refused
        self._feeds: dict[tuple[str, str, str], _Feed] = {}
        self._shared: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._free_at = 0.0
        self._changed = asyncio.Event()

    async def get(self, key: str, path: str, params: Params | None = None, *, max_age: float = 1.0) -> Any:
        """The JSON at `path`, not older than `max_age` seconds. Raises `AdminError`."""
        feed = self._feed(key, path, params)
        found = feed.fetched
        if found is None or found.error is not None or time.monotonic() - found.at > max_age:
            found = await self._fetch(feed)
        if found.error is not None:
            raise found.error
        return found.body

    def look(
        self, key: str, path: str, params: Params | None, *, every: float, show: Show, wants: Callable[[], bool]
    ) -> Subscription:
        """Have `show` called with what is at `path`, about every `every` seconds while `wants()`."""
        feed = self._feed(key, path, params)
        one = Subscription(every, show, wants, feed)
        feed.lookers.add(one)
        self._changed.set()
        return one

    def shared(self, key: str) -> dict[str, Any]:
        """What pages remember for all who logged in with `key`: courses that go on while pages come and go."""
        digest = _digest(key)
        found = self._shared.setdefault(digest, {})
        self._shared.move_to_end(digest)
        if len(self._shared) > MOST_SHARED:
            self._shared.popitem(last=False)
        return found

    def outdated(self, key: str) -> None:
        """What the holder of `key` has seen no longer holds: ask again when somebody wants to know."""
        digest = _digest(key)
        for name, feed in self._feeds.items():
            if name[0] == digest and feed.fetched is not None:
                feed.fetched = Fetched(feed.fetched.body, 0.0, feed.fetched.error)

    def forget(self, key: str) -> None:
        """Remember nothing that the holder of `key` has seen."""
        digest = _digest(key)
        self._shared.pop(digest, None)
        for name in [name for name in self._feeds if name[0] == digest]:
            del self._feeds[name]

    async def run(self) -> None:
        """Ask for what is due, until cancelled."""
        while True:
            self._changed.clear()
            now = time.monotonic()
            self._sweep(now)
            due = [(at, feed) for feed in self._feeds.values() if (at := feed.due()) is not None]
            next_at, feed = min(due, key=lambda each: each[0], default=(now + 1.0, None))
            # A page that opens or comes back is seen within a second without being told.
            wait = min(max(next_at, self._free_at) - now, 1.0)
            if wait > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                continue
            if feed is not None:
                self._ask(feed).add_done_callback(functools.partial(_tell, feed))

    def _feed(self, key: str, path: str, params: Params | None) -> _Feed:
        told = {name: value for name, value in sorted((params or {}).items()) if value is not None}
        name = (_digest(key), path, repr(told))
        feed = self._feeds.get(name)
        if feed is None:
            feed = self._feeds[name] = _Feed(key, path, told)
        return feed

    async def _fetch(self, feed: _Feed) -> Fetched:
        # Shielded: others wait for the same answer when one page goes away.
        return await asyncio.shield(self._ask(feed))

    def _ask(self, feed: _Feed) -> asyncio.Task[Fetched]:
        if feed.under_way is None or feed.under_way.done():
            now = time.monotonic()
            feed.asked_at = now
            self._free_at = max(now, self._free_at) + PACE
            feed.under_way = asyncio.create_task(self._asked(feed))
        return feed.under_way

    async def _asked(self, feed: _Feed) -> Fetched:
        before = feed.fetched
        try:
            answer = await self._client.ask(feed.key, "GET", feed.path, params=feed.params)
            feed.fetched = Fetched(answer.body, time.monotonic())
        except AdminError as error:
            if error.status == 401:
                self._refused(feed.key)
            feed.fetched = Fetched(before.body if before else None, before.at if before else 0.0, error)
        finally:
            self._changed.set()  # from now on it can be due again
        return feed.fetched

    def _sweep(self, now: float) -> None:
        idle = [name for name, feed in self._feeds.items() if not feed.lookers and now - feed.asked_at > KEPT]
        if len(self._feeds) > MOST:
            idle += [name for name, feed in self._feeds.items() if not feed.lookers][: len(self._feeds) - MOST]
        for name in idle:
            self._feeds.pop(name, None)


def _tell(feed: _Feed, _: asyncio.Task[Fetched]) -> None:
    if feed.fetched is None:
        return
    for one in tuple(feed.lookers):
        if not one.wants():
            continue
        try:
            one.show(feed.fetched)
        except Exception as error:  # one page's fault must not blind the others
            log.error("a page could not show %s: %s", feed.path, type(error).__name__)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
