"""`pointsman config`: check a configuration file, show it with all defaults, print its schema.

Needs the contracts alone, so it works on a laptop without any of the extras.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pointsman.contracts.config import Config, Pool
    from pointsman.contracts.config_file import Problem

app = typer.Typer(help="Check, show and describe configuration files.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A fleet, as YAML.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

EXIT_WRONG = 2
"""Exit code where the file cannot be used, the one that command lines use for wrong input."""


@app.command()
def check(file: File, as_json: AsJson = False) -> None:
    """
    Say everything that is wrong with FILE, by path and line; where nothing is, show its pools.

    Nothing is started and no engine is asked. Exit codes: 0 fine, with notes or without; 2 the file cannot be used.
    """
    from pointsman.contracts.config_file import ConfigError, load_config

    try:
        config = load_config(file)
    except ConfigError as error:
        if as_json:
            _print_json({"ok": False, "file": str(file), "errors": [asdict(problem) for problem in error.problems]})
        else:
            typer.echo(error, err=True)
        raise typer.Exit(EXIT_WRONG) from None
    notes = list(_notes(config))
    if as_json:
        _print_json(
            {
                "ok": True,
                "file": str(file),
                "notes": [{"path": problem.path, "message": problem.message} for problem in notes],
                "pools": [_row(pool) for pool in config.pools],
            }
        )
    else:
        _print_pools(file, config, notes)


@app.command()
def show(file: File) -> None:
    """Print FILE as YAML the way the processes see it: every default filled in, every path absolute."""
    from pointsman.contracts.config_file import ConfigError, dump_config, load_config

    try:
        config = load_config(file)
    except ConfigError as error:
        typer.echo(error, err=True)
        raise typer.Exit(EXIT_WRONG) from None
    typer.echo(dump_config(config, defaults=True), nl=False)


@app.command("to-kubernetes")
def to_kubernetes(
    file: File,
    namespace: Annotated[str | None, typer.Option(help="The objects' namespace. Default: kubectl's.")] = None,
) -> None:
    """
    Print FILE as Kubernetes objects: ModelPool, ModePolicy and Tenant, and what is left as ConfigMap and Secret.

    What a cluster must bring along is said on stderr.
    """
    from pointsman.contracts.config_file import ConfigError, load_config
    from pointsman.operators.conversion import dump_objects, notes_on, objects_of

    try:
        config = load_config(file)
    except ConfigError as error:
        typer.echo(error, err=True)
        raise typer.Exit(EXIT_WRONG) from None
    typer.echo(dump_objects(objects_of(config, namespace=namespace)), nl=False)
    for note in notes_on(config):
        typer.echo(f"note: {note}", err=True)


@app.command("from-kubernetes")
def from_kubernetes(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Objects, as YAML or JSON; -: standard input.", show_default=False),
    ],
) -> None:
    """
    Print the configuration that the objects in FILE say together, such as those of `kubectl get pointsman -o yaml`.

    What only a cluster knows (images, nodes, Secrets) is left out, and said on stderr.
    Exit code 2: FILE cannot be used.
    """
    from pointsman.contracts.config_file import ConfigError, dump_config, read_text
    from pointsman.contracts.config_yaml import read_documents
    from pointsman.operators.conversion import LONGEST_FILE, config_of

    try:
        if str(file) == "-":
            source, text = "standard input", sys.stdin.read()
        else:
            source, text = str(file), read_text(file, most=LONGEST_FILE)
        config, notes = config_of(read_documents(text, source=source), source=source)
    except ConfigError as error:
        typer.echo(error, err=True)
        raise typer.Exit(EXIT_WRONG) from None
    typer.echo(dump_config(config), nl=False)
    for note in notes:
        typer.echo(f"note: {note}", err=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration file, for editors that check YAML while you type."""
    from pointsman.contracts.config import Config

    _print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()})


@app.command()
def reference() -> None:
    """Print the reference of all fields as Markdown: what docs/configuration.md holds."""
    from pointsman.cli.config_reference import reference_markdown

    typer.echo(reference_markdown(), nl=False)


