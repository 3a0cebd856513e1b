"""The log files of an instance's children: one each, kept for one earlier run, bounded while it runs.

Separate from the children because a file is read for its last lines after its child is gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

LARGEST = 64 * 1024 * 1024
"""Bytes at which a log that is being written is moved aside."""

_TAIL_BYTES = 16 * 1024


def log_path(logs: Path, name: str) -> Path:
    """The file that the child `name` logs to."""
    return logs / f"{name}.log"


def begin_run(logs: Path) -> None:
    """Create the folder where it is missing; what an earlier run logged moves to `NAME.log.1`."""
    logs.mkdir(mode=0o700, exist_ok=True)
    for path in logs.glob("*.log"):
        path.replace(path.with_name(f"{path.name}.1"))


def open_log(logs: Path, name: str) -> int:
    """A file descriptor that appends to the log of `name`, readable by its owner only."""
    return os.open(log_path(logs, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def move_aside_large(logs: Path, *, largest: int = LARGEST) -> None:
    """
    Move the content of every log above `largest` bytes to `NAME.log.1` and go on with an empty file.

    Copied and cut rather than renamed, because the child that writes keeps its descriptor; lines that it writes
    in between the two are lost.
    """
    for path in logs.glob("*.log"):
        with contextlib.suppress(OSError):
            if path.stat().st_size > largest:
                shutil.copyfile(path, path.with_name(f"{path.name}.1"))
                os.truncate(path, 0)


def last_lines(logs: Path, name: str, count: int = 15) -> list[str]:
    """The last `count` lines that `name` logged; none where it never did."""
    try:
        with log_path(logs, name).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-count:]
