"""The predictors of one worker: the platform's own, and those of tenants, by version.

Stands between `predictor_watch.py`, which brings them here, and the step that asks one for a probability. A version
that is not here is no reason to fail: the platform's own judges in its place, and that is counted and told. All of
them are loaded, whoever uses them; how many there may be is bounded where they are kept.
"""

from __future__ import annotations

import logging
from time import monotonic

from pointsman.contracts.names import Metric
from pointsman.router.metrics import Metrics
from pointsman.router.predictor import Predictor

log = logging.getLogger(__name__)

TOLD = 60.0
"""Seconds for which a version that was missed counts as a trouble."""


class Predictors:
    """Finds predictors by their version. `base` is the platform's own."""

    def __init__(self, base: Predictor, metrics: Metrics) -> None:
        self.base = base
        self._held: dict[str, Predictor] = {}
        self._missed: dict[str, float] = {}
        self._count = metrics.counter(Metric.MISSING_PREDICTOR, {})
        if base.arithmetic == "numpy":
            log.warning(
                "the predictor's compiled kernel is not here or of another release: NumPy judges, more slowly"
            )

    def of(self, version: str) -> Predictor:
        """The predictor of that version, or the platform's own where it is not here."""
        found = self._held.get(version)
        return self._missing(version) if found is None else found

    @property
    def versions(self) -> frozenset[str]:
        """The versions that are here, beside the platform's own."""
        return frozenset(self._held)

    def hold(self, version: str, predictor: Predictor) -> None:
        """Let `predictor` judge where `version` is asked for."""
        self._held[version] = predictor
        self._missed.pop(version, None)

    def drop(self, version: str) -> None:
        """Let go of a version."""
        self._held.pop(version, None)

    def trouble(self) -> str | None:
        """Which versions requests have lacked of late, in a few words."""
        since = monotonic() - TOLD
        self._missed = {version: at for version, at in self._missed.items() if at >= since}
        if not self._missed:
            return None
        return f"the platform's own judges in place of {', '.join(sorted(self._missed))}"

    def _missing(self, version: str) -> Predictor:
        self._missed[version] = monotonic()
        self._count.add(1)
        return self.base
