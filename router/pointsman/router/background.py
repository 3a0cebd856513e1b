"""Work that nobody waits for stands back for work that somebody does.

Linux lets whoever runs finish a slice of some milliseconds before another who has just woken up, unless that one's
slice is shorter. With the longest slice there is, a process is left at once by all others on its core, and takes no
less of it in the end: nothing piles up on a busy machine, as it would in the idle class.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

SLICE = 100_000_000
"""Nanoseconds of the longest slice that Linux takes (from 6.12 on)."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Numbers of the system call, by machine: neither Python nor the C library has it."""

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""`struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period. The runtime is the slice."""


def stand_back() -> None:
    """
    Let others on the core go first, for this thread and those that it starts; its share stays what it was.

    Call it before threads are started. Changes nothing where the system knows no slices or does not allow it, nor
    where somebody has put the process into another scheduling class.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)
