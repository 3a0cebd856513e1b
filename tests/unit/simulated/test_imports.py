"""The engine starts where neither torch, Ray nor SGLang is installed, and does not wait for them where they are."""

from __future__ import annotations

import subprocess
import sys


def test_the_server_imports_nothing_heavy() -> None:
    code = (
        "import sys, pointsman.cli.simulate_engine, pointsman.serving.simulated.server\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "starlette" in loaded
    assert not {"torch", "ray", "sglang", "transformers", "numpy", "fastapi", "kubernetes"} & set(loaded)
