"""Adapting a predictor to a tenant, and judging the result: what `train --base` and `evaluate --against` do.

Beside `predictor_training.py`, whose commands these are; imported when they run, since NumPy comes with it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import typer

from pointsman.cli.predictor_files import BUNDLED
from pointsman.contracts.config_types import PREDICTOR_PATTERN
from pointsman.router.predictor import Predictor, adaptation, artefact, corpus, gate, tenant_rows

_TOLD = {"accuracy": "accuracy", "auroc": "AUROC", "loss": "log loss"}

REFUSED = 1
"""Exit code: the predictor may not hold."""


def train(
    base: Path, data: Path, output: Path, *, name: str, as_json: bool, progress: Callable[[str], None]
) -> None:
    """
    Adapt the weights in `base` to the rows in `data`, write `output`, and say what the gate makes of it.

    Raises `WeightsError` and `CorpusError` where a file can't be used, ValueError for another `name` than a version
    may begin with, and OSError.
    """
    today = datetime.now(UTC).date().isoformat()
    if not re.fullmatch(PREDICTOR_PATTERN, f"{name}-{today}-0123456789") or name == artefact.BASE:
        raise ValueError(
            f"--name takes up to 40 lower-case letters, digits and dashes, and not `{artefact.BASE}`: not '{name}'"
        )
    made = adaptation.adapt(
        artefact.read(_file(base)), tenant_rows.load(data), name=name, created=today, progress=progress
    )
    artefact.write(made, output)
    if as_json:
        _print({"output": str(output), "predictor": made.version, **made.report})
        return
    typer.echo(f"{output}: {made.version}, adapted from {made.base}")
    typer.echo(f"  {made.report['training_rows']} rows to learn from, {made.report['held_out_rows']} held out")
    _tell(made.report["gate"])


def evaluate(weights: Path, against: Path, data: Path, *, as_json: bool) -> None:
    """
    Say whether the predictor in `weights` may hold in place of that in `against`, by the rows in `data`.

    Raises as `train` does, and `typer.Exit` with `REFUSED` where it may not.
    """
    new, base = Predictor.load(_file(weights)), Predictor.load(_file(against))
    rows = tenant_rows.load(data)
    verdict = gate.judge(new, base, rows.held_out, corpus.own_rows()).as_json()
    if as_json:
        _print({"predictor": new.version, "against": base.version, **verdict})
    else:
        _tell(verdict)
    if not verdict["passed"]:
        raise typer.Exit(REFUSED)


def _file(given: Path) -> Path | None:
    return None if str(given) == BUNDLED else given


def _tell(verdict: dict[str, Any]) -> None:
    for title, figures in (("held-out rows", verdict["tenant"]), ("base set", verdict["base_set"])):
        told = (f"{words} {figures[f'{name}_base']:.3f} -> {figures[name]:.3f}" for name, words in _TOLD.items())
        typer.echo(f"  {title:<13} {figures['rows']:>5}  {'  '.join(told)}")
    typer.echo(f"gate: {'passed' if verdict['passed'] else 'NOT passed'}. {verdict['reason']}")


def _print(value: object) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
