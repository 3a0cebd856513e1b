"""Starts `pointsman up --engine simulated` the way a user does, and finds every process that it started."""

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

POINTSMAN = str(Path(sys.executable).with_name("pointsman"))
MARK = "POINTSMAN_TRIAL"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def marked(mark: str) -> set[psutil.Process]:
    """The processes that inherited `mark`, as far as their environment can still be read."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.add(process)
    return found


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


@dataclass
class Up:
    """One `pointsman up`; its stdout and stderr are in files."""

    state: Path
    port: int
    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    mark: str
    begun: float = field(default_factory=time.monotonic)
    seen: set[psutil.Process] = field(default_factory=set)

    def until_ready(self, *, seconds: float = 60) -> dict[str, Any]:
        """What `--json` printed."""
        while not self.out.read_text().endswith("\n"):
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() - self.begun < seconds, self.err.read_text()
            time.sleep(0.02)
        self.living()
        ready: dict[str, Any] = json.loads(self.out.read_text())
        return ready

    def client(self) -> openai.OpenAI:
        key = (self.state / "demo.key").read_text().strip()
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=0)

    def ask(self, mode: str = "no_think") -> Any:
        return self.client().chat.completions.create(
            model=f"smollm2:{mode}", messages=[{"role": "user", "content": "What is the capital of France?"}]
        )

    def living(self) -> set[psutil.Process]:
        """
        The processes of this instance that live now: below the one started, or marked, or seen there before.

        The mark alone would not do: Valkey writes its process title over its environment.
        """
        with contextlib.suppress(psutil.NoSuchProcess):
            self.seen.update(psutil.Process(self.process.pid).children(recursive=True))
        self.seen |= marked(self.mark)
        return {one for one in self.seen if _lives(one)}

    def end(self, signum: signal.Signals, *, seconds: float = 20) -> int:
        self.living()
        self.process.send_signal(signum)
        return self.process.wait(seconds)


Begin = Callable[..., Up]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begin]:
    """`up(*options, state=…, port=…)` starts one; whatever is left of it at the end of the module is killed."""
    started: list[Up] = []

    def begin(*options: str, state: Path | None = None, port: int | None = None, **popen: Any) -> Up:
        folder = tmp_path_factory.mktemp("up")
        state = state or folder / "state"
        port = port or free_port()
        mark = uuid.uuid4().hex
        command = [POINTSMAN, "up", "--engine", "simulated", "--port", str(port), "--state-dir", str(state)]
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                [*command, *options],
                **{"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **popen},
                env={**os.environ, MARK: mark},
            )
        started.append(Up(state, port, process, folder / "out", folder / "err", mark))
        return started[-1]

    yield begin
    for one in started:
        for process in one.living():
            process.kill()
        one.process.wait()
