"""Compiles the predictor's kernel when Pointsman is installed, where a C compiler and Python's headers are at hand.

Without them the installation goes on all the same: the predictor then uses NumPy and gives the same numbers, more
slowly. See docs/decisions/a-kernel-for-the-predictor.md.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "router/pointsman/router/predictor"
SOURCES = ("kernel.h", "asking.c", "excerpt.c", "kernel.c", "binding.c")
COMPILERS = ("cc", "gcc", "clang")


class KernelHook(BuildHookInterface[Any]):
    """Adds the compiled kernel to the wheel, which then is one for this platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root, FOLDER)
        target = folder / f"_kernel{EXTENSION_SUFFIXES[0]}"
        target.unlink(missing_ok=True)
        compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
        headers = sysconfig.get_path("include")
        if compiler is None or not Path(headers, "Python.h").is_file():
            lacking = "C compiler" if compiler is None else f"Python.h in {headers}"
            self.app.display_warning(f"No {lacking}: the predictor will use NumPy.")
            return
        sources = [folder / name for name in SOURCES]
        fingerprint = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
        unfinished = target.with_name(f"_kernel.{os.getpid()}.so")
        command = [compiler, "-O3", "-shared", "-fPIC", "-fvisibility=hidden", f'-DFINGERPRINT="{fingerprint}"']
        command += ["-I", headers, *(str(source) for source in sources if source.suffix == ".c")]
        done = subprocess.run([*command, "-o", str(unfinished), "-lm"], capture_output=True, text=True, check=False)
        if done.returncode:
            unfinished.unlink(missing_ok=True)
            self.app.display_warning(f"The predictor will use NumPy: {compiler} failed.\n{done.stderr}")
            return
        unfinished.replace(target)
        build_data["artifacts"].append(f"{FOLDER}/{target.name}")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
