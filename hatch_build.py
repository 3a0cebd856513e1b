"""Compiles the predictor's kernel when Pointsman is installed, where a C compiler is at hand.

Without one the installation goes on all the same: the predictor then uses NumPy and gives the same numbers, more
slowly. See docs/decisions/a-kernel-for-the-predictor.md.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "router/pointsman/router/predictor"
COMPILERS = ("cc", "gcc", "clang")


class KernelHook(BuildHookInterface[Any]):
    """Adds the compiled kernel to the wheel, which then is one for this platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        source = Path(self.root, FOLDER, "kernel.c")
        target = source.with_name("_kernel.so")
        target.unlink(missing_ok=True)
        compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
        if compiler is None:
            self.app.display_warning("No C compiler: the predictor will use NumPy.")
            return
        fingerprint = hashlib.sha256(source.read_bytes()).hexdigest()[:8]
        unfinished = target.with_name(f"_kernel.{os.getpid()}.so")
        command = [compiler, "-O2", "-shared", "-fPIC", f"-DFINGERPRINT=0x{fingerprint}u", str(source)]
        done = subprocess.run([*command, "-o", str(unfinished), "-lm"], capture_output=True, text=True, check=False)
        if done.returncode:
            unfinished.unlink(missing_ok=True)
            self.app.display_warning(f"The predictor will use NumPy: {compiler} failed.\n{done.stderr}")
            return
        unfinished.replace(target)
        build_data["artifacts"].append(f"{FOLDER}/{target.name}")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
