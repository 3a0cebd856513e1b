"""The stand-ins for machines without CUDA, in processes of their own as they are in use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pointsman.serving.engine_args import CPU_SHIMS


def python(code: str, *before: Path) -> str:
    path = os.pathsep.join(map(str, [CPU_SHIMS, *before]))
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_absent_kernels_say_so_when_they_are_called() -> None:
    code = """
import sgl_kernel
try:
    sgl_kernel.rmsnorm(1)
except NotImplementedError as error:
    print(error)
"""
    assert python(code) == "sgl_kernel.rmsnorm needs CUDA"


def test_real_kernels_win(tmp_path: Path) -> None:
    (tmp_path / "sgl_kernel.py").write_text("rmsnorm = 'real'")
    assert python("import sgl_kernel; print(sgl_kernel.rmsnorm)", tmp_path) == "real"


def test_nothing_heavy_is_imported() -> None:
    assert python("import sys; print('torch' in sys.modules, 'pointsman' in sys.modules)") == "False False"


def test_the_sitecustomize_that_ours_hides_runs_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('the other one')")
    assert python("pass", tmp_path) == "the other one"
