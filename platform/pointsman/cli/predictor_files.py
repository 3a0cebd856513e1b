"""What the predictor's commands share: the weights file that one names, and how they tell results and refusals.

Beside `predictor.py` and `predictor_training.py`. Light at the top: NumPy is imported inside the functions. With
`--json` stdout holds JSON and nothing else; progress and errors go to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from pointsman.router.predictor import Predictor

out = Console(highlight=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
WeightsFile = Annotated[
    Path | None,
    typer.Option("--weights", help="Weights file to judge by. Default: the one that ships with Pointsman."),
]

BUNDLED = "bundled"
"""Stands for the weights that ship, where a file is asked for."""


def load(weights: Path | None) -> Predictor:
    """The predictor of a weights file, by default the one that ships; ends the command where there is none."""
    from pointsman.router.predictor import Predictor, WeightsError

    try:
        return Predictor.load(weights)
    except WeightsError as error:
        fail(str(error))


@contextmanager
def refusals() -> Iterator[None]:
    """Say in one sentence what can't be used of what was given."""
    from pointsman.router.predictor import WeightsError
    from pointsman.router.predictor.corpus import CorpusError

    try:
        yield
    except (WeightsError, CorpusError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write {error.filename}: {error.strerror or error}")


def print_json(value: object) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def fail(sentence: str) -> NoReturn:
    """End the command with a refusal."""
    err.print(f"error: {escape(sentence)}", style="red")
    raise typer.Exit(2)
