"""What nobody waits for lets go of the core as soon as somebody who is waited for wakes up."""

from __future__ import annotations

import ctypes
import platform

import pytest

from pointsman.router.background import SLICE
from support.gateway import Gateway
from support.instances import wait_until

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
KERNEL = tuple(int(number) for number in platform.release().split("-")[0].split(".")[:2])


def slice_of(pid: int) -> int:
    """The slice of a process's first thread, nanoseconds: `sched_runtime` of `sched_getattr(2)`."""
    attributes = (ctypes.c_uint64 * 6)()
    assert ctypes.CDLL(None).syscall(SCHED_GETATTR[platform.machine()], pid, attributes, 48, 0) == 0
    return attributes[3]


@pytest.mark.skipif(KERNEL < (6, 12), reason="slices can be chosen from Linux 6.12 on")
@pytest.mark.skipif(platform.machine() not in SCHED_GETATTR, reason="a machine whose system calls are not listed")
def test_bookkeeping_stands_back_and_the_router_does_not(gateway: Gateway) -> None:
    for process in (gateway.ledger_writer, gateway.admin):
        wait_until(lambda pid=process.popen.pid: slice_of(pid) == SLICE, seconds=30, what="a slice of 100 ms")
    assert slice_of(gateway.router.popen.pid) < SLICE
