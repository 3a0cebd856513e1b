"""What the admin process itself counts: policies that went back, and what people say of decisions.

Stands beside `process.py`, whose threads call it: the numbers' files are one thread's at a time, hence the lock.
"""

from __future__ import annotations

from threading import Lock
from typing import Literal

from pointsman.contracts.decisions import DecisionRecord
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Metric
from pointsman.contracts.policies import Stage
from pointsman.router.metrics import Metrics

Judge = Literal["tenant", "reviewer"]
"""Whose word it is."""


class AdminCounters:
    """Counts. Any thread may call it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = Lock()

    def returned(self, tenant: str, stage: Stage, reason: str) -> None:
        """`tenant`'s new policy went back from `stage`."""
        self._add(Metric.STAGE_RETURNS, {"tenant": tenant, "stage": stage.value, "reason": reason})

    def judged(self, decision: DecisionRecord, judge: Judge, should_think: bool) -> None:
        """Somebody said which mode would have been right for `decision`; a changed mind is counted again."""
        agrees = should_think == (decision.decided is Mode.THINK)
        labels = {
            "tenant": decision.tenant,
            "mode": decision.decided.value,
            "judge": judge,
            "verdict": "agree" if agrees else "disagree",
        }
        self._add(Metric.FEEDBACK, labels)

    def _add(self, name: str, labels: dict[str, str]) -> None:
        with self._lock:
            self._metrics.counter(name, labels).add(1)
