"""`pointsman console`: the web console of one router. `pointsman up` starts it too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import logs, standalone
from pointsman.cli.state import DEFAULT_CONSOLE_PORT, DEFAULT_HOST, DEFAULT_PORT
from pointsman.contracts.names import Env


def console(
    redis_url: Annotated[
        str, typer.Option(envvar=Env.REDIS_URL, help="Redis or Valkey, where sessions are kept, keys encrypted.")
    ],
    url: Annotated[
        str, typer.Option(envvar=Env.URL, help="Where the router is; all that the console asks, it asks there.")
    ] = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = DEFAULT_CONSOLE_PORT,
    router_certificate: Annotated[
        Path | None,
        typer.Option(
            help="PEM file with the certificate that the router must show, or its authority's; its name is not "
            "checked then. Default: what the system trusts.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the web console: overview, costs, decisions and the rest, for whoever logs in with a key."""
    logs.to_stderr()
    standalone.require_redis_url(redis_url)
    standalone.require_port(host, port)
    if router_certificate is not None and not router_certificate.is_file():
        standalone.refuse(f"There is no file {router_certificate}.")
    if not url.startswith(("http://", "https://")):
        standalone.refuse("--url must begin with http:// or https://.")

    from pointsman.console import process
    from pointsman.console.settings import Settings

    process.run(Settings(host, port, url, redis_url, router_certificate))
