"""Starts `pointsman up` the way a user does, and finds every process that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import psutil

POINTSMAN = str(Path(sys.executable).with_name("pointsman"))
_MARK = "POINTSMAN_TRIAL"


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(is_so: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait for `is_so()`, and fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.05)


class Watched:
    """
    A started process and all that come from it.

    They are found below it, by a mark that they inherit, or because they were seen there before. The mark alone
    would not do: Valkey and Ray write their process titles over their environment.
    """

    def __init__(self, command: list[str], **popen: Any) -> None:
        self._mark = uuid.uuid4().hex
        self._seen: set[psutil.Process] = set()
        environment = {**os.environ, **popen.pop("env", {}), _MARK: self._mark}
        self.begun = time.monotonic()
        self.process: subprocess.Popen[Any] = subprocess.Popen(
            command, **{"stdin": subprocess.DEVNULL, **popen}, env=environment
        )

    def living(self) -> set[psutil.Process]:
        """The processes that live now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._seen.update(psutil.Process(self.process.pid).children(recursive=True))
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark:
                    self._seen.add(process)
        return {process for process in self._seen if _lives(process)}

    def parts(self, logs: Path) -> dict[str, psutil.Process]:
        """The children by the names of the files in `logs` that they write; their own children write there too."""
        found: dict[str, psutil.Process] = {}
        for process in sorted(self.living(), key=psutil.Process.create_time, reverse=True):
            with contextlib.suppress(OSError):
                target = Path(os.readlink(f"/proc/{process.pid}/fd/2"))
                if target.parent == logs:
                    found[target.stem] = process
        return found

    def end(self, signum: signal.Signals, *, seconds: float = 60) -> int:
        """Send `signum` and wait for the exit code."""
        self.living()
        self.process.send_signal(signum)
        return self.process.wait(seconds)

    def destroy(self) -> None:
        """Kill what is left, whatever it is."""
        for process in self.living():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()


class Up(Watched):
    """One `pointsman up` with `options`; its stdout and stderr are the files `out` and `err` in `folder`."""

    def __init__(
        self, *options: str, folder: Path, state: Path | None = None, port: int | None = None, **popen: Any
    ) -> None:
        self.state = state or folder / "state"
        self.port = port or free_port()
        self.out, self.err = folder / "out", folder / "err"
        place = ["--port", str(self.port), "--state-dir", str(self.state)]
        if "--console" not in options:
            place.append("--no-console")  # which takes a second and a hundred MiB that most tests can do without
        with self.out.open("wb") as out, self.err.open("wb") as err:
            super().__init__([POINTSMAN, "up", *place, *options], **{"stdout": out, "stderr": err, **popen})

    def until_ready(self, *, seconds: float = 60) -> dict[str, Any]:
        """What `--json` printed."""
        while not self.out.read_text().endswith("\n"):
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() - self.begun < seconds, self.err.read_text()
            time.sleep(0.02)
        self.living()
        ready: dict[str, Any] = json.loads(self.out.read_text())
        return ready

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> openai.OpenAI:
        """A client that tries once, with the demo tenant's key."""
        key = (self.state / "demo.key").read_text().strip()
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def ask(self, mode: str = "no_think") -> Any:
        """The answer to a question in `mode`."""
        return self.client().chat.completions.create(
            model=f"smollm2:{mode}", messages=[{"role": "user", "content": "What is the capital of France?"}]
        )


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
