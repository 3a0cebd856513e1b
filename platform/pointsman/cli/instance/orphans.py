"""Find and end the processes that a dead child left behind.

Ray and SGLang start processes of their own. Each child of an instance adopts the orphans below it;
when the child itself dies, what is left below it falls to the process that calls `sweep`. So whatever is found
here belongs to nobody any more.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Container, Iterator

import psutil

GRACE = 2.0
"""Seconds that a left-over process gets between SIGTERM and SIGKILL."""

_GIVE_UP = 10.0
"""Seconds after the first SIGKILL at which a process that even that did not end is left alone."""

_PAUSE = 0.05


def sweep(keep: Container[int] = ()) -> Iterator[float]:
    """
    End every descendant of this process but the children in `keep` and what lives below those.

    A generator of pauses in seconds: the caller sleeps them, in its own way of sleeping, until it is done.
    Processes get SIGTERM first and SIGKILL after `GRACE` seconds.
    """
    killing_at = time.monotonic() + GRACE
    asked: set[int] = set()
    while (found := _left_behind(keep)) and time.monotonic() < killing_at + _GIVE_UP:
        for process in found:
            with contextlib.suppress(psutil.Error):
                if time.monotonic() >= killing_at:
                    process.kill()
                elif process.pid not in asked:
                    asked.add(process.pid)
                    process.terminate()
        yield _PAUSE


def _left_behind(keep: Container[int]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        if child.pid in keep:
            continue
        if _reaped(child):
            continue
        found.append(child)
        with contextlib.suppress(psutil.Error):
            found += [process for process in child.children(recursive=True) if not _is_zombie(process)]
    return found


def _reaped(child: psutil.Process) -> bool:
    """Whether `child` was dead and is now gone for good."""
    try:
        return os.waitpid(child.pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
