"""Around the player: who may ask what, the line that shows how it goes, and Ctrl-C.

Apart from `player.py`, which knows no terminal and no signal, and can so be played inside a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pointsman.cli.chatting.client import Router
from pointsman.cli.chatting.target import ChatError, find_target
from pointsman.cli.playing.player import Client, Player, Score
from pointsman.cli.playing.tally import Tally
from pointsman.cli.story import printable

LOOK = 0.5
"""Seconds between two looks at the line on a terminal."""

SELDOM = 10.0
"""Seconds between two lines where nobody watches: in a log."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The router and who asks it."""

    url: str
    local: bool
    clients: tuple[Client, ...]


def prepared(url: str | None, keys: Sequence[str | None], state_dir: Path | None, *, model: str | None) -> Cast:
    """
    The router at `url` and one client for each of `keys`; None stands for what is not said.

    Raises `ChatError` where a router, a key or a model is missing.
    """
    clients = []
    for key in keys:
        target = find_target(url, key, state_dir)
        router = Router(target)
        try:
            offered = router.models()
        finally:
            router.close()
        if not offered:
            raise ChatError("A key may use no model.", code="model_not_found")
        if model is not None and model not in offered:
            raise ChatError(f"There is no model {model}; a key may use {', '.join(offered)}.")
        clients.append(Client(target.key, tuple(offered) if model is None else (model,)))
    return Cast(target.url, target.local, tuple(clients))


async def perform(cast: Cast, score: Score, *, as_json: bool) -> Tally:
    """Play `score` to its end, or until the first Ctrl-C; the second one drops the answers that run."""
    tally = Tally()
    player = Player(cast.url, cast.clients, score, tally, local=cast.local)
    playing = asyncio.create_task(player.play())
    signals = 0

    def interrupted() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            player.stop()
        else:
            playing.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    watching = asyncio.create_task(_show(tally))
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await playing
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    if as_json:
        print(tally.as_json(), flush=True)
    return tally


async def _show(tally: Tally) -> None:
    """Show the line on stderr for as long as it lasts, and a last time when it is over."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not sys.stderr.isatty():
        try:
            while True:
                await asyncio.sleep(SELDOM)
                print(printable(tally.line()), file=sys.stderr, flush=True)
        finally:
            print(printable(tally.line()), file=sys.stderr, flush=True)
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(Text(printable(tally.line())), refresh=True)
                await asyncio.sleep(LOOK)
        finally:
            live.update(Text(printable(tally.line())), refresh=True)
