"""The console, whose live numbers come hundreds of times a second and are a second apart all the same.

Runs `pointsman.cli` unchanged but for time: pages look at what is live as often as they can, and what the router
tells is dated one second later each time, up to the number of seconds that a file holds. An hour of an open page
passes in seconds on the page's own way: feed, page, socket, browser.

    python sped_up_console.py FILE console --url …
"""

from __future__ import annotations

import asyncio
import runpy
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pointsman.console import feeds
from pointsman.console.admin_client import AdminClient, Answer
from pointsman.console.pages.overview import LIVE
from pointsman.console.visit import Visit

PACE = 0.003
"""Seconds between two questions of feeds, at least."""

REAL = 0.5
"""Seconds after which the router is asked again; until then its last answer is told with another date."""


def speed_up(wanted: Path) -> None:
    """Tell one second after the other, as many as the file `wanted` says."""
    ask, live = AdminClient.ask, Visit.live
    told = 0
    latest: Answer | None = None
    began = datetime.min
    asked_at = 0.0

    def seconds_wanted() -> int:
        return int(wanted.read_text())

    async def sped_up_ask(self: AdminClient, key: str, method: str, path: str, **more: Any) -> Answer:
        nonlocal told, latest, began, asked_at
        if path != LIVE:
            return await ask(self, key, method, path, **more)
        if latest is None or time.monotonic() - asked_at > REAL:
            asked_at = time.monotonic()
            answer = await ask(self, key, method, path, **more)
            began = began if latest is not None else datetime.fromisoformat(answer.body["at"])
            latest = answer
        if told < seconds_wanted():
            told += 1
        else:
            await asyncio.sleep(0.2)
        at = (began + timedelta(seconds=told)).isoformat()
        return Answer({**latest.body, "at": at}, latest.etag, latest.headers)

    def sped_up_live(self: Visit, path: str, show: Callable[[Any], None], *, every: float, **more: Any) -> None:
        live(self, path, show, every=0.0 if path == LIVE else every, **more)

    vars(feeds)["PACE"] = PACE
    AdminClient.ask = sped_up_ask  # type: ignore[method-assign]
    Visit.live = sped_up_live  # type: ignore[method-assign]


def main() -> None:
    wanted, *arguments = sys.argv[1:]
    speed_up(Path(wanted))
    sys.argv = ["pointsman", *arguments]
    runpy.run_module("pointsman.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
