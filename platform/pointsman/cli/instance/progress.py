"""What the user sees while an instance starts, runs and stops.

On a terminal one row per child with its newest sentence; elsewhere one line per sentence. All of it goes to
stderr: stdout is for the result. A terminal that goes away is no reason to stop or to fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_REFRESH = 0.1
_REPEAT = 15.0
"""Seconds until a line that only counts on is shown again."""

_LOOK = 1.0
"""Seconds between two looks at how long nothing was shown."""

_REMIND = 30.0
"""Seconds of silence until the last line is shown again."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_DIGITS = re.compile(r"[0-9]+")


class Progress(Protocol):
    """Told by the supervisor; never raises."""

    def began(self, name: str) -> None:
        """The child `name` was started."""

    def said(self, name: str, line: str) -> None:
        """The child `name` told the user something."""

    def noted(self, line: str) -> None:
        """Something happened that the user should know."""

    def settled(self) -> None:
        """The start is over, one way or the other: from now on only what happens is shown."""

    async def keep_current(self) -> None:
        """Runs for as long as the start does; cancelled with it."""


def progress_for(console: Console) -> Progress:
    """The progress display that fits `console`."""
    return _Rows(console) if console.is_terminal else _Lines(console)


def plain(line: str) -> str:
    """`line` without colours, and without what could move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in _ESCAPES.sub("", line))


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._since = time.monotonic()
        self._newest = ""
        self._newest_at = self._since
        self._gist: dict[str, tuple[str, float]] = {}
        self._starting = True

    def began(self, name: str) -> None:
        self.said(name, "starting")

    def said(self, name: str, line: str) -> None:
        self._newest = f"{name}: {plain(line)}"
        now, gist = time.monotonic(), _DIGITS.sub("", line)
        before, shown_at = self._gist.get(name, ("", now))
        # A sentence that only counts on is worth a row's refresh, but not a line each second.
        if gist == before and now < shown_at + _REPEAT:
            return
        self._gist[name] = (gist, now)
        self._print(self._newest)

    def noted(self, line: str) -> None:
        self._print(line)

    def settled(self) -> None:
        self._starting = False

    async def keep_current(self) -> None:
        while self._starting:
            await asyncio.sleep(_LOOK)
            if self._starting and time.monotonic() - self._newest_at >= _REMIND:
                self._print(f"still at it ({self._newest})")

    def _print(self, line: str) -> None:
        self._newest_at = time.monotonic()
        _show(self._console, f"[{self._newest_at - self._since:6.1f} s] {line}")


class _Row:
    def __init__(self) -> None:
        self.since = time.monotonic()
        self.line = "starting"


class _Rows:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, _Row] = {}
        self._spinner = Spinner("dots")
        # Refreshed by `keep_current`: rich's own way is a thread, and a process with threads must not fork.
        self._live: Live | None = Live(
            console=console, get_renderable=self._render, auto_refresh=False, transient=True
        )
        with contextlib.suppress(OSError):
            self._live.start()

    def began(self, name: str) -> None:
        self._rows[name] = _Row()

    def said(self, name: str, line: str) -> None:
        if self._live and name in self._rows:
            self._rows[name].line = plain(line)
        else:
            _show(self._console, f"{name}: {plain(line)}")

    def noted(self, line: str) -> None:
        _show(self._console, line)

    def settled(self) -> None:
        if self._live:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._live = None

    async def keep_current(self) -> None:
        while self._live:
            with contextlib.suppress(OSError):
                self._live.refresh()
            await asyncio.sleep(_REFRESH)

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(justify="right", no_wrap=True)
        for name, row in self._rows.items():
            table.add_row(Text(name, "bold"), Text(row.line), Text(f"{time.monotonic() - row.since:.0f} s", "dim"))
        self._spinner.text = Text("starting the platform; Ctrl-C stops it")
        return Group(table, self._spinner)


def _show(console: Console, line: str) -> None:
    with contextlib.suppress(OSError):
        console.print(Text(line), soft_wrap=True)
