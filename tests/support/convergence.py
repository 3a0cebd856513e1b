"""How soon all has to be as it should be after a disturbance, on a machine that may have too much to do."""

from __future__ import annotations

import os
import time

CONVERGED = 30.0
"""Seconds in which all is as it should be, whatever happened before."""


class Convergence:
    """Begins with the end of the disturbance."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._share = 1.0

    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def late(self) -> bool:
        """Whether it took longer than it may: as much more as the machine had more to do than it has cores."""
        self._share = max(self._share, os.getloadavg()[0] / (os.cpu_count() or 1))
        return self.seconds() > CONVERGED * self._share
