"""The keeper of stages: a new policy that does badly goes back to the stage before, by itself.

Stands behind the writer of decisions, which shows it each record once it is kept; so it sees all routers' requests
and none of their hot paths. For each tenant it counts what the new policy did in the last seconds (`limits.window`)
and, where a share is beyond its limit, writes the previous stage as a new version of the policy, with the figures
in its comment. What was counted under one version says nothing of the next: each starts from nothing.

In `observe` nothing can be taken back: disagreement is counted there for whoever looks at it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pointsman.contracts.decisions import DecisionRecord
from pointsman.contracts.policies import Candidate, Stage, StageLimits
from pointsman.router.admin.live_policies import LivePolicies, PresentPolicy

log = logging.getLogger(__name__)

BY = "pointsman"
"""Who a version is by that the keeper has written."""

BUCKETS = 60
"""Parts into which a window is divided: it ends by that much too late at most, and costs no more memory."""

SERVER_ERRORS = 500
"""HTTP statuses from this one on count as errors."""

_BEFORE = {Stage.ENFORCE: Stage.CANARY, Stage.CANARY: Stage.OBSERVE}


class Figures(NamedTuple):
    """Requests that were counted, and how many of them ended how."""

    requests: int = 0
    escalations: int = 0
    errors: int = 0
    disagreement: int = 0

    def plus(self, other: Figures) -> Figures:
        """Both together."""
        return Figures(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def share(self, reason: str) -> float:
        """The share of requests of one of the other fields; 0 where there are none."""
        count: int = getattr(self, reason)
        return count / self.requests if self.requests else 0.0


REASONS = ("errors", "escalations", "disagreement")
"""What can send a policy back, the gravest first: names of limits and of figures alike."""


def beyond(figures: Figures, limits: StageLimits) -> str | None:
    """The first of `REASONS` whose limit is exceeded; None where none is, or where too little was seen."""
    if figures.requests < limits.at_least:
        return None
    return next((reason for reason in REASONS if figures.share(reason) > getattr(limits, reason)), None)


class Window:
    """Sums over the last `seconds` of one version of a policy. Times are seconds since 1970, in any order."""

    def __init__(self, version: int, seconds: float) -> None:
        self.version = version
        self.seconds = seconds
        self._width = seconds / BUCKETS
        self._buckets: deque[tuple[int, Figures]] = deque()  # by number of bucket since 1970, ascending

    def add(self, at: float, figures: Figures) -> None:
        """Count `figures` at the time `at`; what comes too late for its own bucket counts in the newest."""
        number = int(at / self._width)
        if self._buckets and number <= self._buckets[-1][0]:
            number, sums = self._buckets.pop()
            figures = sums.plus(figures)
        self._buckets.append((number, figures))

    def sums(self, now: float) -> Figures:
        """What was counted in the last `seconds` before `now`; what is ahead of `now` counts as of now."""
        current = int(now / self._width)
        ahead = Figures()
        while self._buckets and self._buckets[-1][0] > current:  # a clock was put back, or a router's is fast
            ahead = ahead.plus(self._buckets.pop()[1])
        if ahead.requests:
            self.add(now, ahead)
        first = int((now - self.seconds) / self._width)
        while self._buckets and self._buckets[0][0] < first:
            self._buckets.popleft()
        total = Figures()
        for _, figures in self._buckets:
            total = total.plus(figures)
        return total


@dataclass(frozen=True, slots=True)
class Looked:
    """
    What the candidate of one tenant did of late, under the newest `version` of the policy, in the last `seconds`.
    """

    version: int
    seconds: float
    figures: Figures


class StageKeeper:
    """
    Counts what candidates do, and moves them back through `policies`.

    `returned(tenant, stage, reason)` hears of each return, with the stage that was left. One thread calls `seen`
    and `tick`; any may ask for `figures`.
    """

    def __init__(self, policies: LivePolicies, *, returned: Callable[[str, Stage, str], None]) -> None:
        self._policies = policies
        self._returned = returned
        self._windows: dict[str, Window] = {}
        self._looked: dict[str, Looked] = {}

    def seen(self, records: Iterable[DecisionRecord]) -> None:
        """Count `records`. Never raises."""
        for record in records:
            if record.stage is not None:
                self._count(record)

    def tick(self, now: float) -> None:
        """Look at all windows; `now` in seconds since 1970. Never raises."""
        for tenant, window in list(self._windows.items()):
            present = self._policies.remembered(tenant)
            candidate = None if present is None else present.document.candidate
            if present is None or candidate is None or window.version != present.latest:
                del self._windows[tenant]
                self._looked.pop(tenant, None)
                continue
            figures = window.sums(now)
            self._looked[tenant] = Looked(window.version, window.seconds, figures)
            try:
                self._judge(present, candidate, figures)
            except Exception as error:  # another writer was faster, the database is away: the next tick looks again
                log.warning("the policy of %s could not be sent back: %s", tenant, type(error).__name__)

    def figures(self, present: PresentPolicy) -> Looked | None:
        """What was last seen of the candidate of a policy; None where there is none, or nothing was seen of it."""
        looked = self._looked.get(present.tenant)
        return looked if looked is not None and looked.version == present.latest else None

    def _count(self, record: DecisionRecord) -> None:
        present = self._policies.remembered(record.tenant)
        candidate = None if present is None else present.document.candidate
        if present is None or candidate is None or record.policy_version != str(present.version):
            return  # of another version than the one that holds now
        if candidate.stage is not Stage.OBSERVE and not record.by_candidate:
            return
        window = self._windows.get(record.tenant)
        if window is None or (window.version, window.seconds) != (present.latest, candidate.limits.window):
            window = self._windows[record.tenant] = Window(present.latest, candidate.limits.window)
        disagreed = record.shadow is not None and record.shadow is not record.mode
        ended = record.at + record.duration  # what fails after minutes is to count, however short the window is
        if candidate.stage is Stage.OBSERVE:
            window.add(ended, Figures(1, disagreement=int(disagreed)))
            return
        failed = record.status >= SERVER_ERRORS
        window.add(ended, Figures(1, int(record.escalated is not None), int(failed), int(disagreed)))

    def _judge(self, present: PresentPolicy, candidate: Candidate, figures: Figures) -> None:
        before = _BEFORE.get(candidate.stage)
        reason = None if before is None else beyond(figures, candidate.limits)
        if before is None or reason is None:
            return
        share, limit = figures.share(reason), getattr(candidate.limits, reason)
        comment = (
            f"back from {candidate.stage} to {before}: {reason} {share:.3f} beyond {limit:g} "
            f"in {figures.requests} requests of the last {candidate.limits.window:g} s "
            f"(errors {figures.errors}, escalations {figures.escalations}, disagreement {figures.disagreement})"
        )
        self._policies.move(present.tenant, before, expected=present.latest, by=BY, comment=comment, manager=None)
        log.warning("the new policy of %s went %s", present.tenant, comment)
        self._returned(present.tenant, candidate.stage, reason)
