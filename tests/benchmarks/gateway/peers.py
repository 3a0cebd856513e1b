"""The peers: where each comes from, how it is installed, and with what command line it is measured.

Each gets a virtual environment of its own from a lock file in `requirements/`, and is configured to do as little
as it can: one worker on one core, round robin over the same upstream ports, errors alone logged. What it cannot be
told to leave out it does. Retries stay as they come, because the upstream never fails. A peer that cannot be
installed is reported, and left out.
"""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from support.gateway import free_port

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Launch:
    """What starts one peer."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Peer:
    """One gateway from PyPI."""

    name: str
    launch: Callable[[Path, Path, int, Sequence[int]], Launch]
    """From its environment's `bin`, a folder for its files, its port and the upstream's ports."""
    most_connections: int | None = None
    """Beyond so many connections it is not measured, because a window holds too few answers."""

    @property
    def lock(self) -> Path:
        return ROOT / "requirements" / f"bench-{self.name}.txt"

    def version(self) -> str:
        return next(
            line.split("==")[1]
            for line in self.lock.read_text().splitlines()
            if line.lower().startswith(f"{self.name}==")
        )


def environment(name: str, folder: Path) -> Path:
    """
    The `bin` of the environment `name` in `folder` as its lock file wants it, made where it is not there.

    Raises `subprocess.CalledProcessError` where pip cannot install it.
    """
    lock = ROOT / "requirements" / f"bench-{name}.txt"
    place = folder / name
    stamp = place / f".installed-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not stamp.exists():
        print(f"installing {name}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, capture_output=True)
        pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(lock)]
        subprocess.run(pip, check=True, capture_output=True, text=True)
        stamp.touch()
    return place / "bin"


def _workers(ports: Sequence[int]) -> list[str]:
    return ["--worker-urls", *(f"http://127.0.0.1:{port}" for port in ports)]


def _rust(port: int, ports: Sequence[int]) -> list[str]:
    """What the three Rust gateways, of one ancestry, share."""
    where = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-host", "127.0.0.1"]
    where += ["--prometheus-port", str(free_port())]
    limits = ["--max-concurrent-requests", "20000"]
    return [*where, *_workers(ports), "--policy", "round_robin", "--log-level", "error", *limits]


def _smg(place: Path, folder: Path, port: int, ports: Sequence[int]) -> Launch:
    lean = ["--history-backend", "none", "--disable-load-monitoring"]
    return Launch([str(place / "smg"), "launch", *_rust(port, ports), *lean])


def _vllm_router(place: Path, folder: Path, port: int, ports: Sequence[int]) -> Launch:
    return Launch([str(place / "vllm-router"), *_rust(port, ports)])


def _sglang_router(place: Path, folder: Path, port: int, ports: Sequence[int]) -> Launch:
    lean = ["--history-backend", "none"]
    return Launch([str(place / "python"), "-m", "sglang_router.launch_router", *_rust(port, ports), *lean])


def _litellm(place: Path, folder: Path, port: int, ports: Sequence[int]) -> Launch:
    key = "sk-" + secrets.token_hex(32)
    config = {
        "model_list": [
            {
                "model_name": "bench",
                "litellm_params": {
                    "model": "openai/bench",
                    "api_base": f"http://127.0.0.1:{item}/v1",
                    "api_key": "none",
                },
            }
            for item in ports
        ],
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"num_retries": 0},
        "general_settings": {"master_key": key},
    }
    file = folder / "litellm.yaml"
    file.write_text(yaml.safe_dump(config))
    argv = [str(place / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}
    return Launch([*argv, "--num_workers", "1"], env, (f"authorization: Bearer {key}",))


PEERS = (
    Peer("smg", _smg),
    Peer("vllm-router", _vllm_router),
    Peer("sglang-router", _sglang_router),
    Peer("litellm", _litellm, most_connections=32),
)
RUST_PEERS = ("smg", "vllm-router", "sglang-router")
