"""The policy of a tenant: how its modes are chosen, what its answers may cost, and how a new policy goes live.

One schema for the configuration file, the admin API and the store. What the fields mean for one request is worked
out elsewhere: here are the document and the rules between its fields.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from pointsman.contracts.config_types import (
    BrokenRules,
    Digest,
    Dollars,
    Flag,
    Language,
    Location,
    ModelName,
    Name,
    PredictorVersion,
    Probability,
    Seconds,
    Strict,
    Text,
    Tokens,
)
from pointsman.contracts.modes import Mode

MAX_RULES = 200


class Match(Strict):
    """What a rule applies to: everything that is given must hold; a list holds where any of its entries does."""

    models: tuple[ModelName, ...] = ()
    """Models asked for. Default: any."""
    endpoints: tuple[Text, ...] = ()
    """Paths, such as `/v1/chat/completions`. Default: any."""
    keys: tuple[Digest, ...] = ()
    """SHA-256 (hexadecimal) of the keys used. Default: any."""
    tools: Flag | None = None
    """Whether the request offers tools. Default: either."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Fields of the request's `metadata`, with the values they must have. Default: none."""
    languages: tuple[Language, ...] = ()
    """Languages of the question, as ISO 639 codes. Default: any."""


class Rule(Strict):
    """One rule of a policy; of the rules that match a request, the first alone counts."""

    name: Name
    """Unique within the policy; seen in decisions."""
    match: Match = Match()
    """The requests it applies to. Default: all."""
    mode: Mode | None = None
    """The mode of these requests, whatever the client asks for. Default: the rule decides nothing by itself."""
    threshold: Probability | None = None
    """The threshold for these requests. Default: the policy's."""
    default_mode: Mode | None = None
    """The default mode for these requests. Default: the policy's."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.mode is None and self.threshold is None and self.default_mode is None:
            raise BrokenRules([(("mode",), "say what the rule does: `mode`, `threshold` or `default_mode`")])
        if self.mode is not None and (self.threshold is not None or self.default_mode is not None):
            raise BrokenRules(
                [(("mode",), "leaves nothing to `threshold` or `default_mode`: say one or the other")]
            )
        return self


class Saturation(Strict):
    """How far load on the think pools may raise the threshold."""

    highest_threshold: Probability
    """The threshold at full load; in between it rises evenly. Never below the policy's own."""
    from_load: Annotated[float, Field(strict=True, ge=0, le=10)] = 0.8
    """Load at which the threshold begins to rise: requests running and waiting, per place. Default: 0.8."""
    full_load: Annotated[float, Field(strict=True, gt=0, le=100)] = 1.5
    """Load at which `highest_threshold` holds. Default: 1.5."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.from_load >= self.full_load:
            raise BrokenRules([(("from_load",), "must be below `full_load`")])
        return self


class WhenSpent(StrEnum):
    """What happens to requests that would think once the thinking budget is spent."""

    REFUSE = "refuse"
    """They are refused with 429."""
    DEGRADE = "degrade"
    """They are answered without thinking, and say so."""


class WhenUnavailable(StrEnum):
    """What happens to requests whose mode no replica could answer in time."""

    REFUSE = "refuse"
    """They are refused with 503."""
    SUBSTITUTE = "substitute"
    """They are answered in the other mode, where that has a replica, and say so; never over a rule or a budget."""


class Trigger(StrEnum):
    """What makes a no_think answer worth a second try with thinking."""

    EMPTY = "empty"
    """The answer has no text and no tool call."""
    TOOL_CALL = "tool_call"
    """A tool call does not parse, or was cut."""
    SCHEMA = "schema"
    """The answer breaks the JSON schema that the request asked for."""
    JUDGE = "judge"
    """The model itself judged that it should think (KAT)."""
    CONFIDENCE = "confidence"
    """The mean log-probability of the answer's tokens is below `min_mean_logprob`."""


