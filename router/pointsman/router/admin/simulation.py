"""What another threshold would have done to decisions that were made: an estimate, and by what it falls short.

Pure: reads decisions and a policy, asks nobody. A decision can be made again, since its probability was kept; what
the other mode would have cost and taken can't: that is taken from what the tenant's other answers did.

Many thresholds cost hardly more than one: whoever moves a threshold by hand is told at once what each would do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pointsman.contracts.decisions import Decision
from pointsman.contracts.modes import HYSTERESIS, Mode, Source
from pointsman.contracts.policies import Policy

BINS = 20
"""Parts of equal width into which probabilities are counted."""

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
    predictors: dict[str, int]
    """Decisions by the version of the predictor whose probability they were made by."""
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


class _Figures(NamedTuple):
    """What one decision adds to a simulation, once it is said what it would have been."""

    to_think: int
    to_no_think: int
    thinking_simulated: int
    priced: int
    cost: int
    cost_simulated: int
    timed: int
    seconds: float
    seconds_simulated: float


class Sweep(NamedTuple):
    """One simulation for each threshold, and how the probabilities of what a threshold can change are spread."""

    simulations: tuple[Simulation, ...]
    histogram: tuple[int, ...]
    """Decisions by probability, in `BINS` parts of [0, 1]."""


def simulate(decisions: Iterable[Decision], threshold: float, policy: Policy) -> Simulation:
    """
    What `threshold` would have done to `decisions` in place of the one that held; `policy` is the tenant's.

    A rule's own threshold stays; where load had raised the threshold, it is taken to have raised this one as far.
    """
    return sweep(decisions, (threshold,), policy).simulations[0]


def sweep(decisions: Iterable[Decision], thresholds: Sequence[float], policy: Policy) -> Sweep:
    """As `simulate`, for each of `thresholds`, from one look at `decisions`."""
    ruled = frozenset(rule.name for rule in policy.rules if rule.threshold is not None)
    made = tuple(decisions)
    usual = _usual(made)
    untouched: Counter[str] = Counter()
    fixed: list[_Figures] = []
    free: list[tuple[float, _Figures, _Figures]] = []
    for decision in made:
        kept = _kept(decision, policy, ruled)
        probability = decision.probability
        if kept is not None:
            untouched[kept] += 1
            fixed.append(_figures(decision, decision.decided, usual))
        elif probability is None or (_raised(decision, policy) and probability < decision.threshold):
            fixed.append(_figures(decision, _NO_THINK, usual))
        else:
            free.append((probability, _figures(decision, _NO_THINK, usual), _figures(decision, _THINK, usual)))
    free.sort(key=lambda each: each[0])
    probabilities = np.array([each[0] for each in free])
    spread, _ = np.histogram(probabilities, bins=BINS, range=(0.0, 1.0))
    whole, seconds = _totals(fixed, [each[1] for each in free], [each[2] for each in free])
    thinking = sum(decision.decided is _THINK for decision in made)
    oldest = min((decision.at for decision in made), default=None)
    predictors = dict(Counter(decision.predictor for decision in made if decision.probability is not None))
    newest = max((decision.at for decision in made), default=None)
    simulations = []
    for at in np.searchsorted(probabilities, np.asarray(thresholds, dtype=float)):
        to_think, to_no_think, simulated, priced, cost, cost_simulated, timed = map(int, whole[at])
        before, after = map(float, seconds[at])
        simulations.append(
            Simulation(
                decisions=len(made),
                oldest=oldest,
                newest=newest,
                untouched=dict(untouched),
                predictors=predictors,
                to_think=to_think,
                to_no_think=to_no_think,
                thinking=thinking,
                thinking_simulated=simulated,
                priced=priced,
                cost=cost,
                cost_simulated=cost_simulated,
                timed=timed,
                seconds=before / timed if timed else None,
                seconds_simulated=after / timed if timed else None,
            )
        )
    return Sweep(tuple(simulations), tuple(map(int, spread)))


_WHOLE = 7
"""Fields of `_Figures` that are whole numbers; the others are seconds."""


def _totals(fixed: list[_Figures], fast: list[_Figures], deep: list[_Figures]) -> tuple[np.ndarray, np.ndarray]:
    """
    What all figures add up to where of the decisions that are free to move the first n do not think and the others
    do, for every n from 0 on: whole numbers, shaped (free + 1, 7), and seconds, (free + 1, 2).
    """
    parts = []
    for dtype, fields in ((np.int64, slice(_WHOLE)), (np.float64, slice(_WHOLE, None))):
        width = len(_Figures._fields[fields])
        base, below, above = (
            np.array([each[fields] for each in figures], dtype=dtype).reshape(-1, width)
            for figures in (fixed, fast, deep)
        )
        ends = np.zeros((1, width), dtype=dtype)
        up_to = np.concatenate([ends, below.cumsum(axis=0)])
        from_there = np.concatenate([above[::-1].cumsum(axis=0)[::-1], ends])
        parts.append(base.sum(axis=0) + up_to + from_there)
    return parts[0], parts[1]


def _kept(decision: Decision, policy: Policy, ruled: frozenset[str]) -> str | None:
    """A word for why no threshold of the policy would have changed `decision`; None where one might have."""
    if not decision.by_predictor or decision.probability is None:
        return decision.source.value
    if decision.rule in ruled:
        return "rule"
    if decision.by_candidate:
        return "candidate"
    if decision.detail == HYSTERESIS:
        return HYSTERESIS
    return Source.SATURATION.value if decision.source is Source.SATURATION and _raised(decision, policy) else None


def _raised(decision: Decision, policy: Policy) -> bool:
    """Whether load had raised the threshold."""
    return policy.saturation is not None and decision.threshold > policy.threshold


def _figures(decision: Decision, after: Mode, usual: dict[tuple[str, Mode], float]) -> _Figures:
    before = decision.decided
    cost = _cost(decision, after)
    priced = decision.cost is not None and cost is not None
    seconds = decision.duration if after is before else usual.get((decision.model, after))
    timed = decision.status == 200 and seconds is not None
    return _Figures(
        to_think=before is _NO_THINK and after is _THINK,
        to_no_think=before is _THINK and after is _NO_THINK,
        thinking_simulated=after is _THINK,
        priced=priced,
        cost=decision.cost or 0 if priced else 0,
        cost_simulated=cost or 0 if priced else 0,
        timed=timed,
        seconds=decision.duration if timed else 0.0,
        seconds_simulated=seconds or 0.0 if timed else 0.0,
    )


def _cost(decision: Decision, after: Mode) -> int | None:
    """What the answer would have cost; None where that is not known."""
    if after is decision.decided:
        return decision.cost
    # An escalated one has been answered in both modes.
    return None if decision.escalated is not None else decision.other_mode_cost_estimated


def _usual(decisions: Iterable[Decision]) -> dict[tuple[str, Mode], float]:
    """Mean seconds of an answer by model and mode, where there are enough of them."""
    found: defaultdict[tuple[str, Mode], list[float]] = defaultdict(list)
    for decision in decisions:
        if decision.status == 200 and decision.escalated is None:
            found[decision.model, decision.decided].append(decision.duration)
    return {key: sum(seconds) / len(seconds) for key, seconds in found.items() if len(seconds) >= ENOUGH}
