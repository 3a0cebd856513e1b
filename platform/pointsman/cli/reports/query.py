"""What a report is asked for, and its rows as they come: one at a time, so that a report may be of any size."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from pointsman.cli.admin_api import AdminApi, refuse

By = Annotated[
    str,
    typer.Option(help="What to split by, with commas between: tenant, key, model, mode, pool, cache, hour, day."),
]
Since = Annotated[
    str, typer.Option(help="From when on: a span back from now (12h, 7d, 4w) or a moment (2026-01-01).")
]
Until = Annotated[
    str | None, typer.Option(help="Up to when, that moment not included. Default: now.", show_default=False)
]
Tenant = Annotated[str | None, typer.Option(help="Of this tenant alone.", show_default=False)]
Model = Annotated[str | None, typer.Option(help="Of this model alone.", show_default=False)]
Mode = Annotated[str | None, typer.Option(help="Of this mode alone.", show_default=False)]
Pool = Annotated[str | None, typer.Option(help="Of this pool alone.", show_default=False)]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write. Default: the terminal.", show_default=False)
]


class Report(NamedTuple):
    """The rows of a report, each a mapping; `by`: the names of those that it is split by."""

    by: list[str]
    since: str
    until: str
    rows: Iterator[dict[str, Any]]


@contextmanager
def asked(api: AdminApi, path: str, params: dict[str, Any]) -> Iterator[Report]:
    """The report at `path`, for as long as the context lasts. Raises `AdminError`."""
    with api.stream(path, params={**params, "format": "ndjson"}) as response:
        lines = response.iter_lines()
        head = json.loads(next(lines))
        yield Report(head["by"], head["since"], head["until"], (json.loads(line) for line in lines))


def copied(api: AdminApi, path: str, params: dict[str, Any], output: Path | None) -> None:
    """What the router itself writes in the format that `params` name, to `output` or the terminal."""
    with api.stream(path, params=params) as response, opened(output) as file:
        for piece in response.iter_bytes():
            file.write(piece)


@contextmanager
def opened(output: Path | None) -> Iterator[Any]:
    """
    A binary file to write, or the terminal. The file is there under its name once all of it is written, and not
    before; one that can't be written ends the command with a sentence.
    """
    if output is None:
        stream = typer.get_binary_stream("stdout")
        yield stream
        stream.flush()
        return
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(output)
    except OSError as error:
        raise refuse(f"{output} can't be written: {error.strerror or type(error).__name__}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
