"""`pointsman pools`: what the pools do right now; and make, change and take away those that no file holds.

Pools are YAML here, as in the configuration file; a mistake is told with its line before anything is sent.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.cli.admin_api import AdminApi, AsJson, Key, StateDir, Url, refuse, told
from pointsman.cli.columns import print_columns
from pointsman.cli.versioned import IfVersion, Manager, body_called, if_match, path_of, tell_live

app = typer.Typer(help="See what pools do; make, change and take them away while the platform runs.")

PATH = "/admin/v1/pools"
_path = partial(path_of, PATH)

_HEADINGS = ("POOL", "MODEL", "MODES", "STATE", "REPLICAS", "RUNNING", "PLACES", "WAITING", "TOKENS TO DO")

PoolName = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.", show_default=False)]
Reprice = Annotated[
    bool,
    typer.Option(
        "--reprice-twins",
        help="Let its prices hold for the pools too that answer the same model and mode, as they must agree.",
    ),
]


@app.callback(invoke_without_command=True)
def pools(
    context: typer.Context, url: Url = None, key: Key = None, state_dir: StateDir = None, as_json: AsJson = False
) -> None:
    """Show each pool: its replicas, what runs there, and who waits."""
    if context.invoked_subcommand is not None:
        for name in context.params:
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise refuse(f"Give options after {context.invoked_subcommand}: here they would mean the list.")
        return
    with told():
        answer = AdminApi(url, key, state_dir).ask("GET", PATH).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    rows = [_HEADINGS, *(_row(pool) for pool in answer["data"])]
    print_columns(rows)
    for part, words in answer["troubles"].items():
        typer.echo(f"Not everything is known: {part}: {words}", err=True)


@app.command()
def show(
    pool: PoolName,
    defaults: Annotated[bool, typer.Option("--defaults", help="Print fields at their default too.")] = False,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """POOL as YAML that `pointsman pools edit` takes."""
    from pointsman.contracts.pool_file import dump_pool, parse_pool

    with told():
        answer = AdminApi(url, key, state_dir).ask("GET", _path(pool), params={"defaults": defaults}).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"# {_said(answer)}")
    if answer["traffic"]:
        typer.echo(f"# requests are divided: {_divided(answer['traffic'])}")
    typer.echo(dump_pool(parse_pool(answer["pool"])), nl=False)


@app.command()
def create(
    pool: PoolName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The pool, as YAML.", show_default=False)],
    manager: Manager = None,
    reprice: Reprice = False,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Make POOL, as FILE describes it. Its replicas are somebody else's to start."""
    from pointsman.contracts.pool_file import load_pool

    body = body_called(pool, file, load_pool)
    params = {"manager": manager, "twins": "reprice" if reprice else None}
    with told():
        answer = AdminApi(url, key, state_dir).ask("PUT", _path(pool), json=body, params=params)
    _print_changed(answer.json())


@app.command()
def edit(
    pool: PoolName,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="What shall hold, as YAML. Default: asks your editor."),
    ] = None,
    if_version: IfVersion = None,
    manager: Manager = None,
    reprice: Reprice = False,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Let POOL be as FILE describes it; without a file as you leave it in your editor ($EDITOR)."""
    from pointsman.contracts.pool_file import load_pool

    body = None if file is None else body_called(pool, file, load_pool)
    params = {"manager": manager, "twins": "reprice" if reprice else None}
    with told():
        api = AdminApi(url, key, state_dir)
        there = api.ask("GET", _path(pool))
        tag = there.headers["etag"] if if_version is None else f'"{if_version}"'
        if body is None:
            body = _edited(there.json())
        answer = api.ask("PUT", _path(pool), json=body, params=params, headers={"if-match": tag})
    _print_changed(answer.json())


@app.command()
def traffic(
    pool: PoolName,
    weights: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REVISION=WEIGHT]...", help="None: requests are no longer divided."),
    ] = None,
    manager: Manager = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Divide the new requests of POOL between the revisions of its replicas, by these weights."""
    body = {}
    for word in weights or ():
        revision, parted, weight = word.rpartition("=")
        try:
            body[revision] = float(weight)
        except ValueError:
            parted = ""
        if not parted:
            raise refuse(f"{word!r} is no REVISION=WEIGHT")
    with told():
        api = AdminApi(url, key, state_dir)
        answer = api.ask("PUT", f"{_path(pool)}/traffic", json=body, params={"manager": manager})
    _print_changed(answer.json())


@app.command()
def delete(
    pool: PoolName,
    if_version: IfVersion = None,
    manager: Manager = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Take POOL away. Requests that run there run on."""
    with told():
        AdminApi(url, key, state_dir).ask(
            "DELETE", _path(pool), params={"manager": manager}, headers=if_match(if_version)
        )
    typer.echo(f"{pool}: taken away")


def _edited(answer: dict[str, Any]) -> dict[str, Any]:
    """What the user's editor makes of the pool; ends the command where nothing was changed."""
    import os
    import shlex
    import subprocess
    import tempfile

    from pointsman.contracts.pool_file import dump_pool, load_pool, parse_pool

    text = dump_pool(parse_pool(answer["pool"]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{answer['name']}.yaml"
        file.write_text(text, encoding="utf-8")
        editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
        try:
            subprocess.run([*editor, str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise refuse(f"The editor {editor[0]} failed: {error}") from None
        if file.read_text(encoding="utf-8") == text:
            typer.echo("Nothing was changed.")
            raise typer.Exit
        return body_called(answer["name"], file, load_pool)


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


def _said(answer: dict[str, Any]) -> str:
    version = f"version {answer['version']}" if answer["version"] else "the configuration file's"
    return f"{answer['name']}: {version}, managed by {answer['managed_by']}, {answer['state']['state']}"


def _divided(weights: dict[str, float]) -> str:
    return ", ".join(f"{revision or '(none)'} {weight:g}" for revision, weight in sorted(weights.items()))


def _print_changed(answer: dict[str, Any]) -> None:
    typer.echo(_said(answer))
    if answer["traffic"]:
        typer.echo(f"requests are divided: {_divided(answer['traffic'])}")
    tell_live(answer["live"])
