"""One run of an instance, from the first child to the last: start, announce, watch, stop.

Runs in the supervisor process. Exit codes: 0 after an orderly stop of an instance that was ready; 128 + the
signal's number where it was stopped before that; 1 where a child failed for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from pointsman.cli.instance.guardian import STOP_SIGNALS, stop_signals
from pointsman.cli.instance.logs import last_lines, log_path, move_aside_large
from pointsman.cli.instance.plan import Plan
from pointsman.cli.instance.progress import Progress, plain, progress_for
from pointsman.cli.instance.state_folder import StateFolder
from pointsman.cli.instance.supervisor import PartFailed, RestartLimits, Supervisor, until

FAILED = 1

_SAME_KEYSTROKE = 0.5
"""Seconds within which a second signal is taken for an echo of the first (a process group that was signalled)."""

_LOGS_LOOKED_AT = 60.0
_PROBE_TIMEOUT = 2.0
_PROBE_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """
    `started` is when the user asked (monotonic seconds); `announce(seconds)` tells that all is ready; `tls` is
    whether the router speaks it; `limits` is how often a child that dies is started again. `console`: host and port
    of the console, where there is one.
    """

    plan: Plan
    folder: StateFolder
    host: str
    port: int
    started: float
    announce: Callable[[float], None]
    tls: bool = False
    console: tuple[str, int] | None = None
    limits: RestartLimits = field(default_factory=RestartLimits)


async def run_instance(run: Run, *, guardian: int) -> int:
    """Run until a signal or a failure ends it; returns the exit code. All children are gone then."""
    stop = _Stop(guardian)
    progress = progress_for(Console(stderr=True, highlight=False))
    supervisor = Supervisor(logs=run.folder.logs, said=progress.said, noted=progress.noted, limits=run.limits)
    showing = asyncio.create_task(progress.keep_current())
    working = asyncio.create_task(_work(run, supervisor, progress))
    asked = asyncio.create_task(stop.asked.wait())
    endings: set[asyncio.Future[Any]] = {working, asked, supervisor.failed}
    try:
        await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready = supervisor.is_ready
        for task in (working, showing, asked):
            task.cancel()
        progress.settled()
        if supervisor.failed.done():
            _explain(supervisor.failed.result(), run.folder)
        if not stop.hurry.is_set():
            progress.noted("stopping; Ctrl-C again to hurry" if ready else "stopping what was started")
        begun = time.monotonic()
        await supervisor.stop(run.plan.stopping_order, hurry=stop.hurry)
        progress.noted(f"all stopped after {time.monotonic() - begun:.1f} s")
        stop.listen_no_more()
    problem = (await asyncio.gather(working, showing, asked, return_exceptions=True))[0]
    if isinstance(problem, OSError):
        print(f"A process could not be started: {problem.strerror}: {problem.filename}", file=sys.stderr)
        return FAILED
    if isinstance(problem, Exception):
        raise problem
    if supervisor.failed.done():
        return FAILED
    return 0 if ready else 128 + stop.signum


async def _work(run: Run, supervisor: Supervisor, progress: Progress) -> None:
    plan = run.plan
    if plan.store and plan.store.ready:
        progress.began(plan.store.name)
        supervisor.start(plan.store)
        await until(plan.store.ready)
        progress.said(plan.store.name, "ready")
    last = (plan.console,) if plan.console else ()
    for part in (*plan.engines, plan.admin, plan.ledger_writer, plan.router, *last):
        progress.began(part.name)
        supervisor.start(part)
    await until(functools.partial(_answers, run.host, run.port, "/startupz", tls=run.tls), pause=_PROBE_PAUSE)
    # The router knows no key that the admin process has not told it: with it, keys and pages work from here on.
    await until(
        functools.partial(_answers, run.host, run.port, "/v1/whoami", tls=run.tls, status=b"401"),
        pause=_PROBE_PAUSE,
    )
    if run.console is not None:
        await until(functools.partial(_answers, *run.console, "/healthz", tls=False), pause=_PROBE_PAUSE)
    supervisor.restart_from_now_on()
    progress.settled()
    run.announce(time.monotonic() - run.started)
    while True:
        await asyncio.sleep(_LOGS_LOOKED_AT)
        move_aside_large(run.folder.logs)


async def _answers(host: str, port: int, path: str, *, tls: bool, status: bytes = b"200") -> bool:
    context = None
    if tls:
        # Whether it answers is asked, not who it is: the certificate may name any host.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                writer.write(request.encode())
                status_line = await reader.readline()
            finally:
                writer.close()
            return status_line.split()[1:2] == [status]
    return False


def _explain(failure: PartFailed, folder: StateFolder) -> None:
    lines = [f"{failure}."]
    if tail := last_lines(folder.logs, failure.name):
        lines += ["Its last words:", *(f"  {plain(line)}" for line in tail)]
    lines.append(f"Its whole log: {log_path(folder.logs, failure.name)}")
    with contextlib.suppress(OSError):
        print("\n".join(lines), file=sys.stderr, flush=True)


class _Stop:
    """`asked` is set by the first stop signal, `hurry` by a second one, or where the guardian is no more."""

    def __init__(self, guardian: int) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()
        self.signum = int(signal.SIGTERM)
        self._guardian = guardian
        self._asked_at = 0.0
        for one in stop_signals():
            asyncio.get_running_loop().add_signal_handler(one, self._on_signal, one)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _on_signal(self, signum: signal.Signals) -> None:
        now = time.monotonic()
        if os.getppid() != self._guardian or (self.asked.is_set() and now - self._asked_at > _SAME_KEYSTROKE):
            self.hurry.set()
        if not self.asked.is_set():
            self.asked.set()
            self._asked_at = now
            self.signum = int(signum)

    def listen_no_more(self) -> None:
        """Everything is over: a signal now must not disturb the last words."""
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
