"""`pointsman prices`: see what pools cost, now and at other times, and let other prices hold from then on."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pointsman.cli.admin_api import AdminApi, AsJson, Key, StateDir, Url, refuse, told
from pointsman.cli.story import printable
from pointsman.cli.versioned import tell_live

app = typer.Typer(help="See and change what pools cost, while the platform runs.", no_args_is_help=True)

PATH = "/admin/v1/prices"

PoolName = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.", show_default=False)]
Per1M = "USD per 1M tokens."

NAMES = ("input", "cached_input", "output", "reasoning", "cache_creation", "cache_storage", "cache_call")


@app.command("list")
def list_prices(url: Url = None, key: Key = None, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """What every pool costs now, in US dollars per 1M tokens, and what is to come."""
    with told():
        answer = AdminApi(url, key, state_dir).ask("GET", PATH).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for pool in answer["data"]:
        typer.echo(f"{pool['pool']}: {_version(pool['version'])}: {_prices(pool['prices'])}")
        for version in pool["versions"]:
            if not version["withdrawn"] and version["version"] != pool["version"]:
                typer.echo(f"  {_period(version)}")
    if not all(pool["live"] for pool in answer["data"]):
        typer.echo("Redis is away: routers will hear of changes when it is back.", err=True)


@app.command()
def show(
    pool: PoolName, url: Url = None, key: Key = None, state_dir: StateDir = None, as_json: AsJson = False
) -> None:
    """All prices that POOL ever had or is to have."""
    with told():
        answer = AdminApi(url, key, state_dir).ask("GET", _path(pool)).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"now: {_version(answer['version'])}: {_prices(answer['prices'])}")
    if answer["same_as"]:
        typer.echo(f"always the same as: {', '.join(answer['same_as'])}")
    for version in answer["versions"]:
        typer.echo(_period(version))


@app.command("set")
def set_prices(
    pool: PoolName,
    input: Annotated[str, typer.Option(help=f"Prompt tokens. {Per1M}", show_default=False)],
    output: Annotated[str, typer.Option(help=f"Answer tokens. {Per1M}", show_default=False)],
    cached_input: Annotated[str | None, typer.Option(help="Default: as --input.", show_default=False)] = None,
    reasoning: Annotated[str | None, typer.Option(help="Default: as --output.", show_default=False)] = None,
    cache_creation: Annotated[
        str | None, typer.Option(help=f"Tokens put into a context cache. {Per1M}", show_default=False)
    ] = None,
    cache_storage: Annotated[
        str | None, typer.Option(help="Kept there. USD per 1M tokens per minute.", show_default=False)
    ] = None,
    cache_call: Annotated[str | None, typer.Option(help="Calls that use it. USD each.", show_default=False)] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="When it begins: 2026-01-01T00:00:00Z. Default: at once.", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="When it ends. Default: when the next one begins.", show_default=False)
    ] = None,
    comment: Annotated[str | None, typer.Option(help="Why; kept with the version.", show_default=False)] = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """
    Let other prices hold for POOL from some moment on, and for the pools that answer its model in the same mode.

    What was used before is billed at the price that held then.
    """
    given = (input, cached_input, output, reasoning, cache_creation, cache_storage, cache_call)
    prices = {name: price for name, price in zip(NAMES, given, strict=True) if price is not None}
    body: dict[str, Any] = {"pool": pool, "prices": prices}
    if since is not None:
        body["effective_from"] = since
    if until is not None:
        body["effective_until"] = until
    with told():
        api = AdminApi(url, key, state_dir)
        answer = api.ask("POST", PATH, json=body, params={"comment": comment}).json()
    _print_changed(answer, max(version["version"] for version in answer["versions"]))


@app.command()
def end(
    pool: PoolName,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Which price.", show_default=False)],
    at: Annotated[str | None, typer.Option(help="When. Default: as soon as may be.", show_default=False)] = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """End a price of POOL; one that has not begun is taken back. The configuration's holds from then on."""
    if version < 1:
        raise refuse("Version 0 is the configuration's price: change it there.")
    with told():
        api = AdminApi(url, key, state_dir)
        answer = api.ask("DELETE", f"{_path(pool)}/{version}", params={"at": at}).json()
    _print_changed(answer, version)


def _path(pool: str) -> str:
    return f"{PATH}/{quote(pool, safe='')}"


def _print_changed(answer: dict[str, Any], number: int) -> None:
    changed = next(version for version in answer["versions"] if version["version"] == number)
    pools = ", ".join([answer["pool"], *answer["same_as"]])
    typer.echo(f"{pools}: {_period(changed)}")
    tell_live(answer["live"])


def _version(number: int) -> str:
    return f"version {number}" if number else "the configuration's"


def _period(version: dict[str, Any]) -> str:
    if version["withdrawn"]:
        span = f"taken back before {_moment(version['effective_from'])}"
    else:
        until = version.get("effective_until")
        span = f"from {_moment(version['effective_from'])}" + (f" until {_moment(until)}" if until else "")
    comment = f" ({version['comment']})" if version["comment"] else ""
    return printable(f"version {version['version']} {span}: {_prices(version['prices'])}{comment}")


def _prices(prices: dict[str, Any]) -> str:
    return ", ".join(f"{prices[name]} {name.replace('_', ' ')}" for name in NAMES if prices.get(name) is not None)


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")