class Escalation(Strict):
    """When an answer without thinking is thrown away and asked for once more with thinking."""

    triggers: tuple[Trigger, ...] = (Trigger.EMPTY, Trigger.TOOL_CALL, Trigger.SCHEMA, Trigger.JUDGE)
    """What escalates. Empty: nothing does. Default: all but `confidence`."""
    min_mean_logprob: Annotated[float, Field(strict=True, le=0, ge=-100)] | None = None
    """Mean log-probability (nats a token) below which `confidence` escalates. Default: none."""
    buffered: Flag = False
    """Hold streams back until the whole answer is known to stand. Default: no; then only what is known before a
    stream's first content escalates it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (Trigger.CONFIDENCE in self.triggers) != (self.min_mean_logprob is not None):
            raise BrokenRules([(("min_mean_logprob",), "goes with the trigger `confidence`: give both or neither")])
        return self


class OutputLimits(Strict):
    """Output tokens per request at most, thinking included; what a client asks beyond is cut, and it is told."""

    think: Tokens | None = None
    """In mode `think`. Default: none."""
    no_think: Tokens | None = None
    """In mode `no_think`. Default: none."""


class Policy(Strict):
    """How the modes of a tenant's queries are chosen, and what its answers may cost."""

    threshold: Probability = 0.5
    """Queries whose probability of needing to think is at or above this think. Default: 0.5."""
    predictor: PredictorVersion | None = None
    """Version of the predictor that judges the queries; `pointsman predictors put` brings it in. Where a router
    does not have it, the platform's own judges in its place. Default: the platform's own."""
    cost_of_wrong_fast: Dollars | None = None
    """US dollars that a wrong answer without thinking costs. Given, the threshold follows from it and from what
    thinking usually costs more for this tenant and model; `threshold` holds until that is known. Default: none."""
    abstain: tuple[Probability, Probability] | None = None
    """Band [low, high) of probability inside which the predictor abstains. Default: none."""
    default_mode: Mode = Mode.THINK
    """The mode where the predictor abstains or cannot judge. Default: think."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=MAX_RULES)] = ()
    """Rules that rank above the client's wish, or change threshold and default. Default: none."""
    wish_in_prompt: Flag = True
    """Whether `/think` or `/no_think` as the last word of the last user message is a wish of the client's (and is
    taken out). Default: yes."""
    model_decides: Flag = False
    """Let a model that judges by itself (family `kat`) do so where nobody but the predictor or the default would
    decide; the router still chooses the pool. Default: no."""
    substitute: Flag = False
    """Answer in the other mode where the client asks for one that the model is not served in, instead of refusing.
    Default: no."""
    on_unavailable: WhenUnavailable = WhenUnavailable.REFUSE
    """What happens where no replica of the mode could take a request within its pool's `place_timeout`, or
    `wake_timeout`. Default: `refuse`."""
    saturation: Saturation | None = None
    """How far load may raise the threshold. Default: not at all."""
    hysteresis: Probability | None = None
    """How far the threshold may move, either way, so that a conversation stays on its track. It moves by what the
    history costs more on the other one, where its beginning is not cached. Default: not at all."""
    thinking_budget: Tokens | None = None
    """Thinking tokens per request at most. Default: the pool's."""
    daily_thinking_tokens: Tokens | None = None
    """Thinking tokens of all requests of one UTC day. Default: no limit."""
    on_thinking_budget_spent: WhenSpent = WhenSpent.DEGRADE
    """What happens once `daily_thinking_tokens` are spent. Default: `degrade`."""
    max_output: OutputLimits = OutputLimits()
    """Output tokens per request at most, by mode."""
    escalation: Escalation = Escalation()
    """When an answer without thinking is asked for once more with thinking."""
    show_cost: Flag = True
    """Whether answers tell what they cost. Default: yes."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems: list[tuple[Location, str]] = []
        if self.abstain and self.abstain[0] > self.abstain[1]:
            problems.append((("abstain",), "must be two probabilities, the lower one first"))
        if self.saturation and self.saturation.highest_threshold < self.threshold:
            problems.append((("saturation", "highest_threshold"), "must not be below `threshold`"))
        first: dict[str, int] = {}
        for position, rule in enumerate(self.rules):
            if first.setdefault(rule.name, position) != position:
                problems.append((("rules", position, "name"), f"is already the name of rules[{first[rule.name]}]"))
        if problems:
            raise BrokenRules(problems)
        return self


class Stage(StrEnum):
    """How far a new policy has gone live."""

    OBSERVE = "observe"
    """It decides and is recorded; the present policy is what happens."""
    CANARY = "canary"
    """It holds for a share of the conversations, always the same ones."""
    ENFORCE = "enforce"
    """It holds for all."""


class StageLimits(Strict):
    """What sends a new policy back to the stage before: any of these exceeded."""

    escalations: Probability = 0.1
    """Share of its requests that are escalated. Default: 0.1."""
    errors: Probability = 0.05
    """Share of its requests that end with a server error. Default: 0.05."""
    disagreement: Probability = 0.5
    """Share of its requests in which the present policy would have chosen the other mode. Default: 0.5."""
    window: Seconds = 300.0
    """Seconds that are looked at. Default: 300."""
    at_least: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 50
    """Requests in that time below which nothing is concluded. Default: 50."""


class Candidate(Strict):
    """A new policy on its way to replace the present one."""

    policy: Policy
    """The new policy."""
    stage: Stage = Stage.OBSERVE
    """How far it has gone live. Default: `observe`."""
    share: Probability = 0.05
    """Share of the conversations it holds for in stage `canary`. Default: 0.05."""
    limits: StageLimits = StageLimits()
    """What sends it back."""


class PolicyDocument(Strict):
    """All that is said of one tenant's policy: the present one, and the next one where there is one."""

    policy: Policy = Policy()
    """How the mode of this tenant's queries is chosen."""
    candidate: Candidate | None = None
    """A new policy on its way to replace `policy`. Default: none."""
