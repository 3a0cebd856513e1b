"""Starts `pointsman` commands out of a fork server, as `subprocess.Popen` starts them: for tests that start many.

What a test sees is the same: a process of its own with its arguments, environment and streams, its signals and its
exit status. What it does not wait for is the import of the same libraries, for each of some two hundred processes.
Only a session that has called `use` forks; benchmarks and long runs, which measure, start what a user starts.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

from support.fork_server import take_terminal

COMMAND = (sys.executable, "-m", "pointsman.cli")
START = 60.0
"""Seconds that the fork server may take for its imports on a busy machine."""

_server: _ForkServer | None = None


class Started(Protocol):
    """What is used of `subprocess.Popen` where the process may also be forked."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


def use() -> _ForkServer:
    """Fork from now on, until what is returned is closed."""
    global _server
    _server = _ForkServer()
    return _server


def start(
    arguments: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int,
    stderr: int,
    env: Mapping[str, str],
    terminal: bool = False,
) -> Started:
    """
    Start `pointsman` with `arguments`; the streams are file descriptors that stay the caller's.

    `terminal`: stdin is a terminal, whose Ctrl-C and end shall reach the process.
    """
    if _server is None:
        prepare = take_terminal if terminal else None
        command = [*COMMAND, *arguments]
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, preexec_fn=prepare)
    if stdin != subprocess.DEVNULL:
        return _server.start(arguments, (stdin, stdout, stderr), env, terminal=terminal)
    with Path(os.devnull).open("rb") as nothing:
        return _server.start(arguments, (nothing.fileno(), stdout, stderr), env, terminal=terminal)


def run(
    arguments: Sequence[str], *, stdin: str = "", env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `pointsman` with `arguments` to its end, as `subprocess.run` does."""
    with TemporaryFile("w+") as given, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        given.write(stdin)
        given.seek(0)
        process = start(arguments, stdin=given.fileno(), stdout=out.fileno(), stderr=err.fileno(), env=env)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(arguments), code, out.read(), err.read())


class Forked:
    """A process that the fork server started."""

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        told.settimeout(START)
        self.pid = int(told.recv(64))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status, negative where a signal ended it; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit status. Raises `subprocess.TimeoutExpired`."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("pointsman", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            self.returncode = int(self._told.recv(64))
            self._told.close()
        return self.returncode


class _ForkServer:
    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-P", str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())]
            # In a session of its own: Ctrl-C ends the tests, and those end what they started.
            self._process = subprocess.Popen(
                argv,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # no threads of NumPy's
            )

    def start(
        self, arguments: Sequence[str], streams: Sequence[int], env: Mapping[str, str], *, terminal: bool
    ) -> Forked:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asked = {
            "arguments": list(arguments),
            "environment": dict(env),
            "folder": os.getcwd(),
            "terminal": terminal,
        }
        with theirs:
            socket.send_fds(self._control, [json.dumps(asked).encode()], [*streams, theirs.fileno()])
        return Forked(ours)

    def close(self) -> None:
        """End it, and with it all that still runs of what it started."""
        global _server
        _server = None
        self._control.close()
        self._process.wait(START)
