"""`pointsman costs`: what was used cost, split as one likes, as a table, JSON, CSV, Parquet or a picture."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pointsman.cli.admin_api import AdminApi, Key, StateDir, Url, told
from pointsman.cli.reports.query import By, Mode, Model, Output, Pool, Since, Tenant, Until
from pointsman.cli.reports.show import show

PATH = "/admin/v1/costs"

COLUMNS = {
    "requests": "REQUESTS",
    "input_tokens": "INPUT TOKENS",
    "output_tokens": "OUTPUT TOKENS",
    "cost_usd": "US DOLLARS",
}

Format = Annotated[
    Literal["table", "json", "csv", "parquet", "plot"],
    typer.Option("--format", "-f", help="How to show it; a plot is a PNG."),
]


def costs(
    by: By = "tenant,mode",
    since: Since = "30d",
    until: Until = None,
    tenant: Tenant = None,
    model: Model = None,
    mode: Mode = None,
    pool: Pool = None,
    format: Format = "table",
    output: Output = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """
    What requests cost, from the ledger that bills are made of.

    Periods are whole hours in UTC. Corrections count when they were made.
    """
    with told():
        show(
            AdminApi(url, key, state_dir),
            PATH,
            {
                "by": by,
                "since": since,
                "until": until,
                "tenant": tenant,
                "model": model,
                "mode": mode,
                "pool": pool,
            },
            COLUMNS,
            format,
            output,
        )
