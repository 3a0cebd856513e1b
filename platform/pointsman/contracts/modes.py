"""The mode contract: what a mode is, who may choose it, and in which order the choosers rank.

Stands in the contracts because the router decides by it, the documentation prints it and the tests read it:
all three from the one table below. Pure: no socket, no clock, no configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pointsman.contracts.errors import ConflictingModeSignals, ModeNotOffered, ThinkingBudgetSpent


class Mode(StrEnum):
    """The track a query runs on."""

    THINK = "think"
    NO_THINK = "no_think"

    @property
    def other(self) -> Mode:
        return Mode.NO_THINK if self is Mode.THINK else Mode.THINK


class Source(StrEnum):
    """Who determined the mode of a request; reported in the header `x-pointsman-mode-source`."""

    POLICY = "policy"
    BUDGET = "budget"
    CLIENT = "client"
    PREDICTOR = "predictor"
    SATURATION = "saturation"
    DEFAULT = "default"


class ClientSignal(NamedTuple):
    """One wish for a mode that the client expressed, and the name of the field or header it came in."""

    field: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class ModePolicy:
    """
    What a tenant's policy says about the mode of one request: the policy itself, or what a rule of it makes of it.

    `threshold`: at or above this P(think) in [0, 1] the query thinks. `abstain_below`, `abstain_above`: the
    half-open band [below, above) of P(think) inside which the predictor abstains; an empty band (below == above)
    never abstains. `default`: the mode where the predictor abstains or cannot judge. `required`: the mode that a
    rule wants whatever the client asks for. `rule`: the name of the rule that matched, empty where none did.
    `substitute`: whether a mode that the model is not served in becomes the other one. `refuse_spent`: whether a
    spent thinking budget refuses what would think; else it is answered without thinking. `cost_of_wrong_fast`: US
    dollars, where the threshold is to follow from it.
    """

    threshold: float = 0.5
    abstain_below: float = 0.0
    abstain_above: float = 0.0
    default: Mode = Mode.THINK
    required: Mode | None = None
    rule: str = ""
    substitute: bool = False
    refuse_spent: bool = False
    cost_of_wrong_fast: float | None = None


class ModeDecision(NamedTuple):
    """The mode of one request, the one source that determined it, and what that source looked at."""

    mode: Mode
    source: Source
    threshold: float
    """What P(think) was compared with: the policy's or the rule's threshold, one that follows from
    `cost_of_wrong_fast`, or one that load has raised."""
    probability: float | None
    detail: str
    """The rule or the client's field that asked, or a word on why the source decided so."""
    overruled: bool = False
    """Whether the client had asked for the other mode."""
    shadow: Mode | None = None
    """What the other one of two policies would have decided, where there are two."""
    rule: str = ""
    """The rule that matched, even where it did no more than change the threshold or the default."""


Signals = tuple[ClientSignal, ...]

_THINK, _NO_THINK = Mode  # a member of an Enum is slow to look up by way of its class


Case = tuple[Signals, float | None, ModePolicy, float, float, frozenset[Mode], str]
"""What the sources look at: signals, probability, policy, threshold, the same raised by load, the modes offered,
and what is spent (empty: nothing). A bare tuple, since one is made for every request."""

_THINKING, _MONEY = "daily_thinking_tokens", "soft_usd"
"""What may be spent: all of the day's thinking, or money up to a soft mark."""

Opinion = tuple[Mode, str] | None
"""A mode and why, or None where a source leaves the choice to the next."""


def _by_policy(case: Case) -> Opinion:
    policy = case[2]
    return None if policy.required is None else (policy.required, policy.rule)


def _by_budget(case: Case) -> Opinion:
    _, _, policy, _, _, offered, spent = case
    if not spent or _first_of(_BELOW_BUDGET, case)[1] is _NO_THINK:
        return None
    if spent == _THINKING:
        if policy.refuse_spent or _NO_THINK not in offered:
            raise ThinkingBudgetSpent("The thinking tokens of this day are spent.")
    elif _NO_THINK not in offered:
        return None
    return _NO_THINK, spent


def _by_client(case: Case) -> Opinion:
    signals = case[0]
    if not signals:
        return None
    field, mode = signals[0]
    return mode, field


def _by_predictor(case: Case) -> Opinion:
    _, probability, policy, threshold, raised, _, _ = case
    if probability is None or policy.abstain_below <= probability < policy.abstain_above:
        return None
    word = (
        "threshold" if policy.cost_of_wrong_fast is None or threshold == policy.threshold else "cost_of_wrong_fast"
    )
    if probability >= raised:
        return _THINK, word
    return (_NO_THINK, word) if probability < threshold else None


def _by_saturation(case: Case) -> Opinion:
    _, probability, policy, threshold, raised, _, _ = case
    if probability is None or policy.abstain_below <= probability < policy.abstain_above:
        return None
    return (_NO_THINK, "load") if threshold <= probability < raised else None


def _by_default(case: Case) -> Opinion:
    _, probability, policy, _, _, _, _ = case
    return policy.default, "no prediction" if probability is None else "abstained"


PRECEDENCE = (
    (Source.POLICY, _by_policy),
    (Source.BUDGET, _by_budget),
    (Source.CLIENT, _by_client),
    (Source.PREDICTOR, _by_predictor),
    (Source.SATURATION, _by_saturation),
    (Source.DEFAULT, _by_default),
)
"""The published order: the first source that has an opinion decides."""

