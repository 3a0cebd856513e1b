"""The predictor's arithmetic in C, where it was compiled when Pointsman was installed.

Stands between the model and `kernel.c`: hands tables and weights over once, and then each text as code points.
Where there is no compiled kernel, or it can't be loaded, the model uses NumPy; the numbers are the same.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman.router.predictor import features
from pointsman.router.predictor.excerpt import Excerpt

SOURCE = Path(__file__).with_name("kernel.c")
LIBRARY = Path(__file__).with_name("_kernel.so")
"""Made from `SOURCE` by the build hook at installation; see docs/decisions/a-kernel-for-the-predictor.md."""

Score = Callable[[Excerpt], tuple[float, int]]
"""What an excerpt's words and phrases add up to in log-odds (NaN: ask NumPy), and how many words it has."""


class _Group(ctypes.Structure):
    _fields_ = (
        ("line", ctypes.c_int32),
        ("part", ctypes.c_int32),
        ("seed", ctypes.c_uint32),
        ("scale", ctypes.c_double),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in features.KernelArrays._fields),
        ("table", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("groups", ctypes.POINTER(_Group)),
        *(
            (name, ctypes.c_uint32 if name == "multiplier" else ctypes.c_int32)
            for name in features.KernelNumbers._fields
        ),
    )


def scorer(table: npt.NDArray[np.float32], counts: list[float], *, library: Path = LIBRARY) -> Score | None:
    """
    The compiled scorer for one set of weights, or None where there is no kernel that can be loaded.

    `table`: the weights of the hashed features [TABLE_SIZE]; `counts`: those of the counts [COUNT_SIZE].
    """
    kernel = _loaded(library)
    if kernel is None:
        return None
    function = kernel.pointsman_score
    function.restype = ctypes.c_double
    int32 = ctypes.c_int32
    function.argtypes = (ctypes.c_void_p, ctypes.c_char_p, int32, int32, int32, ctypes.POINTER(int32))
    arrays, numbers, seeds = features.kernel_tables()
    weights = np.ascontiguousarray(table, np.float32), np.array(counts, np.float64)
    groups = (_Group * len(features.GROUPS))(
        *(
            _Group(group.line, group.part, seed, group.scale)
            for group, seed in zip(features.GROUPS, seeds, strict=True)
        )
    )
    model = _Model(
        *(array.ctypes.data for array in (*arrays, *weights)), groups, *(int(number) for number in numbers)
    )
    address = ctypes.addressof(model)
    before, after = features.BEFORE, features.AFTER

    def score(excerpt: Excerpt, _alive: Any = (model, arrays, weights, groups)) -> tuple[float, int]:
        codes = f"{before}{excerpt.text}{after}".encode("utf-32-le", "surrogatepass")
        words = int32()
        total: float = function(address, codes, len(codes) // 4, excerpt.opening, excerpt.closing, words)
        return total, words.value

    return score


def _loaded(library: Path) -> ctypes.CDLL | None:
    """The kernel, unless it is missing, unfit for this machine, or compiled from another source than ours."""
    try:
        kernel = ctypes.CDLL(str(library))
    except OSError:
        return None
    kernel.pointsman_fingerprint.restype = ctypes.c_uint32
    ours = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:8]
    return kernel if kernel.pointsman_fingerprint() == int(ours, 16) else None
