"""`pointsman tenants`: see, make, change and delete tenants while the platform runs.

Tenants are YAML here, as in the configuration file; a mistake is told with its line before anything is sent.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.cli.admin_api import AdminApi, AsJson, Key, StateDir, Url, told
from pointsman.cli.columns import moment, print_columns
from pointsman.cli.versioned import IfVersion, Manager, body_called, if_match, if_unchanged, path_of, tell_live

app = typer.Typer(help="See, make, change and delete tenants while the platform runs.", no_args_is_help=True)

PATH = "/admin/v1/tenants"
_path = partial(path_of, PATH)

HEADING = ("TENANT", "VERSION", "MANAGED BY", "KEYS", "PRIORITY", "BUDGET A MONTH", "CHANGED")

PAGE = 1000
"""Tenants that are asked for at a time."""

TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.", show_default=False)]


@app.command("list")
def list_tenants(
    prefix: Annotated[str | None, typer.Option(help="How their names begin.", show_default=False)] = None,
    managed_by: Annotated[
        str | None,
        typer.Option(help="Only those of this manager; `file`: the configuration's.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Tenants at most.")] = PAGE,
    after: Annotated[str | None, typer.Option(help="Only names after this one.", show_default=False)] = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Tenants by name, one line each; with --json one object a line."""
    rows: list[tuple[str, ...]] = [HEADING]
    with told():
        api = AdminApi(url, key, state_dir)
        while limit > 0:
            params = {"prefix": prefix, "managed_by": managed_by, "after": after, "limit": min(limit, PAGE)}
            page = api.ask("GET", PATH, params=params).json()
            for one in page["data"]:
                if as_json:
                    typer.echo(json.dumps(one))
                else:
                    rows.append(_row(one))
            after = page["after"]
            limit -= PAGE
            if after is None:
                break
    if as_json:
        return
    print_columns(rows)
    if after is not None:
        typer.echo(f"There are more: go on with --after {after}", err=True)


@app.command()
def show(
    tenant: TenantName,
    defaults: Annotated[bool, typer.Option("--defaults", help="Print fields at their default too.")] = False,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """TENANT as YAML that `pointsman tenants set` takes."""
    from pointsman.contracts.tenant_file import dump_tenant, parse_tenant

    with told():
        answer = AdminApi(url, key, state_dir).ask("GET", _path(tenant), params={"defaults": defaults}).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"# {_said(answer)}, {answer['keys']} keys made by the API")
    typer.echo(dump_tenant(parse_tenant(answer["document"])), nl=False)


@app.command()
def create(
    tenant: TenantName,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="What holds for it, as YAML.", show_default=False)
    ] = None,
    manager: Manager = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Make TENANT, as FILE describes it; without a file everything is at its default."""
    from pointsman.contracts.tenant_file import load_tenant

    body = {"name": tenant} if file is None else body_called(tenant, file, load_tenant)
    with told():
        answer = AdminApi(url, key, state_dir).ask("POST", PATH, json=body, params={"manager": manager})
    _print_changed(answer.json())


@app.command("set")
def set_tenant(
    tenant: TenantName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What shall hold, as YAML.", show_default=False)],
    if_version: IfVersion = None,
    manager: Manager = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Let TENANT be as FILE describes it, from the next request of every router on."""
    from pointsman.contracts.tenant_file import load_tenant

    body = body_called(tenant, file, load_tenant)
    with told():
        api = AdminApi(url, key, state_dir)
        unchanged = if_unchanged(api, _path(tenant), if_version)
        answer = api.ask("PUT", _path(tenant), json=body, params={"manager": manager}, headers=unchanged)
    _print_changed(answer.json())


@app.command()
def delete(
    tenant: TenantName,
    if_version: IfVersion = None,
    manager: Manager = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Delete TENANT and revoke its keys. Its name stays taken, as bills go by names."""
    with told():
        AdminApi(url, key, state_dir).ask(
            "DELETE", _path(tenant), params={"manager": manager}, headers=if_match(if_version)
        )
    typer.echo(f"{tenant}: deleted, its keys revoked")


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    document = one["document"]
    budget = document.get("budgets", {}).get("monthly", {}).get("hard_usd")
    return (
        one["name"],
        str(one["version"] or "-"),
        one["managed_by"],
        str(one["keys"]),
        str(document.get("priority", "-")),
        "-" if budget is None else f"${budget}",
        moment(one.get("updated_at")),
    )


def _said(answer: dict[str, Any]) -> str:
    version = f"version {answer['version']}" if answer["version"] else "the configuration file's"
    return f"{answer['name']}: {version}, managed by {answer['managed_by']}"


def _print_changed(answer: dict[str, Any]) -> None:
    typer.echo(_said(answer))
    tell_live(answer["live"])
