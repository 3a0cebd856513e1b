"""`pointsman router`, `admin` and `ledger-writer`: the processes of a gateway. `pointsman up` starts them all."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import standalone

ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration file.")]
RedisUrl = Annotated[str, typer.Option(help="Redis or Valkey, where replicas register and policies go live.")]
StateDir = Annotated[Path, typer.Option(help="Folder for counters and the admin socket.")]


def router(
    config: ConfigFile,
    redis_url: RedisUrl,
    state_dir: StateDir,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(help="Processes that share the port.", min=1, max=256)] = 1,
) -> None:
    """Run the data plane: the endpoint that clients talk to."""
    _log_to_stderr()
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


def admin(config: ConfigFile, redis_url: RedisUrl, state_dir: StateDir) -> None:
    """Run the admin process: models, policies, decisions, metrics and documentation, behind the router."""
    from pointsman.router.admin import process
    from pointsman.store.database import DatabaseError

    _log_to_stderr()
    loaded = standalone.read_config(config)
    standalone.require_redis_url(redis_url)
    standalone.require_folder(state_dir)
    try:
        process.run(loaded, process.Settings(redis_url, state_dir))
    except DatabaseError as error:
        standalone.refuse(f"The configuration's database cannot be used: {error}.")


def ledger_writer(config: ConfigFile, redis_url: RedisUrl, state_dir: StateDir) -> None:
    """Run the ledger writer: brings what requests used and cost from the routers to the database."""
    from pointsman.router.ledger import process
    from pointsman.store.database import DatabaseError

    _log_to_stderr()
    loaded = standalone.read_config(config)
    standalone.require_redis_url(redis_url)
    standalone.require_folder(state_dir)
    try:
        process.run(loaded, process.Settings(redis_url, state_dir))
    except DatabaseError as error:
        standalone.refuse(f"The configuration's database cannot be used: {error}.")


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s")
