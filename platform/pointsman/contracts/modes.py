"""The mode contract: what a mode is, who may choose it, and in which order the choosers rank.

Stands in the contracts because the router decides by it, the documentation prints it and the tests read it:
all three from the one table below. Pure: no socket, no clock, no configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pointsman.contracts.errors import ConflictingModeSignals, ModeNotOffered


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
    How a mode is chosen where the client expressed no wish.

    `threshold`: at or above this P(think) in [0, 1] the query thinks.
    `abstain_below`, `abstain_above`: the half-open band [below, above) of P(think) inside which the
    predictor abstains and `default` decides; an empty band (below == above) never abstains.
    """

    threshold: float = 0.5
    abstain_below: float = 0.0
    abstain_above: float = 0.0
    default: Mode = Mode.THINK


class ModeDecision(NamedTuple):
    """The mode of one request, the one source that determined it, and what that source looked at."""

    mode: Mode
    source: Source
    threshold: float
    probability: float | None
    detail: str
    """The client field that asked, the rule, or a word on why the default decided."""
    overruled: bool = False
    """Whether the client had asked for the other mode."""
    shadow: Mode | None = None
    """What the other one of two policies would have decided, where there are two."""


Signals = tuple[ClientSignal, ...]


def _by_client(signals: Signals, probability: float | None, policy: ModePolicy) -> tuple[Mode, str] | None:
    if not signals:
        return None
    first = signals[0]
    for signal in signals[1:]:
        if signal.mode is not first.mode:
            raise ConflictingModeSignals(first.field, first.mode, signal.field, signal.mode)
    return first.mode, first.field


def _by_predictor(signals: Signals, probability: float | None, policy: ModePolicy) -> tuple[Mode, str] | None:
    if probability is None or policy.abstain_below <= probability < policy.abstain_above:
        return None
    return (Mode.THINK if probability >= policy.threshold else Mode.NO_THINK), "threshold"


def _by_default(signals: Signals, probability: float | None, policy: ModePolicy) -> tuple[Mode, str]:
    return policy.default, "no prediction" if probability is None else "abstained"


PRECEDENCE = (
    (Source.CLIENT, _by_client),
    (Source.PREDICTOR, _by_predictor),
    (Source.DEFAULT, _by_default),
)
"""The published order: the first source that has an opinion decides."""


ALL_MODES = frozenset(Mode)


def choose_mode(
    signals: Signals,
    *,
    probability: float | None,
    policy: ModePolicy,
    offered: frozenset[Mode] = ALL_MODES,
) -> ModeDecision:
    """
    The mode by the published precedence, and the one source that determined it.

    `signals` are the client's wishes in the order in which the request carries them; `probability` is the
    predictor's calibrated P(think) in [0, 1], or None where it could not judge; `offered` are the modes the
    model has pools for, at least one.
    Raises `ConflictingModeSignals`, naming both fields, where two wishes contradict each other, and
    `ModeNotOffered` where the client asks for a mode the model does not have. A model of one mode answers in
    it whatever the predictor thinks, and says `default`.
    """
    for source, opinion in PRECEDENCE:
        if chosen := opinion(signals, probability, policy):
            mode, detail = chosen
            if mode not in offered:
                if source is Source.CLIENT:
                    raise ModeNotOffered(detail, mode)
                (mode,) = offered
                source, detail = Source.DEFAULT, "the model has one mode"
            return ModeDecision(mode, source, policy.threshold, probability, detail)
    raise AssertionError("the last source, default, always decides")


def thinking_allowance(max_tokens: int, budget: int) -> int:
    """
    Thinking tokens for a request of `max_tokens` output tokens under a `budget`, so that an answer still fits.

    The answer keeps a quarter of `max_tokens`, but at least 64 tokens, and never more than half.
    """
    reserve = min(max(max_tokens // 4, 64), max_tokens // 2)
    return min(budget, max_tokens - reserve)
