"""`pointsman policies`: see and change how tenants' modes are chosen, while the platform runs.

Policies are YAML here, as in the configuration file; a mistake is told with its line before anything is sent.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pointsman.cli.admin_api import AdminApi, AsJson, Key, StateDir, Url, told
from pointsman.cli.columns import print_columns
from pointsman.cli.versioned import IfVersion, body_of, if_match, if_unchanged, path_of, tell_live

app = typer.Typer(help="See and change tenants' policies while the platform runs.", no_args_is_help=True)

PATH = "/admin/v1/policies"
_path = partial(path_of, PATH)

TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.", show_default=False)]
Comment = Annotated[str | None, typer.Option(help="Why; kept with the version.", show_default=False)]


@app.command("list")
def list_policies(url: Url = None, key: Key = None, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Every tenant's policy in one line."""
    with told():
        answer = AdminApi(url, key, state_dir).ask("GET", PATH).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    rows = [("TENANT", "VERSION", "RULES", "CANDIDATE", "CHANGED")]
    rows += [
        (
            one["tenant"],
            str(one["version"] or "config"),
            str(len(one["document"].get("policy", {}).get("rules", ()))),
            _stage(one["document"].get("candidate")),
            _changed(one),
        )
        for one in answer["data"]
    ]
    print_columns(rows)


@app.command()
def show(
    tenant: TenantName,
    defaults: Annotated[bool, typer.Option("--defaults", help="Print fields at their default too.")] = False,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """The policy that holds for TENANT, as YAML that `pointsman policies set` takes."""
    from pointsman.contracts.policy_file import dump_policy, parse_policy

    with told():
        answer = AdminApi(url, key, state_dir).ask("GET", _path(tenant), params={"defaults": defaults}).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"# {_said(answer)}")
    if did := answer["candidate_did"]:
        typer.echo(
            f"# the candidate in the last {did['seconds']:g} s: {did['requests']} requests, "
            f"{did['errors']} errors, {did['escalations']} escalations, "
            f"{did['disagreement']} times another mode than the present policy's"
        )
    typer.echo(dump_policy(parse_policy(answer["document"])), nl=False)


@app.command("set")
def set_policy(
    tenant: TenantName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy, as YAML.", show_default=False)],
    comment: Comment = None,
    if_version: IfVersion = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Let the policy in FILE hold for TENANT, from the next request of every worker on."""
    from pointsman.contracts.policy_file import load_policy

    body = body_of(partial(load_policy, file))
    with told():
        api = AdminApi(url, key, state_dir)
        unchanged = if_unchanged(api, _path(tenant), if_version)
        answer = api.ask("PUT", _path(tenant), json=body, params={"comment": comment}, headers=unchanged)
    _print_changed(answer.json())


@app.command()
def delete(
    tenant: TenantName,
    comment: Comment = None,
    if_version: IfVersion = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Let the configuration's policy hold for TENANT again."""
    with told():
        api = AdminApi(url, key, state_dir)
        answer = api.ask("DELETE", _path(tenant), params={"comment": comment}, headers=if_match(if_version))
    _print_changed(answer.json())


@app.command()
def stage(
    tenant: TenantName,
    to: Annotated[
        Literal["observe", "canary", "enforce"],
        typer.Argument(metavar="STAGE", help="observe, canary or enforce.", show_default=False),
    ],
    share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of conversations in stage canary.", show_default=False),
    ] = None,
    comment: Comment = None,
    if_version: IfVersion = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Move the candidate of TENANT to STAGE."""
    with told():
        answer = AdminApi(url, key, state_dir).ask(
            "POST",
            f"{_path(tenant)}/stage",
            json={"stage": to, "share": share},
            params={"comment": comment},
            headers=if_match(if_version),
        )
    _print_changed(answer.json())


@app.command()
def promote(
    tenant: TenantName,
    comment: Comment = None,
    if_version: IfVersion = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Let the candidate of TENANT be its policy."""
    with told():
        answer = AdminApi(url, key, state_dir).ask(
            "POST", f"{_path(tenant)}/promote", params={"comment": comment}, headers=if_match(if_version)
        )
    _print_changed(answer.json())


@app.command()
def history(
    tenant: TenantName,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Versions at most.")] = 20,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """The versions of TENANT's policy, newest first; with --json what each of them said."""
    from pointsman.cli.story import printable

    with told():
        answer = (
            AdminApi(url, key, state_dir).ask("GET", f"{_path(tenant)}/history", params={"limit": limit}).json()
        )
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for one in answer["data"]:
        what = "the configuration's" if one["document"] is None else _stage(one["document"].get("candidate"))
        typer.echo(printable(f"{one['version']}  {_changed(one)}  {what}  {one['comment']}".rstrip()))


@app.command()
def rollback(
    tenant: TenantName,
    to: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The version to go back to, 0 for the configuration's. Default: the one before the newest.",
            show_default=False,
        ),
    ] = None,
    comment: Comment = None,
    if_version: IfVersion = None,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
) -> None:
    """Let an earlier version of TENANT's policy hold again, its predictor with it, as a new version."""
    with told():
        answer = AdminApi(url, key, state_dir).ask(
            "POST",
            f"{_path(tenant)}/rollback",
            json={"to": to},
            params={"comment": comment},
            headers=if_match(if_version),
        )
    _print_changed(answer.json())


