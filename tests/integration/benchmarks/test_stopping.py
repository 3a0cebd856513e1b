"""A benchmark that is stopped, in whatever way, leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0
"""Seconds for anything to come true on a busy machine."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_benchmark_takes_its_gateways_along(number: signal.Signals, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "benchmarks.gateway", "--only", "floor", "--part", "matrix", "--quick"]
    path = os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
    with (tmp_path / "log").open("wb") as log:
        bench = subprocess.Popen(
            [*argv, "--output", str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
            stdout=log,
            stderr=log,
        )
    started: list[psutil.Process] = []

    def measuring() -> bool:
        assert bench.poll() is None, (tmp_path / "log").read_text()
        started[:] = psutil.Process(bench.pid).children(recursive=True)
        return {"upstream", "python", "load"} <= {_name(process) for process in started}

    try:
        _wait_until(measuring)
        bench.send_signal(number)
        assert bench.wait(PATIENCE) == (128 + number if number == signal.SIGTERM else -number)
        _wait_until(lambda: not any(_runs(process) for process in started))
        assert number == signal.SIGKILL or not list(tmp_path.glob("pointsman-bench-*"))
    finally:
        bench.kill()
        bench.wait()
        for process in filter(_runs, started):
            process.kill()


def _name(process: psutil.Process) -> str:
    try:
        return process.name().rstrip("0123456789.")
    except psutil.NoSuchProcess:
        return ""


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
