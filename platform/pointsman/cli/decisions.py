"""`pointsman decisions`: look decisions up, correct them, judge the doubtful ones, take training rows from them.

What a tenant sees needs a tenant's key, all else the admin key. With `--json` stdout holds JSON and nothing else.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pointsman.cli.admin_api import AdminApi, StateDir, Url, refuse, told
from pointsman.cli.decisions_shown import OUT, print_one, print_table, verdict
from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.names import Env, Header, StateFile

app = typer.Typer(help="See, correct, review and export what was decided.", no_args_is_help=True)

MINE, ALL, REVIEWS = "/v1/decisions", "/admin/v1/decisions", "/admin/v1/reviews"

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Identity = Annotated[
    str,
    typer.Argument(metavar="ID", help=f"The decision, as the answer's {Header.DECISION_ID}.", show_default=False),
]
Key = Annotated[
    str | None,
    typer.Option(
        help=f"The key; prefer the variable {Env.API_KEY}, with --all and for reviewers {Env.ADMIN_KEY}. "
        f"Default: {StateFile.DEMO_KEY} or {StateFile.ADMIN_KEY} of the state folder.",
        show_default=False,
    ),
]
All = Annotated[bool, typer.Option("--all", help="Of all tenants; needs the admin key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Since = Annotated[
    str | None,
    typer.Option(help="Not older than this: 90s, 15m, 2h, 7d, or a time in ISO 8601.", show_default=False),
]
ShouldThink = Annotated[
    bool | None,
    typer.Option("--should-think/--should-not-think", help="Which mode would have been right.", show_default=False),
]
Comment = Annotated[str | None, typer.Option(help="Why, in words.", show_default=False)]


@app.command("list")
def list_decisions(
    since: Since = None,
    until: Annotated[
        str | None, typer.Option(help="Older than this, in the same forms.", show_default=False)
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="Answered in this mode.", show_default=False)] = None,
    source: Annotated[Source | None, typer.Option(help="Decided by this source.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="Asked of this model.", show_default=False)] = None,
    escalated: Annotated[
        bool | None, typer.Option("--escalated/--not-escalated", help="Thought at second try.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 20,
    every: All = False,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Decisions, newest first."""
    wanted = {
        "since": _time(since, "--since"),
        "until": _time(until, "--until"),
        "mode": mode and mode.value,
        "source": source and source.value,
        "model": model,
        "escalated": escalated,
    }
    with told():
        api = _api(url, key, state_dir, admin=every)
        decisions = list(_pages(api, ALL if every else MINE, wanted, limit))
    if as_json:
        for decision in decisions:
            typer.echo(json.dumps(decision))
        return
    print_table(decisions, tenants=every)


