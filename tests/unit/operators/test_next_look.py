"""When a pool that nothing happens to is looked at again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pointsman.operators.pools import LATE, SOON, next_look
from pointsman.operators.statuses import CanaryStatus, DrainingStatus
from pointsman.operators.upgrade import TIME, Course

RESYNC = 60.0
CANARY = CanaryStatus(revision="new", share=0.1, since="2026-01-01T00:00:00Z")
DRAINING = DrainingStatus(revision="older", since="2026-01-01T00:00:00Z")


def status(phase: str = "Ready", seconds: float = 0.0) -> dict[str, Any]:
    since = (datetime.now(UTC) - timedelta(seconds=seconds)).strftime(TIME)
    return {"phase": phase, "conditions": [{"type": "Ready", "lastTransitionTime": since}]}


@pytest.mark.parametrize(
    ("course", "phase", "seconds"),
    [
        (Course("new"), "Ready", RESYNC),
        (Course("new"), "Sleeping", RESYNC),
        (Course("old", failed_revision="new"), "Ready", RESYNC),
        (Course("old"), "Ready", LATE / 3),  # no router has told anything, or none could be asked
        (Course("old", canary=CANARY), "Ready", SOON),
        (Course("new", draining=(DRAINING,)), "Ready", SOON),
    ],
)
def test_only_what_is_as_it_should_be_waits_for_the_clock(course: Course, phase: str, seconds: float) -> None:
    assert next_look(course, "new", status(phase), hold=2.0, resync=RESYNC) == seconds


@pytest.mark.parametrize(("ready", "seconds"), [(2, RESYNC), (1, LATE), (3, LATE), (None, LATE)])
def test_replicas_on_their_way_are_looked_for(ready: int | None, seconds: float) -> None:
    told = {**status(), "replicas": 2, "readyReplicas": ready}
    assert next_look(Course("new"), "new", told, hold=2.0, resync=RESYNC) == seconds


def test_one_that_is_not_ready_is_looked_at_later_and_later() -> None:
    found = [
        next_look(Course("new"), "new", status("Progressing", seconds), hold=1.0, resync=RESYNC)
        for seconds in (0, 30, 10_000)
    ]
    assert found == [SOON, pytest.approx(6.0, abs=0.5), LATE]
