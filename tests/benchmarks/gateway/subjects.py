"""What is measured: each subject started, pinned, ready to answer, and stopped again.

A subject is a gateway under test on the gateway's core with its helpers on the other one, or the direct
connection, which has neither. All of them get the same ports of the same upstream.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.gateway.peers import Peer, environment
from benchmarks.gateway.tools import Cores, Target, Tools
from support.gateway import Gateway, Process, free_port

START = 120.0
"""Seconds that a gateway may take until it answers, on a busy machine."""

MODEL = "bench"


@dataclass(frozen=True)
class Subject:
    """One thing to measure, running."""

    name: str
    target: Target
    configured: str
    """Its command line, or what else says how it was configured."""
    most_connections: int | None = None


def direct(ports: Sequence[int]) -> Subject:
    """The load generator on the upstream, with nothing between."""
    return Subject("direct", Target(ports[0]), "no gateway")


def floor(python: str, cores: Cores, folder: Path, ports: Sequence[int]) -> AbstractContextManager[Subject]:
    """The bare relay."""
    return _relay("floor", [python, str(Path(__file__).with_name("floor.py"))], cores, folder, ports)


def kernel_floor(tools: Tools, folder: Path, ports: Sequence[int]) -> AbstractContextManager[Subject]:
    """The relay in C that looks at nothing."""
    return _relay("kernel-floor", [str(tools.folder / "floor")], tools.cores, folder, ports)


@contextmanager
def _relay(
    name: str, program: Sequence[str], cores: Cores, folder: Path, ports: Sequence[int]
) -> Iterator[Subject]:
    port = free_port()
    argv = [*program, str(port), str(ports[0])]
    with _running(cores.on_gateway(argv), folder / f"{name}.log", {}) as process:
        _wait_until_it_answers(port, (), process)
        yield Subject(name, Target(port, gateway=(process.popen.pid,)), " ".join(argv))


@contextmanager
def peer(item: Peer, environments: Path, cores: Cores, folder: Path, ports: Sequence[int]) -> Iterator[Subject]:
    """
    A gateway from PyPI, with its environment in `environments`.

    Raises `subprocess.CalledProcessError` where it cannot be installed, `TimeoutError` where it never answers.
    """
    place = environment(item.name, environments)
    port = free_port()
    launch = item.launch(place, folder, port, ports)
    with _running(cores.on_gateway(launch.argv), folder / f"{item.name}.log", launch.env) as process:
        _wait_until_it_answers(port, launch.headers, process)
        target = Target(port, launch.headers, gateway=(process.popen.pid,))
        told = f"{item.name} {item.version()}: {' '.join(launch.argv)}"
        yield Subject(item.name, target, told, item.most_connections)


class PinnedGateway(Gateway):
    """Pointsman's real processes; the router on the gateway's core, its helpers on the other."""

    def __init__(self, folder: Path, cores: Cores, **options: Any) -> None:
        super().__init__(folder, **options)
        self._cores = cores

    def _process(self, name: str, argv: list[str], env: dict[str, str] | None = None) -> Process:
        pinned = self._cores.on_gateway(argv) if name == "router" else self._cores.on_others(argv)
        return super()._process(name, pinned, {"OMP_NUM_THREADS": "1", **(env or {})})


@contextmanager
def pointsman(
    cores: Cores,
    folder: Path,
    fast: Sequence[int],
    deep: Sequence[int],
    *,
    tenants: int = 1,
    name: str = "pointsman",
) -> Iterator[Subject]:
    """
    Pointsman with every step on, one pool for each mode; its replicas listen on the ports `fast` and `deep`.

    With several `tenants`, each request comes from the next one of them.
    """
    shared = {
        "model": MODEL,
        "family": "qwen3",
        "reasoning_parser": "qwen3",
        "engine": "openai",
        "max_ongoing_requests": 10_000,
        "prices": {"input": 0.02, "output": 0.06},
    }
    pools = [
        {"name": pool, "modes": [mode], "urls": [f"http://127.0.0.1:{port}" for port in ports], **shared}
        for pool, mode, ports in (("fast", "no_think", fast), ("deep", "think", deep))
    ]
    place = folder / name
    place.mkdir()
    names = [{"name": f"tenant-{number}"} for number in range(tenants)]
    with PinnedGateway(place, cores, pools=pools, tenants=names) as gateway:
        keys = place / "keys"
        keys.write_text("".join(f"{key}\n" for key in gateway.keys.values()))
        keys.chmod(0o600)
        _wait_until_it_answers(gateway.port, (f"authorization: Bearer {gateway.key}",), gateway.router)
        target = Target(
            gateway.port,
            keys=keys,
            gateway=(gateway.router.popen.pid,),
            helpers=tuple(item.popen.pid for item in (gateway.valkey, gateway.admin, gateway.ledger_writer)),
        )
        told = "pointsman router, admin, ledger-writer and Valkey; "
        told += f"{tenants} tenants, {len(fast)}+{len(deep)} replicas, defaults"
        yield Subject(name, target, told)


@contextmanager
def _running(argv: list[str], log: Path, env: dict[str, str]) -> Iterator[Process]:
    # A proxy for the outside has no business between a gateway and an upstream on the same machine.
    clean = {name: "" for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")}
    process = Process(argv, log, {"OMP_NUM_THREADS": "1", **clean, **env})
    try:
        yield process
    finally:
        process.popen.terminate()
        try:
            process.popen.wait(5)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()


def _wait_until_it_answers(port: int, headers: Sequence[str], process: Process) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Are you there?"}], "max_tokens": 64}
    named = dict(line.split(": ", 1) for line in headers)
    deadline = time.monotonic() + START
    said = "nothing"
    with httpx.Client(trust_env=False, timeout=10) as client:
        while time.monotonic() < deadline and process.popen.poll() is None:
            try:
                answer = client.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=named)
            except httpx.TransportError as error:
                said = repr(error)
            else:
                if answer.status_code == 200:
                    return
                said = f"status {answer.status_code}"
            time.sleep(0.2)
    raise TimeoutError(f"never answered ({said}): {process.output()[-500:]}")