@app.command()
def show(
    identity: Identity,
    every: All = False,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """One decision: who chose, what spoke for it, what it cost, what people said of it."""
    with told():
        decision = _api(url, key, state_dir, admin=every).ask("GET", _path(ALL if every else MINE, identity)).json()
    if as_json:
        typer.echo(json.dumps(decision))
    else:
        print_one(decision)


@app.command()
def feedback(
    identity: Identity,
    should_think: ShouldThink = None,
    comment: Comment = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Say which mode would have been right; a later word replaces an earlier one of the same key."""
    if should_think is None:
        raise refuse("Say which mode would have been right: --should-think or --should-not-think.")
    body = {"should_think": should_think, "comment": comment}
    with told():
        api = _api(url, key, state_dir, admin=False)
        api.ask("POST", f"{_path(MINE, identity)}/feedback", json=body)
    typer.echo(f"Noted: {identity} {verdict(should_think)}.")


@app.command()
def review(
    identity: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]", help="Judge this one. Default: ask about one after another.", show_default=False
        ),
    ] = None,
    should_think: ShouldThink = None,
    comment: Comment = None,
    pin: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Pin a rule of this name: its mode is the one judged right.", show_default=False
        ),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help='What the pinned rule applies to, as in a policy: {"endpoints": [...]}. Default: all requests.',
            show_default=False,
        ),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only decisions of this tenant.", show_default=False)] = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """
    Judge decisions that are doubtful, or that their tenant has corrected.

    Without ID it shows those that wait one by one and asks; with --json it lists them and asks nothing.
    """
    with told():
        api = _api(url, key, state_dir, admin=True)
        if identity is not None:
            if should_think is None:
                raise refuse("Say which mode would have been right: --should-think or --should-not-think.")
            rule = None if pin is None else {"name": pin, "match": _match(match), "mode": _mode(should_think)}
            judged = _judge(api, identity, should_think, comment, rule)
            typer.echo(json.dumps(judged) if as_json else f"Judged: {identity} {verdict(should_think)}.")
            return
        if should_think is not None or comment or pin or match:
            raise refuse("Name the decision that this is said of: pointsman decisions review ID ...")
        waiting = _pages(api, REVIEWS, {"tenant": tenant}, 10_000)
        if as_json:
            for decision in waiting:
                typer.echo(json.dumps(decision))
            return
        _ask_about(api, waiting)


@app.command()
def export(
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write; one that ends in .xz is compressed. Default: stdout.", show_default=False
        ),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.", show_default=False)] = None,
    since: Since = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """
    Training rows from tenants that keep prompts and let reviewers see them.

    JSON lines as `pointsman train` reads them: write them to FOLDER/train.jsonl.xz and give it --data FOLDER;
    those of one tenant to a file, and give it --base with --data FILE.
    """
    with told():
        api = _api(url, key, state_dir, admin=True)
        rows = api.ask(
            "GET", "/admin/v1/training-rows", params={"tenant": tenant, "since": _time(since, "--since")}
        ).content
    if output is None:
        sys.stdout.buffer.write(rows)
        return
    try:
        if output.suffix == ".xz":
            output.write_bytes(lzma.compress(rows))
        else:
            output.write_bytes(rows)
    except OSError as error:
        raise refuse(f"{output} cannot be written: {error.strerror or error}.") from None
    typer.echo(f"{rows.count(10)} rows in {output}", err=True)


def _ask_about(api: AdminApi, waiting: Iterator[dict[str, Any]]) -> None:
    judged = 0
    for decision in waiting:
        OUT.rule()
        print_one(decision)
        answer = (
            typer.prompt("Right would have been: [t]hink, [n]o_think; [s]kip, [q]uit", default="s").strip().lower()
        )
        if answer.startswith("q"):
            break
        if answer[:1] not in ("t", "n"):
            continue
        said = typer.prompt("Why (may stay empty)", default="", show_default=False).strip()
        _judge(api, decision["id"], answer.startswith("t"), said or None, None)
        judged += 1
    typer.echo(f"{judged} judged.")


def _judge(
    api: AdminApi, identity: str, should_think: bool, comment: str | None, pin: dict[str, Any] | None
) -> dict[str, Any]:
    body = {"should_think": should_think, "comment": comment, "pin": pin}
    judged: dict[str, Any] = api.ask("POST", _path(REVIEWS, identity), json=body).json()
    return judged


def _pages(api: AdminApi, path: str, wanted: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    """Up to `limit` decisions, asked for page by page."""
    after = None
    while limit > 0:
        page = api.ask("GET", path, params={**wanted, "limit": min(limit, 100), "after": after}).json()
        yield from page["data"]
        limit -= len(page["data"])
        after = page["after"]
        if after is None:
            return


def _api(url: str | None, key: str | None, state_dir: Path | None, *, admin: bool) -> AdminApi:
    given = key or os.environ.get(Env.ADMIN_KEY if admin else Env.API_KEY)
    return AdminApi(url, given, state_dir, as_tenant=not admin)


def _path(root: str, identity: str) -> str:
    return f"{root}/{quote(identity, safe='')}"


def _time(text: str | None, option: str) -> str | None:
    """`text` as the API takes a time: how long ago, or ISO 8601."""
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text):
            count, unit = ago.groups()
            return (datetime.now(UTC) - timedelta(**{_UNITS[unit]: int(count)})).isoformat()
        datetime.fromisoformat(text)
    except (ValueError, OverflowError):  # the latter: before the year 1
        raise refuse(f"{option} {text} is no time: give 90s, 15m, 2h, 7d, or 2026-01-31T12:00.") from None
    return text


def _match(text: str | None) -> Any:
    try:
        match = json.loads(text or "{}")
    except ValueError:
        match = None
    if not isinstance(match, dict):
        raise refuse('--match must be a JSON object, such as {"endpoints": ["/v1/completions"]}.')
    return match


def _mode(should_think: bool) -> str:
    return (Mode.THINK if should_think else Mode.NO_THINK).value