def _notes(config: Config) -> list[Problem]:
    """What is allowed, but seldom meant."""
    from pointsman.contracts.config import BUILTIN_PREFIX
    from pointsman.contracts.config_file import Problem
    from pointsman.contracts.modes import Mode

    found = []
    for number, pool in enumerate(config.pools):
        template = pool.chat_template
        if template and not template.startswith(BUILTIN_PREFIX) and not Path(template).is_file():
            found.append(Problem(f"pools[{number}].chat_template", f"there is no file {template} on this machine"))
    if config.predictor and not Path(config.predictor).is_file():
        found.append(Problem("predictor", f"there is no file {config.predictor} on this machine"))
    for model in dict.fromkeys(pool.model for pool in config.pools):
        modes = {mode for pool in config.pools if pool.model == model for mode in pool.modes}
        if missing := set(Mode) - modes:
            (mode,) = missing
            found.append(
                Problem("pools", f"{model} has no pool for {mode}: all of its queries run in {mode.other}")
            )
    return found


def _row(pool: Pool) -> dict[str, Any]:
    """One pool as a script wants it: prices in US dollars per 1M tokens, GPUs per replica."""
    from pointsman.contracts.pricing import CacheClass

    prices = pool.prices.price_list()
    return {
        "name": pool.name,
        "model": pool.model,
        "modes": [str(mode) for mode in pool.modes],
        "engine": str(pool.engine),
        "replicas": _replicas(pool),
        "gpus_per_replica": pool.gpu.per_node * pool.nodes if pool.gpu else 0,
        "gpu": pool.gpu.type if pool.gpu else None,
        "prices": {
            "input": str(prices.input),
            "cached_input": str(prices.cached_input),
            "reasoning": str(prices.reasoning),
            "output": str(prices.answer),
            **{name.value: str(price) for name in CacheClass if (price := getattr(prices, name.value)) is not None},
        },
        "licence_notice": pool.licence_notice,
    }


def _replicas(pool: Pool) -> list[int]:
    """The fewest and the most replicas that `pool` may have."""
    if pool.urls:
        return [len(pool.urls)] * 2
    if pool.autoscaling:
        return [pool.autoscaling.min_replicas, pool.autoscaling.max_replicas]
    return [pool.replicas] * 2


def _where(pool: Pool) -> str:
    if pool.gpu is None:
        return "elsewhere" if pool.urls else "on CPU"
    nodes = f"{pool.nodes} nodes x " if pool.nodes > 1 else ""
    return f"of {nodes}{pool.gpu.per_node} x {pool.gpu.type}"


def _described(pool: Pool) -> str:
    """One pool for people, in two lines that read well at any width."""
    from pointsman.contracts.modes import Mode

    fewest, most = _replicas(pool)
    count = str(fewest) if fewest == most else f"{fewest} to {most}"
    prices = pool.prices.price_list()
    classes = {"input": prices.input, "cached input": prices.cached_input}
    if Mode.THINK in pool.modes:
        classes["reasoning"] = prices.reasoning
    classes["output"] = prices.answer
    costs = ", ".join(f"{price.normalize():f} {name}" for name, price in classes.items())
    cached = {
        "created": prices.cache_creation,
        "kept for a minute": prices.cache_storage,
        "a call (each)": prices.cache_call,
    }
    hosted = ", ".join(f"{price.normalize():f} {name}" for name, price in cached.items() if price is not None)
    return (
        f"{pool.name}: {pool.model} in {' and '.join(pool.modes)}, engine {pool.engine}, "
        f"{count} replica{'s'[: most != 1]} {_where(pool)}\n"
        f"  US dollars per 1M tokens: {costs}" + (f"; context cache: {hosted}" if hosted else "")
    )


def _print_pools(file: Path, config: Config, notes: list[Problem]) -> None:
    for pool in config.pools:
        typer.echo(_described(pool))
    for pool in config.pools:
        if pool.licence_notice:
            typer.echo(f"Licence of pool {pool.name}: {pool.licence_notice.strip()}")
    for problem in notes:
        typer.echo(f"note: {problem}")
    count, owners = len(config.pools), len(config.tenants)
    pools, tenants = f"{count} pool{'s'[: count != 1]}", f"{owners} tenant{'s'[: owners != 1]}"
    typer.echo(f"{file} is fine: {pools}, {tenants}.")


def _print_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
