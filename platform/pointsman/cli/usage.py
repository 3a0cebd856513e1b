"""`pointsman usage`: tokens by class, single entries of the ledger, what is put right or charged by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Literal

import typer

from pointsman.cli.admin_api import AdminApi, Key, StateDir, Url, refuse, told
from pointsman.cli.reports.query import By, Mode, Model, Output, Pool, Since, Tenant, Until, opened
from pointsman.cli.reports.show import show

app = typer.Typer(
    help="What was used: reports by token class, single entries, corrections and charges.", no_args_is_help=True
)

PATH = "/admin/v1/usage"

COLUMNS = {
    "requests": "REQUESTS",
    "input": "INPUT",
    "cached_input": "CACHED",
    "reasoning": "REASONING",
    "answer": "ANSWER",
    "cost_usd": "US DOLLARS",
}
CLASSES = ("input", "cached_input", "reasoning", "answer", "cache_creation", "cache_storage", "cache_call")

AT_ONCE = 1000
"""Entries that are asked for at a time."""

Class = Annotated[str | None, typer.Option(show_default=False, help="US dollars to add; below 0 to give back.")]


@app.command()
def report(
    by: By = "tenant,mode",
    since: Since = "30d",
    until: Until = None,
    tenant: Tenant = None,
    model: Model = None,
    mode: Mode = None,
    pool: Pool = None,
    format: Annotated[
        Literal["table", "json", "csv", "parquet"], typer.Option("--format", "-f", help="How to show it.")
    ] = "table",
    output: Output = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Tokens by class and what they cost. Periods are whole hours in UTC."""
    params = {
        "by": by,
        "since": since,
        "until": until,
        "tenant": tenant,
        "model": model,
        "mode": mode,
        "pool": pool,
    }
    with told():
        show(AdminApi(url, key, state_dir), PATH, params, COLUMNS, format, output)


@app.command()
def export(
    since: Since = "30d",
    until: Until = None,
    tenant: Tenant = None,
    format: Annotated[Literal["csv", "parquet"], typer.Option("--format", "-f", help="The file's format.")] = "csv",
    output: Output = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """
    Every single entry of the ledger, a row for each part of the work; the costs of all rows add up to the bill.

    Corrections and charges are entries like all others; a correction names the entry that it puts right.
    """
    from pointsman.cli.reports.parquet import write_parquet
    from pointsman.cli.reports.shapes import ENTRY_FIELDS, flat_entries, schema_of

    if format == "parquet" and output is None:
        raise refuse("--format parquet needs a file: name it with --output.")
    with told():
        api = AdminApi(url, key, state_dir)
        params = {"since": since, "until": until, "tenant": tenant, "limit": AT_ONCE}
        rows = (row for entry in _entries(api, params) for row in flat_entries(entry))
        first = next(rows, None)
        if first is None:
            raise refuse("The ledger has no entries of that time.")
        every = chain((first,), rows)
        with opened(output) as file:
            if format == "parquet":
                count = write_parquet(file, every, schema_of(first))
            else:
                text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
                writer = csv.DictWriter(text, ENTRY_FIELDS)
                writer.writeheader()
                count = 0
                for row in every:
                    writer.writerow({**row, "at": row["at"].isoformat(), "ended_at": row["ended_at"].isoformat()})
                    count += 1
                text.detach()
    if output is not None:
        typer.echo(f"{output}: {count:,} rows")


def _entries(api: AdminApi, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    after: int | None = 0
    while after is not None:
        page = api.ask("GET", f"{PATH}/entries", params={**params, "after": after}).json()
        yield from page["data"]
        after = page["next_after"]


@app.command()
def correct(
    entry: Annotated[str, typer.Argument(metavar="ENTRY", help="Id of the entry.", show_default=False)],
    comment: Annotated[str, typer.Option(help="Why; kept with it.", show_default=False)],
    void: Annotated[bool, typer.Option("--void", help="Take back all of it, tokens too.")] = False,
    input: Class = None,
    cached_input: Class = None,
    reasoning: Class = None,
    answer: Class = None,
    cache_creation: Class = None,
    cache_storage: Class = None,
    cache_call: Class = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Put an entry right by adding another one, in the present period: nothing that was billed is changed."""
    given = (input, cached_input, reasoning, answer, cache_creation, cache_storage, cache_call)
    cost = {name: amount for name, amount in zip(CLASSES, given, strict=True) if amount is not None}
    body = {
        "entry": entry,
        "comment": comment,
        **({"void": True} if void else {}),
        **({"cost": cost} if cost else {}),
    }
    with told():
        answered = AdminApi(url, key, state_dir).ask("POST", f"{PATH}/corrections", json=body).json()
    typer.echo(f"{answered['id']}: {answered['cost_usd']} US dollars to {answered['tenant']}")


@app.command()
def charge(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Who pays.", show_default=False)],
    pool: Annotated[str, typer.Argument(metavar="POOL", help="The pool whose prices hold.", show_default=False)],
    id: Annotated[str, typer.Option(help="A name of your own: the same is charged once.", show_default=False)],
    cache_creation: Annotated[int, typer.Option(min=0, help="Tokens put into a context cache.")] = 0,
    cache_storage: Annotated[int, typer.Option(min=0, help="Token-minutes that were kept.")] = 0,
    cache_call: Annotated[int, typer.Option(min=0, help="Calls that used it.")] = 0,
    at: Annotated[str | None, typer.Option(help="When. Default: now.", show_default=False)] = None,
    comment: Annotated[str, typer.Option(help="Kept with it.", show_default=False)] = "",
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Charge TENANT for a context cache that a hosted model keeps, at the prices of POOL at that time."""
    body = {
        "id": id,
        "tenant": tenant,
        "pool": pool,
        "cache_creation": cache_creation,
        "cache_storage": cache_storage,
        "cache_call": cache_call,
        "comment": comment,
        **({} if at is None else {"at": at}),
    }
    with told():
        answered = AdminApi(url, key, state_dir).ask("POST", f"{PATH}/charges", json=body).json()
    typer.echo(f"{answered['id']}: {answered['cost_usd']} US dollars to {answered['tenant']}")


@app.command("entry")
def show_entry(
    entry: Annotated[str, typer.Argument(metavar="ENTRY", help="Id of the entry.", show_default=False)],
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """One entry of the ledger, and what was put right of it, as JSON."""
    with told():
        typer.echo(json.dumps(AdminApi(url, key, state_dir).ask("GET", f"{PATH}/entries/{entry}").json(), indent=2))
