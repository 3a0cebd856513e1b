"""A process that has imported the command line and its rooms once, and forks a `pointsman` for whoever asks.

Run by `support.forking`, with one end of a socket pair as its argument. Single-threaded, imports and waits, nothing
else, so that a fork of it is what `python -m pointsman.cli` has become once its imports are done: the same program
in a process of its own, half a second sooner.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import termios
from importlib import import_module
from typing import Any

ROOMS = (
    "pointsman.cli.main",
    "pointsman.cli.chatting.session",
    "pointsman.cli.instance.preflight",
    "pointsman.router.admin.process",
    "pointsman.router.process",
    "pointsman.router.workers",
    "pointsman.serving.simulated.server",
)


def serve(control: socket.socket) -> None:
    """Fork for each message until the other end is gone; returns in each child, ready to be the command."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    children: dict[int, tuple[int, socket.socket]] = {}
    events = select.poll()
    events.register(control, select.POLLIN)
    while True:
        for ready, _ in events.poll():
            if ready in children:
                events.unregister(ready)
                pid, told = children.pop(ready)
                os.close(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError):
                    told.send(b"%d" % code)
                told.close()
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 4)
            if not message:
                for pid, _ in children.values():
                    os.kill(pid, signal.SIGKILL)
                sys.exit()
            told = socket.socket(fileno=descriptors[3])
            pid = os.fork()
            if pid == 0:
                for end in (control, told, *(told for _, told in children.values())):
                    end.close()
                for descriptor in children:
                    os.close(descriptor)
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                become(json.loads(message), descriptors[:3])
                return
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            told.send(b"%d" % pid)
            opened = os.pidfd_open(pid)
            children[opened] = (pid, told)
            events.register(opened, select.POLLIN)


def become(asked: dict[str, Any], descriptors: list[int]) -> None:
    """Take over what a new process is given: arguments, environment, folder and the three standard streams."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    if asked["terminal"]:
        take_terminal()
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.argv = ["pointsman", *asked["arguments"]]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def take_terminal() -> None:
    """Make stdin the terminal of this process, which leaves the one that it had; `nohup` meant that one."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


if __name__ == "__main__":
    for room in ROOMS:
        import_module(room)
    import_module("pointsman.router.predictor").Predictor.load()  # lays out tables that all of its instances share
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads must not fork"
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("pointsman.cli", run_name="__main__", alter_sys=True)
