"""`pointsman serving`: the engines of this instance, in Ray Serve. `pointsman up` starts it."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from pointsman.contracts.names import Env


def serving(
    config: Annotated[Path, typer.Option("--config", help="The configuration file.")],
    redis_url: Annotated[str, typer.Option(help="Redis or Valkey, where replicas register.")],
    state_dir: Annotated[Path, typer.Option(help="Folder for what Ray and the engines write.")],
) -> None:
    """
    Run the pools of engine sglang in Ray Serve, until SIGTERM.

    Each replica registers in Redis once it has answered for the first time.
    Stdout carries progress, stderr the log; engines log to DIR/ray.
    """
    from pointsman.cli.instance.linux import adopt_orphans
    from pointsman.cli.instance.orphans import sweep
    from pointsman.contracts.config_file import load_config
    from pointsman.serving import run
    from pointsman.serving.local_model import ModelUnavailable

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if not os.environ.get(Env.REPLICA_SECRET):
        raise typer.BadParameter(f"the environment variable {Env.REPLICA_SECRET} must hold the replicas' secret")
    loaded = load_config(config)
    adopt_orphans()
    try:
        run.run(loaded, redis_url=redis_url, state_dir=state_dir, say=_say)
    except (run.PoolFailed, ModelUnavailable) as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(1) from None
    finally:
        for pause in sweep():
            time.sleep(pause)


def _say(sentence: str) -> None:
    typer.echo(sentence)
