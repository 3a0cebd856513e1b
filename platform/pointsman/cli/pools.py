"""`pointsman pools`: what the pools do right now, as all routers together see them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pointsman.cli.admin_api import AdminApi, AdminError, Key, StateDir, Url
from pointsman.cli.columns import print_columns

REFUSED, WRONG_INPUT = 1, 2
"""Exit codes: the router refused, or was not to be reached; what was given can't be used."""

_HEADINGS = ("POOL", "MODEL", "MODES", "STATE", "REPLICAS", "RUNNING", "PLACES", "WAITING", "TOKENS TO DO")


def pools(
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Show each pool: its replicas, what runs there, and who waits."""
    try:
        answer = AdminApi(url, key, state_dir).ask("GET", "/admin/v1/pools").json()
    except AdminError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED if error.status else WRONG_INPUT) from None
    if as_json:
        typer.echo(json.dumps(answer))
        return
    rows = [_HEADINGS, *(_row(pool) for pool in answer["data"])]
    print_columns(rows)
    for part, words in answer["troubles"].items():
        typer.echo(f"Not everything is known: {part}: {words}", err=True)


def _row(pool: dict[str, Any]) -> tuple[str, ...]:
    ready = sum("ready" in replica["states"] for replica in pool["replicas"])
    return (
        pool["pool"],
        pool["model"],
        ",".join(pool["modes"]),
        pool["state"],
        f"{ready}/{len(pool['replicas'])}",
        str(pool["running"]),
        str(pool["places"]),
        str(pool["waiting"]),
        str(pool["running_tokens"] + pool["waiting_tokens"]),
    )
