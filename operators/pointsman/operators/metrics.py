"""What the operator counts. One registry for the process; names are spelled in `contracts/names.py`."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from pointsman.contracts.names import OperatorMetric

REGISTRY = CollectorRegistry()

ProcessCollector(registry=REGISTRY)


class Outcome(StrEnum):
    """How a look at an object ended."""

    DONE = "done"
    FAILED = "failed"


RECONCILED = Counter(
    OperatorMetric.RECONCILED,
    "Looks at an object, by kind and by how they ended.",
    ("kind", "outcome"),
    registry=REGISTRY,
)

LEADER = Gauge(
    OperatorMetric.LEADER,
    "1 in the one operator that works, 0 in those that wait.",
    registry=REGISTRY,
)

QUEUED = Gauge(
    OperatorMetric.QUEUED,
    "Objects that wait for a look or are looked at, by queue.",
    ("queue",),
    registry=REGISTRY,
)
