"""Asking the router for what only the holder of an admin key may see or change.

Shared by the commands that do so; each has the options below and says its errors in the words found here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.cli.chatting.target import ChatError, Target, find_target
from pointsman.cli.state import DEFAULT_HOST, DEFAULT_PORT, default_state_dir
from pointsman.cli.story import printable
from pointsman.contracts.names import Env, StateFile

if TYPE_CHECKING:
    import httpx

Url = Annotated[
    str | None,
    typer.Option(
        envvar=Env.URL,
        help=f"Where the router is. Default: http://{DEFAULT_HOST}:{DEFAULT_PORT}",
        show_default=False,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        envvar=Env.ADMIN_KEY,
        help="The admin key; other users of this machine can see options, so prefer the variable. "
        "Default: the one in the state folder.",
        show_default=False,
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        help=f"State folder of the instance whose admin key to use. Default: {default_state_dir()}",
        show_default=False,
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

REFUSED, WRONG_INPUT = 1, 2
"""Exit codes: the router refused; what was given can't be used, or names no router that answers."""

TIMEOUT = 30.0
"""Seconds to wait for an answer."""


class AdminError(Exception):
    """Why the router did not do what was asked, in words for the user; `status` is 0 where it never answered."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class AdminApi:
    """The admin API of one router; with `as_tenant` what a tenant's own key opens of it."""

    def __init__(
        self, url: str | None, key: str | None, state_dir: Path | None, *, as_tenant: bool = False
    ) -> None:
        """None where the user said nothing. Raises `AdminError` where there is no address or no key."""
        variable, file_name = (
            (Env.API_KEY, StateFile.DEMO_KEY) if as_tenant else (Env.ADMIN_KEY, StateFile.ADMIN_KEY)
        )
        self._wanted = "a tenant's key" if as_tenant else "an admin key"
        try:
            self._target: Target = find_target(url, key, state_dir, variable=variable, file_name=file_name)
        except ChatError as error:
            raise AdminError(error.message) from None

    def ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """The answer to one request, where it is a good one; raises `AdminError` with the router's words if not."""
        with self._answering(method, path, json=json, content=content, params=params, headers=headers) as response:
            response.read()
        return response

    @contextlib.contextmanager
    def stream(self, path: str, *, params: dict[str, Any]) -> Iterator[httpx.Response]:
        """As `ask` with GET, for answers of any size: the body is read piece by piece while the context lasts."""
        with self._answering("GET", path, params=params) as response:
            yield response

    @contextlib.contextmanager
    def _answering(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        import httpx

        target = self._target
        try:
            with httpx.stream(
                method,
                target.url + path,
                json=json,
                content=content,
                params={name: value for name, value in (params or {}).items() if value is not None},
                headers={"authorization": f"Bearer {target.key}", **(headers or {})},
                timeout=TIMEOUT,
                trust_env=not target.local,  # a proxy for the world outside cannot reach this machine
            ) as response:
                if not response.is_success:
                    response.read()
                    raise self._refused(response)
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AdminError(
                f"No router answers at {target.url} ({type(error).__name__}). "
                "Start one with `pointsman up`, or say where it is with --url."
            ) from None

    def _refused(self, response: httpx.Response) -> AdminError:
        target = self._target
        if response.status_code == 401:
            return AdminError(
                f"{target.url} takes no orders with this key (it came from {target.key_origin}): "
                f"it wants {self._wanted}.",
                status=401,
            )
        try:
            message = str(response.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"What answers at {target.url} is no Pointsman router (HTTP {response.status_code})."
        return AdminError(message, status=response.status_code)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Say what went wrong in one sentence, and end."""
    try:
        yield
    except AdminError as error:
        typer.echo(printable(str(error)), err=True)
        raise typer.Exit(REFUSED if error.status else WRONG_INPUT) from None


def refuse(message: str) -> typer.Exit:
    """Say why what was given can't be used; to be raised."""
    typer.echo(message, err=True)
    return typer.Exit(WRONG_INPUT)
