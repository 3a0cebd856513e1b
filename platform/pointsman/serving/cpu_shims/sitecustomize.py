"""Let SGLang run on machines without CUDA: stand-ins, put in place only where the real thing is missing.

Python runs a module of this name at start-up. This folder is put on PYTHONPATH of the engine's processes alone,
so that the processes they spawn have the stand-ins as well. With CUDA nothing here acts: `torchvision` imports
at the first try, and the real `sgl_kernel` is found before ours. It stays importable without the project, and
it imports nothing heavy by itself, because every helper process of Ray runs it too.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

_HERE = Path(__file__).resolve().parent
_declared: list[object] = []  # torch.library forgets declarations when their owner is collected


class _TorchvisionLoader(importlib.abc.Loader):
    """Loads torchvision; where its operators don't fit this torch, declares two of them and tries again."""

    def __init__(self, real: importlib.abc.Loader) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._real.exec_module(module)
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)
            self._real.exec_module(module)


class _GrammarLoader(importlib.abc.Loader):
    """
    Loads SGLang's xgrammar backend and gives `apply_vocab_mask` of its backend class the CPU branch that the
    method of the same name of its grammar class has: without it a thinking budget stops the engine.
    """

    def __init__(self, real: importlib.abc.Loader) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        elsewhere = module.XGrammarGrammarBackend.apply_vocab_mask

        def apply_vocab_mask(logits: Any, vocab_mask: Any) -> None:
            if logits.device.type != "cpu":
                elsewhere(logits, vocab_mask)
                return
            import xgrammar

            xgrammar.apply_token_bitmask_inplace(logits, vocab_mask, backend="cpu")

        module.XGrammarGrammarBackend.apply_vocab_mask = staticmethod(apply_vocab_mask)


class _GroupsLoader(importlib.abc.Loader):
    """
    Loads SGLang's groups of processes; an engine that is one process has a single one of Gloo in place of ten.

    Each of them would keep a thread that wakes up a hundred times a second for talks with nobody, which is most of
    what an idle scheduler costs.
    """

    def __init__(self, real: importlib.abc.Loader) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        import torch.distributed as dist

        another = dist.new_group

        def new_group(*args: Any, **options: Any) -> Any:
            if dist.get_world_size() == 1 and options.get("backend") == dist.get_backend() == "gloo":
                return dist.group.WORLD
            return another(*args, **options)

        dist.new_group = new_group


class _WrappingFinder(importlib.abc.MetaPathFinder):
    """Finds what Python would find, and wraps the loader of the modules that need a hand."""

    _loaders: ClassVar = {
        "torchvision": _TorchvisionLoader,
        "sglang.srt.constrained.xgrammar_backend": _GrammarLoader,
        "sglang.srt.distributed.parallel_state": _GroupsLoader,
    }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        wrap = self._loaders.get(fullname)
        if wrap is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = wrap(spec.loader)
        return spec


class _KernelFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for `sgl_kernel`, SGLang's CUDA kernels; asked last, so a real one always wins."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "sgl_kernel":
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def absent(name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)

            def kernel(*_args: object, **_kwargs: object) -> object:
                raise NotImplementedError(f"{module.__name__}.{name} needs CUDA")

            return kernel

        module.__getattr__ = absent  # type: ignore[method-assign]


def _run_the_next_sitecustomize() -> None:
    """Python runs only the first `sitecustomize` on the path: hand over to the one that ours hides."""
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


sys.meta_path.insert(0, _WrappingFinder())
sys.meta_path.append(_KernelFinder())
_run_the_next_sitecustomize()
