"""`pointsman router` and `pointsman admin`: the two processes of a gateway. `pointsman up` starts both."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from pointsman.contracts.names import Env

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
    from pointsman.contracts.config_file import load_config
    from pointsman.router import process

    _log_to_stderr()
    secret = os.environ.get(Env.REPLICA_SECRET, "")
    if not secret:
        raise typer.BadParameter(f"the environment variable {Env.REPLICA_SECRET} must hold the replicas' secret")
    loaded = load_config(config)
    process.run(loaded, process.Settings(host, port, redis_url, state_dir, secret))


def admin(config: ConfigFile, state_dir: StateDir) -> None:
    """Run the admin process: models, metrics and documentation, behind the router."""
    from pointsman.contracts.config_file import load_config
    from pointsman.router.admin import process

    _log_to_stderr()
    process.run(load_config(config), state_dir)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
