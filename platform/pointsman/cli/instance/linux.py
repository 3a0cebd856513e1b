"""The two favours asked of the Linux kernel so that no process outlives its instance.

Separate because it is the only place that calls `prctl`: the standard library has no name for it. Everything
here may run between fork and exec, so it imports, allocates and logs nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int, signum: signal.Signals) -> None:
    """
    Have the kernel send `signum` to this process when `parent` dies; if that has happened already, exit now.

    The kernel means the thread that forked this process, so the parent must fork from a thread that stays.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent dies, so that it can find and end them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
