"""What another threshold would have done to decisions that were made: an estimate, and by what it falls short.

Pure: reads decisions and a policy, asks nobody. A decision can be made again, since its probability was kept; what
the other mode would have cost and taken can't: that is taken from what the tenant's other answers did.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from pointsman.contracts.decisions import Decision
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.policies import Policy

ENOUGH = 8
"""Answers of a model in a mode from which it is told how long they usually take."""

_THINK, _NO_THINK = Mode.THINK, Mode.NO_THINK


class Simulation(NamedTuple):
    """
    What happened, and what would have. Costs are nano-dollars, times mean seconds; those of decisions of which
    either is not known are in neither, and `priced` and `timed` say how many that leaves.
    """

    decisions: int
    oldest: float | None
    """When the oldest decision was made: seconds since 1970."""
    newest: float | None
    untouched: dict[str, int]
    """Decisions that no threshold would have changed, by what decided."""
    to_think: int
    to_no_think: int
    thinking: int
    thinking_simulated: int
    priced: int
    cost: int
    cost_simulated: int
    timed: int
    seconds: float | None
    seconds_simulated: float | None


class _Case(NamedTuple):
    at: float
    model: str
    before: Mode
    after: Mode
    escalated: bool
    answered: bool
    cost: int | None
    other_cost: int | None
    seconds: float


def simulate(decisions: Iterable[Decision], threshold: float, policy: Policy) -> Simulation:
    """
    What `threshold` would have done to `decisions` in place of the one that held; `policy` is the tenant's.

    A rule's own threshold stays; where load had raised the threshold, it is taken to have raised this one as far.
    """
    ruled = frozenset(rule.name for rule in policy.rules if rule.threshold is not None)
    untouched: Counter[str] = Counter()
    cases = []
    for decision in decisions:
        kept = _kept(decision, policy, ruled)
        if kept is None:
            after = _again(decision, threshold, policy)
        else:
            untouched[kept] += 1
            after = decision.decided
        cases.append(_case(decision, after))
    priced = [(case.cost, cost) for case in cases if case.cost is not None and (cost := _cost(case)) is not None]
    usual = _usual(cases)
    timed = [
        (case.seconds, seconds)
        for case in cases
        if case.answered and (seconds := _seconds(case, usual)) is not None
    ]
    return Simulation(
        decisions=len(cases),
        oldest=min((case.at for case in cases), default=None),
        newest=max((case.at for case in cases), default=None),
        untouched=dict(untouched),
        to_think=sum(case.before is _NO_THINK and case.after is _THINK for case in cases),
        to_no_think=sum(case.before is _THINK and case.after is _NO_THINK for case in cases),
        thinking=sum(case.before is _THINK for case in cases),
        thinking_simulated=sum(case.after is _THINK for case in cases),
        priced=len(priced),
        cost=sum(before for before, _ in priced),
        cost_simulated=sum(after for _, after in priced),
        timed=len(timed),
        seconds=_mean(before for before, _ in timed),
        seconds_simulated=_mean(after for _, after in timed),
    )


def _kept(decision: Decision, policy: Policy, ruled: frozenset[str]) -> str | None:
    """A word for why no threshold of the policy would have changed `decision`; None where one might have."""
    if not decision.by_predictor or decision.probability is None:
        return decision.source.value
    if decision.rule in ruled:
        return "rule"
    if decision.by_candidate:
        return "candidate"
    return Source.SATURATION.value if decision.source is Source.SATURATION and _raised(decision, policy) else None


def _again(decision: Decision, threshold: float, policy: Policy) -> Mode:
    assert decision.probability is not None
    held = max(threshold, decision.threshold) if _raised(decision, policy) else threshold
    return _THINK if decision.probability >= held else _NO_THINK


def _raised(decision: Decision, policy: Policy) -> bool:
    """Whether load had raised the threshold."""
    return policy.saturation is not None and decision.threshold > policy.threshold


def _case(decision: Decision, after: Mode) -> _Case:
    return _Case(
        at=decision.at,
        model=decision.model,
        before=decision.decided,
        after=after,
        escalated=decision.escalated is not None,
        answered=decision.status == 200,
        cost=decision.cost,
        other_cost=decision.other_mode_cost_estimated,
        seconds=decision.duration,
    )


def _cost(case: _Case) -> int | None:
    """What the answer would have cost; None where that is not known."""
    if case.after is case.before:
        return case.cost
    return None if case.escalated else case.other_cost  # an escalated one has been answered in both modes


def _usual(cases: Iterable[_Case]) -> dict[tuple[str, Mode], float]:
    """Mean seconds of an answer by model and mode, where there are enough of them."""
    found: defaultdict[tuple[str, Mode], list[float]] = defaultdict(list)
    for case in cases:
        if case.answered and not case.escalated:
            found[case.model, case.before].append(case.seconds)
    return {key: sum(seconds) / len(seconds) for key, seconds in found.items() if len(seconds) >= ENOUGH}


def _seconds(case: _Case, usual: dict[tuple[str, Mode], float]) -> float | None:
    return case.seconds if case.after is case.before else usual.get((case.model, case.after))


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
