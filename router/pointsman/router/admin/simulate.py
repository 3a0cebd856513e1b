"""The admin API of what would have been: another threshold, tried on decisions that were made.

HTTP and nothing else: what is worked out is `simulation.py`. Reads decisions page by page, so that thousands of
them hold nobody up.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from pointsman.contracts.config_types import Name, Probability
from pointsman.contracts.decisions import Decision
from pointsman.contracts.keys import Role
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.live_policies import LivePolicies
from pointsman.router.admin.simulation import ENOUGH, Simulation, simulate, sweep
from pointsman.store.decisions import DecisionStore, Wanted

PAGE = 500
"""Decisions that are read at a time."""

MOST = 10_000
"""Decisions that are looked at, at most."""

THRESHOLDS = tuple(step / 100 for step in range(101))
"""What a sweep tries."""

CAVEATS = (
    "An estimate: the answers that would have been given were never given.",
    "Only decisions that are kept are looked at; at high load not all are.",
    "The other mode's cost takes the prompt as it was, no token of it cached, and the usual length of an answer.",
    f"Its time is the mean of this tenant's answers of the same model in that mode, from {ENOUGH} of them on.",
    "Pools that become fuller or emptier by the change, escalations and follow-up questions are left out.",
)


class Question(BaseModel):
    """What is tried."""

    model_config = ConfigDict(extra="forbid")

    tenant: Name = Field(description="Whose decisions.")
    threshold: Probability = Field(description="The threshold in place of the one that held.")
    decisions: Annotated[int, Field(strict=True, ge=1, le=MOST)] = Field(
        1000, description="The newest so many decisions are looked at."
    )


class Range(BaseModel):
    """What is tried with every threshold."""

    model_config = ConfigDict(extra="forbid")

    tenant: Name = Field(description="Whose decisions.")
    decisions: Annotated[int, Field(strict=True, ge=1, le=MOST)] = Field(
        1000, description="The newest so many decisions are looked at."
    )


class Share(BaseModel):
    """Requests that think, of all that were looked at."""

    actual: float | None
    simulated: float | None


class Money(BaseModel):
    """Nano-dollars of the decisions whose cost is known in both modes, together."""

    decisions: int
    actual: int
    simulated: int


class Time(BaseModel):
    """Mean seconds from a request's arrival to the end of its answer, where they are known in both modes."""

    decisions: int
    actual: float | None
    simulated: float | None


class Simulated(BaseModel):
    """What would have been."""

    tenant: str
    threshold: float
    present_threshold: float = Field(description="The policy's now; older decisions may have been made by another.")
    decisions: int
    since: datetime | None = Field(description="When the oldest of them was made; null: there are none.")
    until: datetime | None
    untouched: dict[str, int] = Field(
        description="Decisions that no threshold would have changed, by who decided: a source, `rule` for a rule "
        "with a threshold of its own, `candidate` for a new policy on trial."
    )
    predictors: dict[str, int] = Field(
        description="Decisions by the version of the predictor that judged: probabilities stay what they were."
    )
    to_think: int = Field(description="Decisions that would have been to think, and were not.")
    to_no_think: int
    think_share: Share
    cost: Money
    seconds: Time
    estimate: bool = True
    caveats: tuple[str, ...] = CAVEATS


class Course(BaseModel):
    """What one threshold would have done; the fields are those of one simulation."""

    threshold: float
    to_think: int
    to_no_think: int
    think_share: float | None
    cost: Money
    seconds: Time


class Swept(BaseModel):
    """What every threshold would have done."""

    tenant: str
    present_threshold: float = Field(description="The policy's now; older decisions may have been made by another.")
    decisions: int
    since: datetime | None = Field(description="When the oldest of them was made; null: there are none.")
    until: datetime | None
    untouched: dict[str, int] = Field(description="Decisions that no threshold would have changed, by who decided.")
    predictors: dict[str, int] = Field(
        description="Decisions by the version of the predictor that judged: probabilities stay what they were."
    )
    think_share: float | None = Field(description="Requests that did think, of all that were looked at.")
    histogram: tuple[int, ...] = Field(
        description="Decisions that a threshold can change, by probability, in parts of equal width from 0 to 1."
    )
    thresholds: tuple[Course, ...]
    estimate: bool = True
    caveats: tuple[str, ...] = CAVEATS


def simulate_routes(access: Access, store: DecisionStore, policies: LivePolicies) -> APIRouter:
    """`/admin/v1/policies/simulate` and `/admin/v1/policies/sweep`."""
    By = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    routes = APIRouter(tags=["policies"], responses={"default": {"description": "An error in OpenAI's form."}})

    @routes.post("/admin/v1/policies/simulate", summary="What another threshold would have done")
    def what_if(question: Question, by: By) -> Simulated:
        policy = policies.present(question.tenant).document.policy
        told = simulate(_newest(store, question.tenant, question.decisions), question.threshold, policy)
        count = told.decisions
        return Simulated(
            tenant=question.tenant,
            threshold=question.threshold,
            present_threshold=policy.threshold,
            decisions=count,
            since=_moment(told.oldest),
            until=_moment(told.newest),
            untouched=told.untouched,
            predictors=told.predictors,
            to_think=told.to_think,
            to_no_think=told.to_no_think,
            think_share=Share(
                actual=told.thinking / count if count else None,
                simulated=told.thinking_simulated / count if count else None,
            ),
            cost=_money(told),
            seconds=_time(told),
        )

    @routes.post("/admin/v1/policies/sweep", summary="What every threshold from 0 to 1 would have done")
    def sweep_all(asked: Range, by: By) -> Swept:
        policy = policies.present(asked.tenant).document.policy
        swept = sweep(_newest(store, asked.tenant, asked.decisions), THRESHOLDS, policy)
        first = swept.simulations[0]
        count = first.decisions
        return Swept(
            tenant=asked.tenant,
            present_threshold=policy.threshold,
            decisions=count,
            since=_moment(first.oldest),
            until=_moment(first.newest),
            untouched=first.untouched,
            predictors=first.predictors,
            think_share=first.thinking / count if count else None,
            histogram=swept.histogram,
            thresholds=tuple(
                Course(
                    threshold=threshold,
                    to_think=told.to_think,
                    to_no_think=told.to_no_think,
                    think_share=told.thinking_simulated / count if count else None,
                    cost=_money(told),
                    seconds=_time(told),
                )
                for threshold, told in zip(THRESHOLDS, swept.simulations, strict=True)
            ),
        )

    return routes


def _money(told: Simulation) -> Money:
    return Money(decisions=told.priced, actual=told.cost, simulated=told.cost_simulated)


def _time(told: Simulation) -> Time:
    return Time(decisions=told.timed, actual=told.seconds, simulated=told.seconds_simulated)


def _newest(store: DecisionStore, tenant: str, count: int) -> Iterator[Decision]:
    wanted = Wanted(tenant=tenant, limit=min(PAGE, count))
    while count > 0:
        page = store.page(wanted)
        yield from page.data[:count]
        count -= len(page.data)
        if page.after is None:
            return
        wanted = replace(wanted, after=page.after, limit=max(1, min(PAGE, count)))


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
