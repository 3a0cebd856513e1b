"""How far a model's sums count: in full while they are small, by their logarithm once they are large.

Stands between the linear model, whose sum grows with every word that speaks for one side, and the log-odds. The
more words agree, the surer the sum: but of texts unlike all that was learnt from, more are judged wrong than such a
sum says, while in the middle the same model is less sure than it could be. tempered(x) = b * asinh(x / b) is x near
0 and sign(x) * b * log(2 |x| / b) far from it; the order of sums stays. `bend`, b, is fitted with the rest of the
calibration (`training.calibrate`).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

BENDS = (0.5, 1000.0)
"""The least and the largest bend; with the largest nothing is tempered."""


def tempered(sums: _Floats, bend: float) -> _Floats:
    """The log-odds that `sums` stand for."""
    odds: _Floats = bend * np.arcsinh(sums / bend)
    return odds


def untempered(odds: _Floats, bend: float) -> _Floats:
    """The sums whose `tempered` log-odds are `odds`."""
    sums: _Floats = bend * np.sinh(odds / bend)
    return sums


def steepness(sums: _Floats, bend: float) -> _Floats:
    """The derivative of `tempered` by `sums`, in (0, 1]."""
    slope: _Floats = 1 / np.hypot(1, sums / bend)
    return slope


def counting(total: float, bend: float) -> float:
    """What part of `total`, a sum, its log-odds are, in (0, 1]: all in it counts for that part of itself."""
    return bend * math.asinh(total / bend) / total if total else 1.0
