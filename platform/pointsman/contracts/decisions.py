"""The record of one decision: which track a query took, who chose it, what spoke for it, and how it ended.

Stands in the contracts because the data plane writes it, the store keeps it, the API and the command line show it.
Nothing in it says what was asked, unless the tenant opted in: then `question.text` and the words among `evidence`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pointsman.contracts.config_types import Name
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.policies import Match, Rule, Stage, Trigger

ID_PREFIX = "dec-"
"""What the id of a decision begins with; the engine's id of the request follows."""

NEAR = 0.05
"""Distance from the threshold below which a probability counts as doubtful."""

LONGEST_COMMENT = 2000
"""Characters of a comment at most."""

ID_PATTERN = r"^dec-[0-9a-f]{32}$"


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Doubt(StrEnum):
    """Why a decision is worth a person's look."""

    NEAR_THRESHOLD = "near_threshold"
    """The probability lies within `NEAR` of the threshold, and the predictor decided by it."""
    JUDGEMENT = "judgement"
    """The model itself judged the other mode right."""
    ESCALATED = "escalated"
    """The answer was asked for once more with thinking."""
    FEEDBACK = "feedback"
    """The tenant has said which mode would have been right."""


class Evidence(_Shown):
    """One thing that the predictor saw."""

    feature: str
    """What it is: a heading, a count, a kind of words, or where the tenant keeps prompts the words themselves."""
    contribution: float
    """Its share of the log-odds of thinking: above 0 towards think, below towards no_think."""


class Wish(_Shown):
    """One wish for a mode that the client expressed."""

    field: str
    """The field or header it came in."""
    mode: Mode


class Question(_Shown):
    """What is known of the question without what it says."""

    characters: int
    """Its length."""
    sha256: str
    """A hash of it, salted with a secret and the tenant's name: equal questions of a tenant have equal hashes."""
    language: str | None = None
    """ISO 639 code of its language, where that is clear; only where the tenant keeps prompts."""
    text: str | None = None
    """The question, of a long one its two ends; only where the tenant keeps prompts."""


class Tokens(_Shown):
    """Tokens by what they are billed as, over all engines that worked on the request."""

    input: int
    cached_input: int
    reasoning: int
    answer: int
    estimated: bool = False
    """Whether the engine's own count never arrived."""


