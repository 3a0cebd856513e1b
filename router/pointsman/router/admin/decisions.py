"""The API of decisions: a tenant looks at its own and says what it thinks of them, reviewers at those left to them.

HTTP and nothing else: what is kept and found is `store/decisions.py`. Another tenant's decision looks like one that
never was.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from pointsman.contracts.decisions import ID_PATTERN, Correction, Decision, Page, Verdict
from pointsman.contracts.errors import DatabaseUnavailable, DecisionNotFound, InvalidRequest
from pointsman.contracts.keys import Role
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.names import Header
from pointsman.router.admin.access import Access, Actor, Caller
from pointsman.router.admin.bodies import PLAIN
from pointsman.router.admin.counters import AdminCounters
from pointsman.router.admin.live_policies import LivePolicies
from pointsman.store.audit import AuditLog
from pointsman.store.decisions import BadCursor, DecisionStore, Wanted

PATIENCE = 1.0
"""Seconds that a decision which is not there yet is waited for: it is written a moment after its answer."""

PAUSE = 0.1
"""Seconds between two looks."""

WAITING = 16
"""Lookups of one tenant that may wait so at a time; of further ones each is one look."""

AT_ONCE = 2
"""Searches of one tenant that may be under way at a time; further ones wait for these, and nobody else does."""

TURN = 10.0
"""Seconds for which a search waits until it is its turn."""

MOST = 200
"""Decisions on one page at most."""

Identity = Annotated[
    str, Path(alias="id", pattern=ID_PATTERN, description=f"As the answer's `{Header.DECISION_ID}`.")
]


class _Asked(BaseModel):
    """What a query may say; a misspelled filter must not silently be none."""

    model_config = ConfigDict(extra="forbid")


class PageAsked(_Asked):
    """Which page."""

    limit: int = Field(50, ge=1, le=MOST, description="How many at most.")
    after: str | None = Field(None, max_length=80, description="The `after` of the page before.")


class OfTenant(_Asked):
    """Whose."""

    tenant: str | None = Field(None, max_length=63, pattern=PLAIN, description="Of this tenant.")


class Since(_Asked):
    """From when."""

    since: datetime | None = Field(
        None, description="Not before this time (ISO 8601, or seconds since 1970); UTC where it says none."
    )


class Rows(Since):
    """Which labelled questions."""

    tenant: str | None = Field(None, max_length=63, pattern=PLAIN, description="Of this tenant alone.")


class Filter(PageAsked, Since):
    """Which decisions."""

    until: datetime | None = Field(None, description="Before this time.")
    mode: Mode | None = Field(None, description="Answered in this mode.")
    source: Source | None = Field(None, description="Decided by this source.")
    model: str | None = Field(None, max_length=128, pattern=PLAIN, description="Asked of this model.")
    escalated: bool | None = Field(None, description="Whether the answer was asked for once more with thinking.")

    def wanted(self, tenant: str | None) -> Wanted:
        """The same as the store takes it."""
        return Wanted(
            tenant=tenant,
            since=_seconds(self.since),
            until=_seconds(self.until),
            mode=self.mode,
            source=self.source,
            model=self.model,
            escalated=self.escalated,
            limit=self.limit,
            after=self.after,
        )


class FilterOfAll(Filter, OfTenant):
    """Which decisions, and whose."""


class Queue(PageAsked, OfTenant):
    """Which of those that wait."""


class NewlineJson(StreamingResponse):
    """JSON lines."""

    media_type = "application/x-ndjson"


def decision_routes(
    access: Access, store: DecisionStore, policies: LivePolicies, audit: AuditLog, counters: AdminCounters
) -> APIRouter:
    """The paths of decisions, reviews and training rows. Every error has the form of OpenAI's."""
    Asker = Annotated[Caller, Depends(access.caller)]
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    Reviewer = Annotated[Actor, Depends(access.needs(Role.OPERATOR))]
    routes = APIRouter(responses={"default": {"description": "An error in OpenAI's form."}})

    waiting: Counter[str | None] = Counter()
    searching: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def in_turn(asker: Asker) -> AsyncIterator[Caller]:
        """The one who asks, once few enough others of the same tenant are being answered."""
        turn = searching[asker.tenant.name]
        try:
            async with asyncio.timeout(TURN):
                await turn.acquire()
        except TimeoutError:
            raise DatabaseUnavailable("Too many queries of this tenant wait already.", retry_after=2) from None
        try:
            yield asker
        finally:
            turn.release()

    async def found(identity: str, tenant: str | None) -> Decision:
        """A decision, of `tenant` where it asks itself, in the form in which it may see it."""
        patience = PATIENCE if waiting[tenant] < WAITING else 0.0
        deadline = asyncio.get_running_loop().time() + patience
        waiting[tenant] += 1
        try:
            while True:
                decision = await run_in_threadpool(store.get, identity, tenant=tenant)
                if decision is not None:
                    return decision if tenant is None else _for_tenant(decision)
                if asyncio.get_running_loop().time() >= deadline:
                    raise _not_found()
                await asyncio.sleep(PAUSE)
        finally:
            waiting[tenant] -= 1

    @routes.get("/v1/decisions", tags=["decisions"], summary="Decisions of this key's tenant, newest first")
    def mine(asker: Annotated[Caller, Depends(in_turn)], asked: Annotated[Filter, Query()]) -> Page:
        page = _page(store, asked.wanted(asker.tenant.name))
        return page.model_copy(update={"data": tuple(map(_for_tenant, page.data))})

    @routes.get("/v1/decisions/{id}", tags=["decisions"], summary="Why a query took the track it took")
    async def one(identity: Identity, asker: Asker) -> Decision:
        return await found(identity, asker.tenant.name)

    @routes.post(
        "/v1/decisions/{id}/feedback",
        tags=["decisions"],
        summary="Say which mode would have been right",
        description="A key's later word on a decision replaces its earlier one.",
    )
    async def say(identity: Identity, correction: Correction, asker: Asker) -> Decision:
        decision = await found(identity, asker.tenant.name)
        said = await run_in_threadpool(store.say, identity, correction, tenant=asker.tenant.name, key=asker.key)
        if not said:
            raise _not_found()
        counters.judged(decision, "tenant", correction.should_think)
        return await found(identity, asker.tenant.name)

    @routes.get("/admin/v1/decisions", tags=["reviews"], summary="Decisions of all tenants, newest first")
    def every(by: Reader, asked: Annotated[FilterOfAll, Query()]) -> Page:
        return _page(store, asked.wanted(asked.tenant))

    @routes.get("/admin/v1/decisions/{id}", tags=["reviews"], summary="One decision of any tenant")
    async def any_one(identity: Identity, by: Reader) -> Decision:
        return await found(identity, None)

    @routes.get("/admin/v1/reviews", tags=["reviews"], summary="Doubtful decisions that wait for a reviewer")
    def queue(by: Reader, asked: Annotated[Queue, Query()]) -> Page:
        wanted = Wanted(tenant=asked.tenant, queued=True, reviewable=True, limit=asked.limit, after=asked.after)
        return _page(store, wanted)

    @routes.post("/admin/v1/reviews/{id}", tags=["reviews"], summary="Judge a decision, and pin a rule")
    def review(identity: Identity, verdict: Verdict, by: Reviewer) -> Decision:
        decision = store.get(identity)
        if decision is None:
            raise _not_found()
        if not decision.review:
            raise DecisionNotFound("Its tenant does not let reviewers judge it: see `decisions.review`.")
        pin = verdict.pin
        if pin is not None:
            policies.append_rule(decision.tenant, pin.rule(), by.name, f"pinned in the review of {identity}")
        store.review(identity, verdict, pinned=None if pin is None else pin.name)
        counters.judged(decision, "reviewer", verdict.should_think)
        audit.record(
            actor=by.name,
            action="decisions.review",
            object=f"decision:{identity}",
            after={"tenant": decision.tenant, "should_think": verdict.should_think},
        )
        judged = store.get(identity)
        if judged is None:
            raise _not_found()
        return judged

    @routes.get(
        "/admin/v1/training-rows",
        tags=["reviews"],
        summary="Labelled questions, as `pointsman train` reads them",
        description="JSON lines: questions of tenants that keep prompts and let reviewers see them, with a label "
        "from a review, from feedback, from an escalation or from the model's own judgement.",
        response_class=NewlineJson,
    )
    def training_rows(by: Reviewer, asked: Annotated[Rows, Query()]) -> Response:
        return NewlineJson(_lines(store, asked.tenant, _seconds(asked.since)))

    return routes


def _page(store: DecisionStore, wanted: Wanted) -> Page:
    try:
        return store.page(wanted)
    except BadCursor:
        raise InvalidRequest(
            "'after' must be what an earlier page gave as `after`.", param="after", code="invalid_value"
        ) from None


def _for_tenant(decision: Decision) -> Decision:
    """`decision` as its tenant may see it: without what it cost, where the policy hides that."""
    if decision.cost_shown:
        return decision
    return decision.model_copy(update={"cost": None, "other_mode_cost_estimated": None})


def _lines(store: DecisionStore, tenant: str | None, since: float | None) -> Iterator[bytes]:
    for row in store.training_rows(tenant=tenant, since=since):
        yield row.model_dump_json().encode() + b"\n"


def _seconds(time: datetime | None) -> float | None:
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _not_found() -> DecisionNotFound:
    return DecisionNotFound("There is no such decision, or it is not this key's to see, or its time is up.")
