"""The C programs, built and run, and the clocks of the processes under test read at the same moments.

Stands apart from what is measured: nothing here knows a gateway. A process' CPU time comes from the kernel's own
clock of that process (nanoseconds), not from ticks, so that a window of a second is enough.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

SOURCES = Path(__file__).parent

_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
"""Ends what is started when this process ends, however that comes: what is left behind would spoil the next run."""


@dataclass(frozen=True)
class Cores:
    """The CPU of the gateway under test, and the one of everything else."""

    gateway: int
    others: int

    def on_gateway(self, argv: Sequence[str]) -> list[str]:
        return [*_WITH_PARENT, "taskset", "-c", str(self.gateway), *argv]

    def on_others(self, argv: Sequence[str]) -> list[str]:
        return [*_WITH_PARENT, "taskset", "-c", str(self.others), *argv]


@dataclass(frozen=True)
class Target:
    """Where load goes to, and whose clocks are read meanwhile."""

    port: int
    headers: tuple[str, ...] = ()
    keys: Path | None = None
    gateway: tuple[int, ...] = ()
    helpers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One point of the matrix."""

    kind: str
    """`unary` or `stream`."""
    connections: int
    size: int
    """Bytes of a request body, give or take a fifth."""

    def __str__(self) -> str:
        return f"{self.kind}, {self.size / 1024:g} KB, {self.connections} connections"


class Tools:
    """The C programs in `folder`."""

    def __init__(self, folder: Path, cores: Cores, *, tokens: int = 64) -> None:
        self.folder = folder
        self.cores = cores
        self.tokens = tokens

    def build(self) -> None:
        """Compile them. Raises `SystemExit` where there is no C compiler, `taskset` or `setpriv`."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None or shutil.which("taskset") is None or shutil.which("setpriv") is None:
            raise SystemExit("make bench needs a C compiler, taskset and setpriv (gcc libc6-dev util-linux).")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("upstream", "load", "floor"):
            argv = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(self.folder / name), str(SOURCES / f"{name}.c")]
            subprocess.run(argv, check=True)

    def upstream(self, *, ports: int = 1, **options: int) -> Upstream:
        """A running upstream; `options` are those of the program, with `_` for `-`."""
        argv = [str(self.folder / "upstream"), "--ports", str(ports)]
        for name, value in options.items():
            argv += [f"--{name.replace('_', '-')}", str(value)]
        return Upstream(self.cores.on_others(argv))

    def measure(
        self,
        target: Target,
        cell: Cell,
        *,
        seconds: float,
        warm_up: float = 0.3,
        ramp: int = 0,
        patience: float = 10.0,
        tokens: int | None = None,
    ) -> dict[str, Any]:
        """
        Load `target` for `seconds`: what the program counted, the CPU seconds of gateway (`cpu`) and helpers
        (`helper_cpu`), and the seconds that the gateway was ready to run and had no core (`waited`).

        `ramp` is the connections opened in a second (0: all at once); for `patience` seconds the last answers are
        awaited afterwards. `tokens` are those of one stream, where the upstream sends other than usual.

        Raises `RuntimeError` where the program ends without a result.
        """
        argv = [str(self.folder / "load"), "--port", str(target.port), "--connections", str(cell.connections)]
        argv += ["--seconds", str(seconds), "--warm-up", str(warm_up), "--patience", str(patience)]
        argv += ["--size", str(cell.size)]
        if ramp:
            argv += ["--ramp", str(ramp)]
        if cell.kind == "stream":
            argv += ["--stream", str(tokens or self.tokens)]
        if target.keys:
            argv += ["--keys", str(target.keys)]
        for line in target.headers:
            argv += ["--header", line]
        gateway, helpers = tree(target.gateway), tree(target.helpers)
        with subprocess.Popen(
            self.cores.on_others(argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as load:
            assert load.stdout is not None
            assert load.stderr is not None
            before = after = (0.0, 0.0, 0.0)
            result: dict[str, Any] | None = None
            try:
                for line in load.stdout:
                    if line == "begin\n":
                        before = cpu_seconds(gateway), cpu_seconds(helpers), waited_seconds(gateway)
                    elif line == "end\n":
                        after = cpu_seconds(gateway), cpu_seconds(helpers), waited_seconds(gateway)
                    else:
                        result = json.loads(line)
            except BaseException:
                load.kill()  # else whoever stops the benchmark would wait for the end of this measurement
                raise
            complaint = load.stderr.read()
        if result is None:
            raise RuntimeError(f"the load generator ended with {load.returncode}: {complaint}")
        spent = (late - early for early, late in zip(before, after, strict=True))
        result["cpu"], result["helper_cpu"], result["waited"] = spent
        result["rss"] = resident(gateway)
        result["complaint"] = complaint
        return result


class Upstream:
    """A running upstream. Use as a context manager."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        self.ports: tuple[int, ...] = ()
        self.pid = 0

    def __enter__(self) -> Upstream:
        self._process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self.ports = tuple(int(word) for word in self._process.stdout.readline().split())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def tree(pids: Iterable[int]) -> list[int]:
    """`pids` and all processes below them."""
    roots = [psutil.Process(pid) for pid in pids]
    return [item.pid for root in roots for item in (root, *root.children(recursive=True))]


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that the processes have used, all threads, in seconds."""
    # The clock of another process, as clock_getcpuclockid(3) makes its number on Linux.
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def waited_seconds(pids: Iterable[int]) -> float:
    """Seconds that the threads of the processes were ready to run while something else had their core."""
    waits = (path.read_text().split()[1] for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(int, waits)) / 1e9


def resident(pids: Iterable[int]) -> int:
    """Bytes that the processes hold in memory."""
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)