class DecisionRecord(_Shown):
    """One decision, as it was made and as the request ended. Amounts are nano-dollars, times seconds."""

    id: str
    """`dec-` and 32 hexadecimal digits."""
    request_id: str
    """The request's `x-request-id`."""
    at: float
    """When the request came: seconds since 1970, UTC."""
    tenant: str
    key: str
    """The first eight hexadecimal digits of the digest of the key that was used."""
    model: str
    endpoint: str
    """The path that was asked."""
    mode: Mode
    """The mode it was answered in in the end."""
    source: Source
    detail: str
    """The rule or the client's field that asked, or a word on why the source decided so."""
    rule: str = ""
    """The rule of the policy that matched, even where it only changed the threshold or the default."""
    probability: float | None
    """The predictor's P(think); null where it could not judge."""
    threshold: float
    """What the probability was compared with."""
    overruled: bool = False
    """Whether the client had asked for the other mode."""
    wishes: tuple[Wish, ...] = ()
    """What the client asked for."""
    policy_version: str = "0"
    """Version of the policy by which it was decided; 0 is the configuration's own."""
    arm: Literal["present", "candidate"] = "present"
    """Whether the tenant's present policy held or the one that is to replace it."""
    stage: Stage | None = None
    """How far the candidate has gone live; null where there is none."""
    shadow: Mode | None = None
    """What the other one of the two policies would have decided."""
    predictor: str
    """Version of the predictor's weights."""
    pool: str | None = None
    """The pool that answered, or that was to."""
    status: int
    """HTTP status; 499 stands for a client that went away."""
    error: str | None = None
    """The code of the error, where it ended in one."""
    escalated: Trigger | None = None
    """Why the answer was asked for once more with thinking."""
    floored: bool = False
    """Whether thinking was closed so that an answer still fitted."""
    stopped: str = ""
    """Why the output was stopped."""
    clamped: dict[str, int] | None = None
    """What the client asked for beyond a ceiling, with what it got."""
    judgement: Mode | None = None
    """The mode that the model itself judged right."""
    usage: Tokens | None = None
    """Null where no engine has counted anything."""
    cost: int | None = None
    """What it cost."""
    other_mode_cost_estimated: int | None = None
    """What the other mode would have cost: this request's input and the output that is usual there, at the prices
    of the other mode's first pool. An estimate; null where nothing is known of that mode yet."""
    cost_shown: bool = True
    """Whether the policy lets the tenant see what its answers cost."""
    first_byte: float | None = None
    """From the request's arrival to the first byte of its stream."""
    duration: float
    """From the request's arrival to the end of its answer."""
    question: Question | None = None
    """Null where there was no text to judge."""
    evidence: tuple[Evidence, ...] = ()
    """What the predictor saw, strongest first; it adds up to the log-odds of `probability`."""
    review: bool = False
    """Whether the tenant lets reviewers see it."""
    kept: Annotated[bool, Field(exclude=True)] = True
    """Whether the tenant keeps decisions; of others there are records only while a new policy is on trial."""

    @property
    def by_candidate(self) -> bool:
        """Whether the candidate was the policy that held."""
        return self.arm == "candidate"

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Why the decision itself is doubtful; what people say of it comes on top."""
        found = []
        if self.probability is not None and abs(self.probability - self.threshold) < NEAR and self.by_predictor:
            found.append(Doubt.NEAR_THRESHOLD)
        if self.judgement is not None and self.judgement is not self.decided:
            found.append(Doubt.JUDGEMENT)
        if self.escalated is not None:
            found.append(Doubt.ESCALATED)
        return tuple(found)

    @property
    def decided(self) -> Mode:
        """The mode that was decided, before an escalation made it think."""
        return self.mode if self.escalated is None else Mode.NO_THINK

    @property
    def by_predictor(self) -> bool:
        """Whether the probability decided: nobody of a higher rank, and no abstention."""
        return self.source in (Source.PREDICTOR, Source.SATURATION)


Comment = Annotated[str, Field(max_length=LONGEST_COMMENT, pattern=r"^[^\x00]*$")]


class Correction(_Shown):
    """Which mode would have been right, in the words of whoever says so."""

    model_config = ConfigDict(extra="forbid")

    should_think: Annotated[bool, Field(strict=True)]
    """Whether thinking would have been right."""
    comment: Comment | None = None
    """Why, in words; kept with the decision and as long."""


class Pin(_Shown):
    """A rule that is to be put before all others of the tenant's policy."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    """The rule's name; one of the same name is replaced."""
    match: Match = Match()
    """The requests it applies to."""
    mode: Mode
    """The mode of these requests."""

    def rule(self) -> Rule:
        """The rule as a policy holds it."""
        return Rule(name=self.name, match=self.match, mode=self.mode)


class Verdict(Correction):
    """What a reviewer says of a decision."""

    pin: Pin | None = None
    """A rule for requests like this one. Default: none."""


class Feedback(_Shown):
    """What a tenant has said of a decision."""

    key: str
    """The first eight hexadecimal digits of the digest of the key that was used."""
    at: float
    """Seconds since 1970, UTC."""
    should_think: bool
    comment: str | None = None


class Review(_Shown):
    """What a reviewer has said of a decision."""

    at: float
    """Seconds since 1970, UTC."""
    should_think: bool
    comment: str | None = None
    pinned: str | None = None
    """The rule that was pinned."""


class Decision(DecisionRecord):
    """A decision with what people have said of it."""

    feedback: tuple[Feedback, ...] = ()
    reviewed: Review | None = None
    doubtful: tuple[Doubt, ...] = ()
    """Why it is worth a person's look."""


class Page(_Shown):
    """Decisions, newest first."""

    data: tuple[Decision, ...]
    after: str | None = None
    """Where there are more: what to give as `after` to get them."""


class TrainingRow(_Shown):
    """One labelled query, as `pointsman train` reads it."""

    text: str
    label: Literal[0, 1]
    """1: should think."""
    source: str
    """Where the label came from, and whose query it is: `decisions/TENANT`."""
    weight: float
    """How sure the label is."""
    tier: str
    """Who set the label: `review`, `feedback`, `escalated` or `judgement`."""
