"""`pointsman cache`: how many answers are recorded, and letting none of them be given any more."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pointsman.cli.admin_api import AdminApi, AsJson, Key, StateDir, Url, refuse, told

app = typer.Typer(help="See and invalidate recorded answers while the platform runs.", no_args_is_help=True)

PATH = "/admin/v1/cache"

Tenant = Annotated[str | None, typer.Option(help="Answers that this tenant may be given.", show_default=False)]
Group = Annotated[
    str | None, typer.Option(help="Answers that the tenants of this group share.", show_default=False)
]
Model = Annotated[str | None, typer.Option(help="Answers of this model alone.", show_default=False)]


@app.command()
def show(
    tenant: Tenant = None,
    group: Group = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """How many answers are recorded, and how many bytes they have in Redis."""
    answer = _ask("GET", url, key, state_dir, tenant=tenant, group=group)
    size = f"{answer['answers']:,} answers, {answer['bytes']:,} bytes"
    typer.echo(json.dumps(answer) if as_json else size)


@app.command()
def invalidate(
    tenant: Tenant = None,
    group: Group = None,
    model: Model = None,
    everything: Annotated[bool, typer.Option("--all", help="Everybody's answers.")] = False,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Let recorded answers not be given any more: a tenant's, a group's, a model's, or all."""
    if everything == any(one is not None for one in (tenant, group, model)):
        raise refuse("Say whose answers: --tenant, --group, --model, or --all and none of them.")
    answer = _ask("DELETE", url, key, state_dir, tenant=tenant, group=group, model=model)
    typer.echo(json.dumps(answer) if as_json else f"invalidated; {answer['deleted']:,} answers deleted")


def _ask(method: str, url: str | None, key: str | None, state_dir: Any, **params: str | None) -> dict[str, Any]:
    with told():
        answer: dict[str, Any] = AdminApi(url, key, state_dir).ask(method, PATH, params=params).json()
    return answer
