"""`pointsman predictors`: tenants' predictors, as the running platform has them.

What one is made of and whether it is good enough is said by `train` and `evaluate`; whom it judges, by policies.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pointsman.cli.admin_api import AdminApi, AsJson, Key, StateDir, Url, refuse, told
from pointsman.cli.columns import print_columns
from pointsman.cli.story import printable
from pointsman.cli.versioned import tell_live

app = typer.Typer(help="See and change tenants' predictors while the platform runs.", no_args_is_help=True)

PATH = "/admin/v1/predictors"

Version = Annotated[str, typer.Argument(metavar="VERSION", help="As `list` shows it.", show_default=False)]
Comment = Annotated[str | None, typer.Option(help="Why; kept in the audit log.", show_default=False)]


@app.command("list")
def list_predictors(url: Url = None, key: Key = None, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Every tenant's predictor in one line, newest first, and the one that judges for all others."""
    with told():
        answer = AdminApi(url, key, state_dir).ask("GET", PATH).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    rows = [("VERSION", "GATE", "USED BY", "BROUGHT IN")]
    rows += [(one["version"], _gate(one), _users(one), _made(one)) for one in answer["data"]]
    print_columns(rows)
    typer.echo(f"for everybody else: {answer['base']}")
    tell_live(all(one["live"] for one in answer["data"]))


@app.command()
def show(
    version: Version, url: Url = None, key: Key = None, state_dir: StateDir = None, as_json: AsJson = False
) -> None:
    """What VERSION was made of, and what its training measured."""
    with told():
        answer = AdminApi(url, key, state_dir).ask("GET", _path(version)).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"{answer['version']}: adapted from {answer['base']}, {answer['bytes']:,} bytes")
    typer.echo(printable(f"  brought in  {_made(answer)} {answer['comment']}".rstrip()))
    typer.echo(f"  used by     {_users(answer)}")
    report = answer["report"]
    if "training_rows" in report:
        typer.echo(f"  rows        {report['training_rows']} learnt from, {report['held_out_rows']} held out")
    verdict = report.get("gate") or {}
    for title, part in (("tenant", "tenant"), ("base set", "base_set")):
        if figures := verdict.get(part):
            typer.echo(f"  {title:<11} accuracy {figures['accuracy_base']:.3f} -> {figures['accuracy']:.3f}")
    typer.echo(printable(f"  gate        {_gate(answer)}: {answer['refusal'] or verdict.get('reason', '')}"))
    tell_live(answer["live"])


@app.command()
def put(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `pointsman train --base` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Take it although it has not passed the gate.")] = False,
    comment: Comment = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring the predictor in FILE to every router; policies may name it from then on."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise refuse(f"cannot read {file}: {error.strerror or error}") from None
    with told():
        answer = (
            AdminApi(url, key, state_dir)
            .ask("POST", PATH, content=content, params={"force": force, "comment": comment})
            .json()
        )
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(answer["version"])
    tell_live(answer["live"])


@app.command()
def delete(
    version: Version, comment: Comment = None, url: Url = None, key: Key = None, state_dir: StateDir = None
) -> None:
    """Delete VERSION, which no policy may name any more."""
    with told():
        AdminApi(url, key, state_dir).ask("DELETE", _path(version), params={"comment": comment})
    typer.echo(f"{version}: deleted")


def _path(version: str) -> str:
    return f"{PATH}/{quote(version, safe='')}"


def _gate(one: dict[str, Any]) -> str:
    return "passed" if one["passed"] else "forced"


def _users(one: dict[str, Any]) -> str:
    more = f" and {one['users'] - 3} more" if one["users"] > 3 else ""
    return ", ".join(one["used_by"][:3]) + more or "-"


def _made(one: dict[str, Any]) -> str:
    return f"{one['created_at'][:19].replace('T', ' ')} by {one['created_by']}"
