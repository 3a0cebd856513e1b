"""`pointsman router`, `admin` and `ledger-writer`: the processes of a gateway. `pointsman up` starts them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import logs, standalone
from pointsman.contracts.names import Env

ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration file.")]
RedisUrl = Annotated[
    str, typer.Option(envvar=Env.REDIS_URL, help="Redis or Valkey, where replicas register and policies go live.")
]
StateDir = Annotated[Path, typer.Option(help="Folder for counters and the admin socket.")]
MetricsHost = Annotated[str, typer.Option(help="Address at which to answer metrics and health to a cluster.")]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        help="Port for /metrics and /healthz, open to whoever reaches it. Default: none.",
        show_default=False,
    ),
]


def router(
    config: ConfigFile,
    redis_url: RedisUrl,
    state_dir: StateDir,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(help="Processes that share the port.", min=1, max=256)] = 1,
) -> None:
    """Run the data plane: the endpoint that clients talk to."""
    logs.to_stderr()
    secret = standalone.read_secret()
    loaded = standalone.read_config(config)
    standalone.require_redis_url(redis_url)
    standalone.require_folder(state_dir)
    standalone.require_port(host, port)

    def serve(lifeline: int | None) -> int:
        # Imported here: the parent of workers needs none of it.
        from pointsman.router import process
        from pointsman.router.http.tls import TlsError
        from pointsman.router.predictor import WeightsError

        try:
            process.run(loaded, process.Settings(host, port, redis_url, state_dir, secret, lifeline))
        except WeightsError as error:
            typer.echo(f"The configuration's predictor cannot be used: {error}.", err=True)
            return standalone.WRONG_INPUT
        except TlsError as error:
            typer.echo(str(error), err=True)
            return standalone.WRONG_INPUT
        return 0

    if workers == 1:
        raise typer.Exit(serve(None))
    from pointsman.router.workers import Workers, reserved

    with reserved(host, port):
        raise typer.Exit(Workers(workers, serve, hopeless=standalone.WRONG_INPUT).run())


def admin(
    config: ConfigFile,
    redis_url: RedisUrl,
    state_dir: StateDir,
    metrics_host: MetricsHost = "127.0.0.1",
    metrics_port: MetricsPort = None,
) -> None:
    """Run the admin process: models, policies, decisions, metrics and documentation, behind the router."""
    from pointsman.router.admin import process
    from pointsman.store.database import DatabaseError

    logs.to_stderr()
    loaded = standalone.read_config(config)
    standalone.require_redis_url(redis_url)
    standalone.require_folder(state_dir)
    if metrics_port is not None:
        standalone.require_port(metrics_host, metrics_port)
    page = None if metrics_port is None else (metrics_host, metrics_port)
    try:
        process.run(loaded, process.Settings(redis_url, state_dir, page))
    except DatabaseError as error:
        standalone.refuse(f"The configuration's database cannot be used: {error}.")


def ledger_writer(
    config: ConfigFile,
    redis_url: RedisUrl,
    state_dir: StateDir,
    metrics_host: MetricsHost = "127.0.0.1",
    metrics_port: MetricsPort = None,
) -> None:
    """Run the ledger writer: brings what requests used and cost from the routers to the database."""
    from pointsman.router.ledger import process
    from pointsman.store.database import DatabaseError

    logs.to_stderr()
    loaded = standalone.read_config(config)
    standalone.require_redis_url(redis_url)
    standalone.require_folder(state_dir)
    if metrics_port is not None:
        standalone.require_port(metrics_host, metrics_port)
    page = None if metrics_port is None else (metrics_host, metrics_port)
    try:
        process.run(loaded, process.Settings(redis_url, state_dir, page))
    except DatabaseError as error:
        standalone.refuse(f"The configuration's database cannot be used: {error}.")