_BELOW_BUDGET = PRECEDENCE[2:]

ALL_MODES = frozenset(Mode)

HYSTERESIS = "hysteresis"
"""What a decision of the predictor gives as its reason that its threshold alone would have decided otherwise: the
field of the policy that moved it."""


def choose_mode(
    signals: Signals,
    *,
    probability: float | None,
    policy: ModePolicy,
    offered: frozenset[Mode] = ALL_MODES,
    spent: bool = False,
    degraded: bool = False,
    threshold: float | None = None,
    raised: float | None = None,
) -> ModeDecision:
    """
    The mode by the published precedence, and the one source that determined it.

    `signals` are the client's wishes in the order in which the request carries them; `probability` is the
    predictor's calibrated P(think) in [0, 1], or None where it could not judge; `policy` is what the policy says
    after its first rule that matches; `offered` are the modes the model has pools for, at least one; `spent` is
    whether the tenant's thinking budget is; `degraded` is whether so much money is spent that nothing shall think
    where the model can answer without; `threshold` holds in place of the policy's own where that follows from
    `cost_of_wrong_fast`; `raised` is what load has made of the threshold, and counts where it is higher.
    Raises `ConflictingModeSignals`, naming both fields, where two wishes contradict each other, whoever decides;
    `ModeNotOffered` where the client or a rule wants a mode that the model does not have, unless the policy
    substitutes; and `ThinkingBudgetSpent`. A model of one mode answers in it whatever the predictor and the
    default say, and says `default`.
    """
    if len(signals) > 1:
        first = signals[0]
        for signal in signals:
            if signal.mode is not first.mode:
                raise ConflictingModeSignals(first.field, first.mode, signal.field, signal.mode)
    if threshold is None:
        threshold = policy.threshold
    if raised is None or raised < threshold:
        raised = threshold
    # The first two are asked only where they can have something to say, which is seldom.
    told = _THINKING if spent else _MONEY if degraded else ""
    ranks = _BELOW_BUDGET if policy.required is None and not told else PRECEDENCE
    source, mode, detail = _first_of(ranks, (signals, probability, policy, threshold, raised, offered, told))
    overruled = bool(signals) and signals[0].mode is not mode
    return ModeDecision(mode, source, raised, probability, detail, overruled, None, policy.rule)


def _first_of(ranks: Sequence[tuple[Source, Callable[[Case], Opinion]]], case: Case) -> tuple[Source, Mode, str]:
    """What the first of `ranks` that has an opinion makes of `case`, in a mode that the model is served in."""
    for source, opinion in ranks:
        chosen = opinion(case)
        if chosen is not None:
            mode, detail = chosen
            _, _, policy, _, _, offered, _ = case
            if mode in offered:
                return source, mode, detail
            if source is not Source.CLIENT and source is not Source.POLICY:
                return Source.DEFAULT, mode.other, "the model has one mode"
            if policy.substitute:
                return Source.POLICY, mode.other, "substitute"
            raise ModeNotOffered(detail, mode, by_rule=source is Source.POLICY)
    raise AssertionError("the last source, default, always decides")


def threshold_by_cost(cost_of_wrong_fast: float, extra: float) -> float:
    """
    The threshold in [0, 1] at which thinking is worth its price.

    A query that needs thinking with probability P loses `P * cost_of_wrong_fast` US dollars on average where it is
    answered without, and costs `extra` US dollars more where it thinks; the cheaper of the two is to think where
    `P * cost_of_wrong_fast >= extra`, that is from `P = extra / cost_of_wrong_fast` on. (The decision of least
    expected cost: C. Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001.)
    """
    if extra <= 0.0:
        return 0.0
    return extra / cost_of_wrong_fast if extra < cost_of_wrong_fast else 1.0


def threshold_by_history(threshold: float, most: float, extra: float, history: float) -> float:
    """
    `threshold`, moved by what a conversation's history costs, by `most` at most, and within [0, 1].

    Thinking costs `extra` US dollars more than not thinking, the history aside, and is worth it from `threshold`
    on: a wrong answer without thinking thus costs `extra / threshold`. With the history thinking costs `extra +
    history`: above `extra` where the history is cached on the track that does not think, below it where on the one
    that does. The threshold moves in proportion; nothing moves where `extra` is not above 0.
    """
    if extra <= 0.0:
        return threshold
    moved = threshold * (extra + history) / extra
    return min(max(moved, threshold - most, 0.0), threshold + most, 1.0)


def threshold_by_load(threshold: float, highest: float, from_load: float, full_load: float, load: float) -> float:
    """
    What `load` (requests per place) makes of `threshold`: nothing up to `from_load`, `highest` from `full_load` on,
    and in between it rises evenly; never lower than it was.
    """
    if load <= from_load or highest <= threshold:
        return threshold
    if load >= full_load:
        return highest
    return threshold + (highest - threshold) * (load - from_load) / (full_load - from_load)


def thinking_allowance(max_tokens: int, budget: int) -> int:
    """
    Thinking tokens for a request of `max_tokens` output tokens under a `budget`, so that an answer still fits.

    The answer keeps a quarter of `max_tokens`, but at least 64 tokens, and never more than half.
    """
    reserve = min(max(max_tokens // 4, 64), max_tokens // 2)
    return min(budget, max_tokens - reserve)
