"""How the revisions of pools fare, as metrics: brought up to date once a second, never by a request.

Stands beside the live report, which calls it. A number in the metrics' files stays as long as they do, and every
upgrade brings a new revision: so a process shows so many of each pool, and those that come later together.
"""

from __future__ import annotations

from pointsman.contracts.names import Metric
from pointsman.router.fleet import PoolState
from pointsman.router.fleet.revision import Revision
from pointsman.router.metrics import OTHERS, Cell, Metrics

MAX_REVISIONS = 16
"""Revisions of a pool that have numbers of their own in one process: the first to come."""


class _Shown:
    """The numbers of one revision, or of all that came late."""

    __slots__ = ("cells", "replicas")

    def __init__(self, metrics: Metrics, labels: dict[str, str]) -> None:
        self.replicas = metrics.gauge(Metric.REVISION_REPLICAS, labels)
        names = (Metric.REVISION_REQUESTS, Metric.REVISION_ERRORS, Metric.REVISION_STREAMS, Metric.REVISION_TTFT)
        self.cells: list[Cell] = [metrics.counter(name, labels) for name in names]


class RevisionMetrics:
    """The metrics of all revisions of all pools."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shown: dict[str, dict[str, _Shown]] = {}
        self._told: dict[str, dict[Revision, tuple[float, ...]]] = {}

    def note(self, state: PoolState, labels: dict[str, str]) -> None:
        """Bring the numbers of the pool `state`, whose labels these are, up to date."""
        shown = self._shown.setdefault(state.config.name, {})
        before = self._told.get(state.config.name, {})
        told: dict[Revision, tuple[float, ...]] = {}
        replicas = dict.fromkeys(shown, 0)
        for name, revision in state.revisions.items():
            label = name if name in shown or len(shown) < MAX_REVISIONS else OTHERS
            numbers = shown.get(label)
            if numbers is None:
                numbers = shown[label] = _Shown(self._metrics, {**labels, "revision": label})
            tally = revision.tally
            counts = (tally.requests, tally.errors, tally.streams, tally.seconds)
            for cell, now, then in zip(numbers.cells, counts, before.get(revision, _NOTHING), strict=True):
                if now != then:
                    cell.add(now - then)
            told[revision] = counts
            replicas[label] = replicas.get(label, 0) + len(revision.members)
        self._told[state.config.name] = told
        for label, number in replicas.items():
            shown[label].replicas.set(number)


_NOTHING = (0.0, 0.0, 0.0, 0.0)
