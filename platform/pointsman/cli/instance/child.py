"""One child process of an instance: how it is started, heard, watched and ended.

A child's stdout carries sentences for people and is shown; its stderr goes straight into its log file, so that a
busy supervisor never holds up a child that logs. Knows one process; who starts it again is the supervisor's
business.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pointsman.cli.instance.linux import adopt_orphans, die_with
from pointsman.cli.instance.logs import open_log

_LONGEST_LINE = 4096


@dataclass(frozen=True)
class Part:
    """
    What to run as one child.

    `name`: unique, names the log file; `argv`: program and arguments; `environment`: added to this process's own;
    `stop_within`: seconds between SIGTERM and SIGKILL; `speaks`: whether its stdout is sentences for people
    (otherwise it is a log); `ready`: whether it can do its work by now, None where nobody waits for it alone.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    stop_within: float = 5.0
    speaks: bool = True
    ready: Callable[[], Awaitable[bool]] | None = None


class Child:
    """
    A running process. Create it inside a running event loop, from the main thread.

    `returncode` is None while it runs; negative where a signal ended it. Raises `OSError` where the program cannot
    be started.
    """

    def __init__(self, part: Part, *, logs: Path, said: Callable[[str], None]) -> None:
        self.part = part
        self._said = said
        self._loop = asyncio.get_running_loop()
        self._log = open_log(logs, part.name)
        self._heard = b""
        try:
            self._process = subprocess.Popen(
                part.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if part.speaks else self._log,
                stderr=self._log,
                cwd=part.folder,
                env={**os.environ, **part.environment},
                start_new_session=True,
                preexec_fn=functools.partial(_prepare, os.getpid()),
            )
        except OSError:
            os.close(self._log)
            raise
        self.pid = self._process.pid
        self.exited = asyncio.Event()
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self._stdout = -1
        if self._process.stdout:
            self._stdout = self._process.stdout.fileno()
            os.set_blocking(self._stdout, False)
            self._loop.add_reader(self._stdout, self._on_output)

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def send(self, signum: signal.Signals) -> None:
        """Send `signum` to the process; to its whole process group where that is SIGKILL."""
        if self.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if signum is signal.SIGKILL:
                os.killpg(self.pid, signum)
            else:
                os.kill(self.pid, signum)

    async def ended_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end; whether it came."""
        try:
            await asyncio.wait_for(self.exited.wait(), max(0.0, seconds))
        except TimeoutError:
            return False
        return True

    def _on_output(self) -> None:
        try:
            data = os.read(self._stdout, 65536)
        except BlockingIOError:
            return
        if not data:
            self._close_stdout()
            return
        with contextlib.suppress(OSError):  # a full disk must not silence the child
            os.write(self._log, data)
        *lines, rest = (self._heard + data).split(b"\n")
        self._heard = rest[-_LONGEST_LINE:]
        for line in lines:
            if text := line[:_LONGEST_LINE].decode(errors="replace").strip():
                self._said(text)

    def _close_stdout(self) -> None:
        if self._stdout >= 0 and self._process.stdout:
            self._loop.remove_reader(self._stdout)
            self._process.stdout.close()
            self._stdout = -1

    def _on_exit(self) -> None:
        if self._process.poll() is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # A grandchild may hold the pipe open for ever, so what is in it now is all that is listened to.
        if self._stdout >= 0:
            self._on_output()
        self._close_stdout()
        os.close(self._log)
        self.exited.set()


def _prepare(parent: int) -> None:
    die_with(parent, signal.SIGTERM)
    adopt_orphans()
