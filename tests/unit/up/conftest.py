"""Starts instances of stand-in children, and finds every process that belongs to a trial by a mark it inherits."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

MARK = "POINTSMAN_TRIAL"


class Trial:
    """One instance of stand-ins; `orders` says what each child does."""

    def __init__(self, folder: Path, orders: dict[str, list[str]]) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = folder / "state"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        orders = {"router": ["startupz", "PORT"], "admin": [], **orders}
        orders = {
            name: [str(self.port) if word == "PORT" else word for word in words] for name, words in orders.items()
        }
        script = Path(__file__).with_name("stand_in_instance.py")
        self.told = folder / "stderr"
        with self.told.open("w") as told:
            self.process = subprocess.Popen(
                [sys.executable, str(script), str(self.folder), str(self.port), json.dumps(orders)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                env={**os.environ, MARK: self.mark},
            )

    def until_ready(self) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == "READY\n", self.told.read_text()

    def until_told(self, words: str, *, seconds: float = 20) -> None:
        wait_until(lambda: words in self.told.read_text(), seconds=seconds, what=f"{words!r} in the progress")

    def signal_and_wait(self, signum: signal.Signals, *, seconds: float = 20) -> int:
        self.process.send_signal(signum)
        return self.process.wait(seconds)

    def living(self) -> list[psutil.Process]:
        return marked(self.mark)

    def child(self, name: str) -> psutil.Process:
        """The process whose orders came under `name`, told by its log's descriptor."""
        log = str(self.folder / "logs" / f"{name}.log")
        for process in self.living():
            try:
                if os.readlink(f"/proc/{process.pid}/fd/2") == log:
                    return process
            except OSError:
                continue
        raise AssertionError(f"no child logs to {log}")


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that inherited `mark`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(is_so: Callable[[], bool], *, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.05)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Callable[..., Trial]]:
    """Start an instance: `trial(name=[orders], …)`; what is left of it is killed at the end of the test."""
    trials: list[Trial] = []

    def begin(**orders: list[str]) -> Trial:
        folder = tmp_path / str(len(trials))
        folder.mkdir()
        trials.append(Trial(folder, orders))
        return trials[-1]

    yield begin
    for one in trials:
        for process in one.living():
            process.kill()
        one.process.wait()
        assert one.process.stdout
        one.process.stdout.close()
