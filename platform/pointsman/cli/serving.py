"""`pointsman serving`: the engines of this instance, in Ray Serve. `pointsman up` starts it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import standalone
from pointsman.contracts.names import Env


def serving(
    config: Annotated[Path, typer.Option("--config", help="The configuration file.")],
    redis_url: Annotated[str, typer.Option(envvar=Env.REDIS_URL, help="Redis or Valkey, where replicas register.")],
    state_dir: Annotated[Path, typer.Option(help="Folder for what Ray and the engines write.")],
) -> None:
    """
    Run the pools of engine sglang in Ray Serve, until SIGTERM.

    Each replica registers in Redis once it has answered for the first time.
    Stdout carries progress, stderr the log; engines log into `ray` in the state folder.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    standalone.read_secret()  # the replicas take it from the environment themselves
    loaded = standalone.read_config(config)
    standalone.require_redis_url(redis_url)
    standalone.require_folder(state_dir)

    # After the checks: it takes seconds.
    from pointsman.cli.instance.linux import adopt_orphans
    from pointsman.cli.instance.orphans import sweep
    from pointsman.serving import run
    from pointsman.serving.local_model import ModelUnavailable

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