@app.command()
def simulate(
    tenant: TenantName,
    threshold: Annotated[
        float,
        typer.Option(min=0, max=1, help="The threshold in place of the one that held.", show_default=False),
    ],
    last: Annotated[int, typer.Option(min=1, max=10_000, help="Decisions that are looked at: the newest.")] = 1000,
    url: Url = None,
    key: Key = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Estimate what another threshold would have done to the last decisions of TENANT."""
    body = {"tenant": tenant, "threshold": threshold, "decisions": last}
    with told():
        answer = AdminApi(url, key, state_dir).ask("POST", f"{PATH}/simulate", json=body).json()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    count = answer["decisions"]
    if not count:
        typer.echo(f"{tenant}: no decisions are kept.")
        return
    untouched = sum(answer["untouched"].values())
    by = ", ".join(f"{number} by {who}" for who, number in sorted(answer["untouched"].items()))
    typer.echo(
        f"{tenant}: threshold {threshold:g} in place of {answer['present_threshold']:g}, tried on {count} decisions"
    )
    typer.echo(f"  changed    {answer['to_think']} to think, {answer['to_no_think']} to no_think")
    typer.echo(f"  untouched  {untouched}" + (f" ({by})" if by else ""))
    judges = ", ".join(f"{number} by {version}" for version, number in sorted(answer["predictors"].items()))
    typer.echo(f"  judged     {judges}")
    share, cost, seconds = answer["think_share"], answer["cost"], answer["seconds"]
    typer.echo(f"  thinking   {share['actual']:.1%} -> {share['simulated']:.1%}")
    before, after = cost["actual"] / 1e9, cost["simulated"] / 1e9
    typer.echo(f"  cost       ${before:.6f} -> ${after:.6f} ({cost['decisions']} decisions)")
    if seconds["actual"] is not None:
        typer.echo(
            f"  mean time  {seconds['actual']:.2f} s -> {seconds['simulated']:.2f} s "
            f"({seconds['decisions']} decisions)"
        )
    for caveat in answer["caveats"]:
        typer.echo(f"  {caveat}")


def _stage(candidate: dict[str, Any] | None) -> str:
    """How far a candidate has gone live, in a word or two."""
    if candidate is None:
        return "-"
    stage = str(candidate.get("stage", "observe"))
    return f"{stage} {candidate.get('share', 0.05):.3g}" if stage == "canary" else stage


def _changed(one: dict[str, Any]) -> str:
    if not one["updated_at"]:
        return "-"
    return f"{one['updated_at'][:19].replace('T', ' ')} by {one['updated_by']}"


def _said(answer: dict[str, Any]) -> str:
    version = f"version {answer['version']}" if answer["version"] else "the configuration's"
    candidate = answer["document"].get("candidate")
    staged = f", candidate in {_stage(candidate)}" if candidate else ""
    return f"{answer['tenant']}: {version}{staged}"


def _print_changed(answer: dict[str, Any]) -> None:
    typer.echo(_said(answer))
    tell_live(answer["live"])
