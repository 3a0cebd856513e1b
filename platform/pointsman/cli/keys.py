"""`pointsman keys`: make, rotate and revoke the keys of tenants and of administrators while the platform runs.

A new key is all that is printed on standard output, so that a script can take it; whatever is told of it goes to
standard error.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pointsman.cli.admin_api import AdminApi, AsJson, Key, StateDir, Url, refuse, told
from pointsman.cli.columns import moment, print_columns, span

app = typer.Typer(help="Make, rotate and revoke keys while the platform runs.", no_args_is_help=True)

PATH = "/admin/v1/keys"

PAGE = 1000
"""Keys that are asked for at a time."""

KeyId = Annotated[str, typer.Argument(metavar="ID", help="As `pointsman keys list` shows it.", show_default=False)]
ExpiresIn = Annotated[
    int | None,
    typer.Option(
        metavar="SPAN",
        parser=span,
        help="When it ends: 90d, 12h, 30m from now on. Default: never.",
        show_default=False,
    ),
]


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="Of this tenant alone.")] = None,
    admins: Annotated[bool, typer.Option("--admins", help="Admin keys alone.")] = False,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """The keys that were made while the platform runs; with --json one object a line."""
    rows: list[tuple[str, ...]] = [("ID", "OF", "STATE", "EXPIRES", "LIMITED TO", "LABEL")]
    after = None
    with told():
        api = AdminApi(url, key, state_dir)
        while True:
            params = {"tenant": tenant, "admin": admins or None, "after": after, "limit": PAGE}
            page = api.ask("GET", PATH, params=params).json()
            for one in page["data"]:
                if as_json:
                    typer.echo(json.dumps(one))
                else:
                    rows.append(_row(one))
            after = page["after"]
            if after is None:
                break
    if not as_json:
        print_columns(rows)


@app.command()
def create(
    tenant: Annotated[
        str | None, typer.Argument(metavar="[TENANT]", help="Whose key it shall be.", show_default=False)
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            help="Instead of a tenant: an admin key that is owner, operator or viewer.", show_default=False
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="A name for people.", show_default=False)] = "",
    model: Annotated[
        list[str] | None, typer.Option(help="Limit it to this model; may be repeated.", show_default=False)
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(help="Limit it to this mode: think or no_think.", show_default=False)
    ] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(help="Limit it to this path; may be repeated.", show_default=False)
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Limit it to this network, as 10.0.0.0/8.", show_default=False)
    ] = None,
    expires_in: ExpiresIn = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key of TENANT, or with --role an admin key. It is printed this once."""
    if (tenant is None) == (role is None):
        raise refuse("Give the name of a tenant, or --role for an admin key.")
    given = {
        "tenant": tenant,
        "role": role,
        "label": label or None,
        "models": model or None,
        "modes": mode or None,
        "endpoints": endpoint or None,
        "networks": network or None,
        "expires_in": expires_in,
    }
    body = {name: value for name, value in given.items() if value is not None}
    with told():
        made = AdminApi(url, key, state_dir).ask("POST", PATH, json=body).json()
    _print_made(made, as_json=as_json)


@app.command()
def show(
    identity: KeyId, url: Url = None, key: Key = None, state_dir: StateDir = None, as_json: AsJson = False
) -> None:
    """What is known of the key ID: all but the key itself."""
    with told():
        one = AdminApi(url, key, state_dir).ask("GET", f"{PATH}/{identity}").json()
    if as_json:
        typer.echo(json.dumps(one))
        return
    print_columns([("ID", "OF", "STATE", "EXPIRES", "LIMITED TO", "LABEL"), _row(one)])
    typer.echo(f"made {moment(one['created_at'])} by {one['created_by']}; SHA-256 {one['digest']}")
    for field in ("replaces", "replaced_by"):
        if field in one:
            typer.echo(f"{field.replace('_', ' ')} {one[field]}")


@app.command()
def rotate(
    identity: KeyId,
    overlap: Annotated[
        int, typer.Option(metavar="SPAN", parser=span, help="How long the old key stays good.", show_default="1d")
    ] = 86_400,
    expires_in: Annotated[
        int | None,
        typer.Option(
            metavar="SPAN",
            parser=span,
            help="When the new key ends. Default: after as long as the old one was made for.",
            show_default=False,
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key that takes the place of the key ID, which stays good for the overlap. It is printed this once."""
    body = {"overlap": overlap} if expires_in is None else {"overlap": overlap, "expires_in": expires_in}
    with told():
        made = AdminApi(url, key, state_dir).ask("POST", f"{PATH}/{identity}/rotate", json=body).json()
    _print_made(made, as_json=as_json)


@app.command()
def revoke(identity: KeyId, url: Url = None, key: Key = None, state_dir: StateDir = None) -> None:
    """Let the key ID open nothing any more."""
    with told():
        one = AdminApi(url, key, state_dir).ask("DELETE", f"{PATH}/{identity}").json()
    typer.echo(f"{identity}: {one['state']}")
    _warn(one)


def _print_made(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(made))
    else:
        typer.echo(made["key"])
        end = f", until {moment(made['expires_at'])}" if "expires_at" in made else ""
        typer.echo(f"{made['id']} of {_owner(made)}{end}: keep it, it is not shown again", err=True)
        if replaced := made.get("replaced"):
            typer.echo(f"{replaced['id']} stays good until {moment(replaced.get('expires_at'))} (UTC)", err=True)
    _warn(made)


def _warn(one: dict[str, Any]) -> None:
    if not one["live"]:
        typer.echo("Redis is away: routers will hear of it when it is back.", err=True)


def _owner(one: dict[str, Any]) -> str:
    return str(one["tenant"]) if "tenant" in one else f"admins ({one['role']})"


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    limits = [value for values in one["scope"].values() for value in values]
    return (
        one["id"],
        _owner(one),
        one["state"],
        moment(one.get("expires_at")),
        ", ".join(limits) or "-",
        one["label"],
    )
