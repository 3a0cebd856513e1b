"""The admin API of the ledger's entries: read them one by one, put one right, charge what no request was.

HTTP and nothing else: entries are `store/ledger.py`, what is booked by hand `bookings.py`.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from pointsman.contracts.errors import EntryNotFound
from pointsman.contracts.keys import Role
from pointsman.contracts.ledger import Entry
from pointsman.contracts.pricing import dollars
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.bodies import read_body
from pointsman.router.admin.bookings import Bookings, Charge, Correction
from pointsman.router.admin.report_query import Only, Since, Until, moment, period
from pointsman.store.ledger import LedgerStore
from pointsman.store.ledger_tables import CLASSES

MAX_ENTRIES = 1_000
"""Entries in one answer at most."""


class EntryList(BaseModel):
    """Entries of the ledger, oldest first."""

    data: list[dict[str, Any]]
    next_after: int | None = Field(description="What to give as `after` for the next ones; null: there are none.")


def entry_routes(access: Access, entries: LedgerStore, bookings: Bookings) -> APIRouter:
    """The paths below `/admin/v1/usage`. Every error has the form of OpenAI's."""
    routes = APIRouter(
        prefix="/admin/v1/usage",
        tags=["usage"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    Owner = Annotated[Actor, Depends(access.needs(Role.OWNER))]

    @routes.get("/entries", summary="Single entries of the ledger, oldest first")
    def ledger_entries(
        reader: Reader,
        since: Since = "30d",
        until: Until = None,
        tenant: Only = None,
        after: Annotated[int, Query(ge=0, le=2**62, description="Only those behind this one.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = 200,
    ) -> EntryList:
        first, last = period(since, until)
        found = entries.entries(since=first, until=last, tenant=tenant, after=after, limit=limit)
        return EntryList(
            data=[shown_entry(number, entry) for number, entry in found],
            next_after=found[-1][0] if len(found) == limit else None,
        )

    @routes.get("/entries/{entry}", summary="One entry of the ledger, with what was put right of it")
    def ledger_entry(entry: str, reader: Reader) -> dict[str, Any]:
        found = entries.entry(entry)
        if found is None:
            raise EntryNotFound("The ledger has no entry of this id.")
        corrections = [shown_entry(None, correction) for correction in entries.corrections_of(entry)]
        return {**shown_entry(None, found), "corrections": corrections}

    @routes.post(
        "/corrections",
        status_code=201,
        summary="Put an entry right by another one",
        openapi_extra=_body_of(Correction),
    )
    async def correct(by: Owner, request: Request) -> dict[str, Any]:
        return shown_entry(None, await run_in_threadpool(bookings.correct, await read_body(request), by.name))

    @routes.post(
        "/charges",
        status_code=201,
        summary="Charge the use of a hosted context cache",
        openapi_extra=_body_of(Charge),
    )
    async def charge(by: Owner, request: Request) -> dict[str, Any]:
        return shown_entry(None, await run_in_threadpool(bookings.charge, await read_body(request), by.name))

    return routes


def _body_of(model: type[BaseModel]) -> dict[str, Any]:
    """How OpenAPI tells a body that is read by hand; without references, which nothing there would resolve."""
    schema = model.model_json_schema()
    for name, definition in schema.pop("$defs", {}).items():
        for field, described in schema["properties"].items():
            if {"$ref": f"#/$defs/{name}"} in described.get("anyOf", []):
                schema["properties"][field] = {**described, "anyOf": [definition, {"type": "null"}]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def shown_entry(number: int | None, entry: Entry) -> dict[str, Any]:
    """An entry as the API tells it; `number` is its place in the ledger."""
    shown: dict[str, Any] = {
        "id": entry.id,
        "kind": entry.kind,
        "at": moment(entry.at).isoformat(),
        "ended_at": moment(entry.ended_at).isoformat(),
        "tenant": entry.tenant,
        "key": entry.key,
        "request_id": entry.request_id,
        "model": entry.model,
        "mode": entry.mode,
        "status": entry.status,
        "outcome": entry.outcome,
        "stream": entry.stream,
        "cache": entry.cache,
        "cost": entry.total,
        "cost_usd": dollars(entry.total),
        "corrects": entry.corrects,
        "comment": entry.comment,
        "parts": [
            {
                "pool": part.pool,
                "mode": part.mode,
                "price_version": part.price_version,
                "estimated": part.usage.estimated,
                "usage": {name: getattr(part.usage, name) for name in CLASSES},
                "cost": {name: getattr(part.cost, name) for name in CLASSES},
            }
            for part in entry.parts
        ],
    }
    return shown if number is None else {"number": number, **shown}
