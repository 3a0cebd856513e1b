"""`pointsman router` and `pointsman admin`: the two processes of a gateway. `pointsman up` starts both."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import standalone

ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration file.")]
RedisUrl = Annotated[str, typer.Option(help="Redis or Valkey, where replicas register.")]
StateDir = Annotated[Path, typer.Option(help="Folder for counters and the admin socket.")]


def router(
    config: ConfigFile,
    redis_url: RedisUrl,
    state_dir: StateDir,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
) -> None:
    """Run the data plane: the endpoint that clients talk to."""
    from pointsman.router import process
    from pointsman.router.predictor import WeightsError

    _log_to_stderr()
    secret = standalone.read_secret()
    loaded = standalone.read_config(config)
    standalone.require_redis_url(redis_url)
    standalone.require_folder(state_dir)
    standalone.require_port(host, port)
    try:
        process.run(loaded, process.Settings(host, port, redis_url, state_dir, secret))
    except WeightsError as error:
        standalone.refuse(f"The configuration's predictor cannot be used: {error}.")


def admin(config: ConfigFile, state_dir: StateDir) -> None:
    """Run the admin process: models, metrics and documentation, behind the router."""
    from pointsman.router.admin import process

    _log_to_stderr()
    loaded = standalone.read_config(config)
    standalone.require_folder(state_dir)
    process.run(loaded, state_dir)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
