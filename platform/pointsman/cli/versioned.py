"""What the commands share that change what the admin API holds in versions: pools, tenants, policies.

They are YAML on the command line; a mistake is told with its line before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from urllib.parse import quote

import typer

from pointsman.cli.admin_api import AdminApi, refuse

if TYPE_CHECKING:
    from pydantic import BaseModel

    class Load(Protocol):
        """Reads a document from a file; `name` is its name where the file says none."""

        def __call__(self, path: Path, *, name: str | None) -> BaseModel: ...


IfVersion = Annotated[
    int | None,
    typer.Option(help="Change it only if this is its newest version. Default: whatever it is.", show_default=False),
]
Manager = Annotated[
    str | None,
    typer.Option(help="Who looks after it and alone may change it. Default: api", show_default=False),
]


def path_of(root: str, name: str) -> str:
    """Where the one called `name` is, of those below `root`."""
    return f"{root}/{quote(name, safe='')}"


def if_match(version: int | None) -> dict[str, str]:
    """The header that makes a change depend on `version`; none where any will do."""
    return {} if version is None else {"if-match": f'"{version}"'}


def if_unchanged(api: AdminApi, path: str, version: int | None) -> dict[str, str]:
    """The same where a version is given; else the change depends on what is at `path` now."""
    return if_match(version) or {"if-match": api.ask("GET", path).headers["etag"]}


def body_of(load: Callable[[], BaseModel]) -> dict[str, Any]:
    """What `load` reads, as the admin API takes it; ends the command where there is something wrong with it."""
    from pointsman.contracts.config_problems import ConfigError

    try:
        document = load()
    except ConfigError as error:
        raise refuse(str(error)) from None
    return document.model_dump(mode="json", exclude_unset=True)


def body_called(name: str, file: Path, load: Load) -> dict[str, Any]:
    """The same for what is in `file`, where that has to be called `name`."""
    body = body_of(partial(load, file, name=name))
    if body["name"] != name:
        raise refuse(f"{file}: name: is {body['name']}, not {name}")
    return body


def tell_live(live: bool) -> None:
    """Say so where routers have not heard of a change."""
    if not live:
        typer.echo("Redis is away: routers will hear of it when it is back.", err=True)
