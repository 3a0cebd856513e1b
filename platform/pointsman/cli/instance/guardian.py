"""Two processes watch each other, so that even SIGKILL leaves nothing behind.

The process that the user started (the guardian) does nothing but hand signals on and wait; the supervisor below
it owns all other processes. If the guardian is killed, the kernel tells the supervisor, which stops everything;
if the supervisor is killed, its orphans fall to the guardian, which ends them. Both are one program image: the
fork happens after all imports and before any thread or event loop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from pointsman.cli.instance.linux import adopt_orphans, die_with
from pointsman.cli.instance.orphans import sweep

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that stop an instance: Ctrl-C, `kill`, and the terminal that closes."""

SUPERVISOR_LOST = 1
"""Exit code where the supervisor was killed instead of ending by itself."""


def stop_signals() -> tuple[signal.Signals, ...]:
    """`STOP_SIGNALS` without SIGHUP where `nohup` or the like had it ignored."""
    ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(one for one in STOP_SIGNALS if not (one is signal.SIGHUP and ignores_hangup))


def run_guarded(supervise: Callable[[int], int]) -> int:
    """
    Run `supervise(pid of the guardian)` in a process of its own; returns its exit code.

    `supervise` starts with `STOP_SIGNALS` blocked, so that none is lost before it has handlers for them; it
    must unblock them before it starts a process. Call with no thread running.
    """
    guardian = os.getpid()
    adopt_orphans()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    supervisor = os.fork()
    if supervisor == 0:
        _become_supervisor(guardian, supervise)

    def hand_on(signum: int, frame: FrameType | None) -> None:
        os.kill(supervisor, signum)

    for one in stop_signals():
        signal.signal(one, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    # Waited for without reaping first, so that no signal is handed on to a process number that is free again.
    os.waitid(os.P_PID, supervisor, os.WEXITED | os.WNOWAIT)
    for one in stop_signals():
        signal.signal(one, signal.SIG_IGN)
    code = os.waitstatus_to_exitcode(os.waitpid(supervisor, 0)[1])
    for pause in sweep():
        time.sleep(pause)
    if code < 0:
        print(f"The supervisor was ended by {signal.Signals(-code).name}; all is stopped.", file=sys.stderr)
        return SUPERVISOR_LOST
    return code


def _become_supervisor(guardian: int, supervise: Callable[[int], int]) -> NoReturn:
    # A session of its own: Ctrl-C reaches the guardian alone, which hands it on exactly once.
    os.setsid()
    die_with(guardian, signal.SIGTERM)
    adopt_orphans()
    code = 1
    try:
        code = supervise(guardian)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    with contextlib.suppress(OSError):  # whoever read our words may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
