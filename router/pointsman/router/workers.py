"""Several data-plane processes behind one port, and the parent that keeps their number.

Each worker listens with SO_REUSEPORT and the kernel spreads new connections over them. They share nothing but the
port, the state folder with their counters, and Redis. The parent serves no request, so nothing a client does can
end it. Forked, not started anew: every worker runs the configuration that the parent has read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from time import monotonic

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
"""Seconds before a worker that ended is replaced; doubles with each end until one has lasted."""

LONGEST_PAUSE = 10.0
"""Seconds that a replacement waits at most."""

LASTED = 30.0
"""Seconds after which a worker counts as one that works."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGALRM)

_SOON = 1e-3
"""Seconds after which a worker that is due already is looked at; a timer of 0 would never run out."""


class Workers:
    """
    Keeps `count` processes running that each call `work`, and return the exit status that it returns.

    `work` gets a file descriptor that becomes readable when the parent is gone. A worker that ends with the status
    `hopeless` can't succeed the next time either: then all are stopped.
    """

    def __init__(self, count: int, work: Callable[[int], int], *, hopeless: int) -> None:
        self._work = work
        self._hopeless = hopeless
        self._running: dict[int, _Worker] = {}
        self._waiting = [_Worker(number) for number in range(1, count + 1)]
        self._stopping = False
        self._status = 0
        self._lifeline = (-1, -1)

    def run(self) -> int:
        """
        Run until SIGTERM or SIGINT; returns 0 if every worker ended well, the status of one that did not else.

        The first signal has the workers drain, the second has them end at once. For the main thread, which leaves
        SIGALRM and its timer to this until it returns.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._lifeline = os.pipe()
        try:
            while self._running or not self._stopping:
                if not self._stopping:
                    self._start_due()
                self._wait()
            return self._status
        finally:
            for end in self._lifeline:
                os.close(end)
            signal.setitimer(signal.ITIMER_REAL, 0)
            handler = signal.signal(signal.SIGALRM, signal.SIG_IGN)  # forgets one that has come already
            signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start_due(self) -> None:
        now = monotonic()
        for worker in [worker for worker in self._waiting if worker.due <= now]:
            self._waiting.remove(worker)
            self._start(worker)

    def _start(self, worker: _Worker) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_worker()
        worker.started = monotonic()
        self._running[pid] = worker
        log.info("worker %d runs as process %d", worker.number, pid)

    def _be_worker(self) -> None:
        status = 1
        try:
            os.close(self._lifeline[1])
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = self._work(self._lifeline[0])
        except BaseException:
            traceback.print_exc()
        finally:
            logging.shutdown()
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)  # what the parent's callers still mean to do is the parent's to do

    def _wait(self) -> None:
        """
        Wait for a signal or for the next worker that is due.

        By a timer, for `sigtimedwait` of CPython 3.11 tells of a signal that nobody sent where the process is
        paused for longer than its time.
        """
        if self._waiting and not self._stopping:
            due = min(worker.due for worker in self._waiting)
            signal.setitimer(signal.ITIMER_REAL, max(_SOON, due - monotonic()))
        heard = signal.sigwaitinfo(_SIGNALS).si_signo
        if heard == signal.SIGALRM:
            return
        if heard != signal.SIGCHLD:
            self._stop(signal.SIGQUIT if self._stopping or heard == signal.SIGQUIT else signal.SIGTERM)
        for pid, status in _ended():
            if worker := self._running.pop(pid, None):  # the first process of a container inherits strangers
                self._ended(worker, status)

    def _stop(self, number: int) -> None:
        self._stopping = True
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _ended(self, worker: _Worker, status: int) -> None:
        if self._stopping:
            self._status = self._status or (status if status >= 0 else 1)
            return
        if status == self._hopeless:
            self._status = status
            self._stop(signal.SIGTERM)
            return
        pause = worker.pause_after(monotonic())
        log.error("worker %d ended (%s), its place is filled in %.1f s", worker.number, _told(status), pause)
        self._waiting.append(worker)


class _Worker:
    """One place among the workers, with the process that fills it or will."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.started = 0.0
        self.due = 0.0
        self._pause = 0.0

    def pause_after(self, now: float) -> float:
        """Seconds that the place stays empty after its process has ended."""
        lasted = now - self.started >= LASTED
        self._pause = FIRST_PAUSE if lasted or not self._pause else min(2 * self._pause, LONGEST_PAUSE)
        self.due = now + self._pause
        return self._pause


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[None]:
    """Hold `port` of `host` against everybody but sockets of this user with SO_REUSEPORT. Raises OSError."""
    with contextlib.ExitStack() as stack:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            holder = stack.enter_context(socket.socket(family, kind, protocol))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            holder.bind(address)
        yield


def _ended() -> Iterator[tuple[int, int]]:
    """Children that have ended: their numbers and exit statuses, negative for a signal."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def _told(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
