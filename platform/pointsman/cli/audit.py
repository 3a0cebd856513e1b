"""`pointsman audit`: who changed what through the admin API."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pointsman.cli.admin_api import AdminApi, Key, StateDir, Url, told
from pointsman.cli.columns import moment, print_columns

PATH = "/admin/v1/audit"

PAGE = 1000
"""Rows that are asked for at a time."""


def audit(
    thing: Annotated[
        str | None,
        typer.Argument(metavar="[OBJECT]", help="Of this alone, such as tenant:acme.", show_default=False),
    ] = None,
    actor: Annotated[str | None, typer.Option(help="By this one alone.", show_default=False)] = None,
    action: Annotated[str | None, typer.Option(help="This alone, such as keys.revoke.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option(help="Not before this moment (ISO 8601).", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before this moment.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 50,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, with what there was before and after.")
    ] = False,
) -> None:
    """Who changed what, newest first."""
    rows = [("WHEN", "WHO", "DID", "TO")]
    after = None
    filters = {"object": thing, "actor": actor, "action": action, "since": since, "until": until}
    with told():
        api = AdminApi(url, key, state_dir)
        while limit > 0:
            params = {**filters, "limit": min(limit, PAGE), "after": after}
            page = api.ask("GET", PATH, params=params).json()
            for one in page["data"]:
                if as_json:
                    typer.echo(json.dumps(one))
                else:
                    rows.append((moment(one["at"]), one["actor"], one["action"], one["object"]))
            after = page["after"]
            limit -= PAGE
            if after is None:
                break
    if not as_json:
        print_columns(rows)
