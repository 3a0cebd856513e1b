"""The predictor for single texts in C, where it was compiled when Pointsman was installed.

Stands between the model and `binding.c`: finds the compiled kernel and hands tables and weights over, once. Where
there is no kernel, or it can't be loaded, the model uses NumPy; the numbers are the same.
"""

from __future__ import annotations

import hashlib
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pointsman.router.predictor import features, kernel_tables
from pointsman.router.predictor.excerpt import TAGS
from pointsman.router.predictor.table import Table

_FOLDER = Path(__file__).parent
SOURCES = tuple(_FOLDER / name for name in ("kernel.h", "asking.c", "excerpt.c", "kernel.c", "binding.c"))
LIBRARY = _FOLDER / f"_kernel{EXTENSION_SUFFIXES[0]}"
"""Made from `SOURCES` by the build hook at installation; see docs/decisions/a-kernel-for-the-predictor.md."""


class Kernel(Protocol):
    """One set of weights in the compiled kernel. Holds no state besides them; safe to share between threads."""

    def probability(self, text: str, /) -> float | None:
        """P(think) of a text; None where it may hold a document, which Python leaves out."""

    def probability_of_rest(self, text: str, document: bool, /) -> float:
        """P(think) of what `without_documents` has left of a text."""

    def excerpt_of_rest(self, text: str, document: bool, /) -> tuple[str, int, int, bool, tuple[int, ...], str]:
        """What `excerpt_of_rest` cuts out, but that characters from `alphabet.LIMIT` on are that one."""

    def evidence(self, text: str, limit: int, /) -> list[tuple[int, float]] | None:
        """
        What moved the log-odds of a text most, strongest first: pairs of place and contribution.

        Places are those of `features.EVIDENCE_NAMES`. At most `limit` pairs, and one more: the sum of all others,
        under the place after the last. None where the text may hold a document, which Python leaves out.
        """

    def tasks(self, text: str, /) -> list[tuple[int, int]]:
        """Where the sentences of a text of `standing_task.READ` characters at most stand that set a task."""

    def evidence_of_rest(self, text: str, document: bool, limit: int, /) -> list[tuple[int, float]]:
        """`evidence` of what `without_documents` has left of a text."""


def kernel_of(
    table: Table, slope: float, counts: list[float], bias: float, bend: float, *, library: Path = LIBRARY
) -> Kernel | None:
    """
    The compiled kernel for one set of weights, or None where there is none that can be loaded.

    `table`: the weights of the hashed features, each of which counts `slope` times; `counts`: those of the counts
    [COUNT_SIZE]; `bias`: what nothing at all sums up to; `bend`: see `tempering`. Raises ValueError where the
    features are not those the kernel was written for.
    """
    module = _loaded(library)
    if module is None:
        return None
    tables = kernel_tables.tables()
    groups = np.array(
        [
            (group.line, group.part, seed, group.shaped, group.scale)
            for group, seed in zip(features.GROUPS, tables.seeds, strict=True)
        ],
        dtype=[
            ("line", np.uint32),
            ("part", np.uint32),
            ("seed", np.uint32),
            ("shaped", np.uint32),
            ("scale", np.float32),
        ],
    )
    kernel: Kernel = module.Kernel(
        np.array(tables.numbers, np.uint32),
        tables.multiplier,
        tables.heading_count,
        groups,
        *tables.arrays,
        np.ascontiguousarray(table.entries, np.uint16),
        table.steps() * np.float32(slope),
        np.array(counts, np.float64),
        bias,
        bend,
        f"|{'|'.join(name for name in TAGS if name.isascii())}|",
    )
    return kernel


def _loaded(library: Path) -> Any:
    """The compiled module, or None: it is missing, unfit for this machine, or compiled from other sources."""
    spec = spec_from_file_location("_kernel", library, loader=ExtensionFileLoader("_kernel", str(library)))
    if spec is None or spec.loader is None:
        return None
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return None
    return module if getattr(module, "FINGERPRINT", None) == fingerprint() else None


def fingerprint() -> str:
    """Hash of the kernel's sources, in hexadecimal; the build hook compiles it in."""
    return hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()[:16]
