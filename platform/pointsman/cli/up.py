"""`pointsman up`: the whole platform on this machine, with one command.

Only the options and their explanation; what they set in motion is in `instance/`, imported when it is called.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli.state import DEFAULT_CONSOLE_PORT, DEFAULT_HOST, DEFAULT_PORT, default_state_dir


class EngineChoice(StrEnum):
    """Which engines `up` starts."""

    SGLANG = "sglang"
    SIMULATED = "simulated"


def up(
    engine: Annotated[
        EngineChoice,
        typer.Option(help="sglang: what the configuration says. simulated: no model, made-up answers, for trials."),
    ] = EngineChoice.SGLANG,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")
    ] = DEFAULT_PORT,
    state_dir: Annotated[
        Path | None,
        typer.Option(help=f"Folder for keys, logs and sockets of this instance. Default: {default_state_dir()}"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The fleet, as YAML. Default: two pools on one small model.")
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(help="Redis or Valkey; each instance needs a database of its own. Default: starts a Valkey."),
    ] = None,
    console: Annotated[
        bool | None,
        typer.Option(
            "--console/--no-console", help="Start the web console. Default: if it is installed.", show_default=False
        ),
    ] = None,
    console_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the console; 0: any that is free.")
    ] = DEFAULT_CONSOLE_PORT,
    as_json: Annotated[
        bool, typer.Option("--json", help="When ready, print one JSON object and nothing else on stdout.")
    ] = False,
) -> None:
    """
    Start the whole platform on this machine and keep it running until Ctrl-C.

    Starts Valkey, the engines, the admin API, the router and the console. When
    they are ready it prints the URLs, a key and how to ask. A part that dies is started
    again. Ctrl-C, SIGTERM or closing the terminal stops everything in order:
    running answers are finished first, a second Ctrl-C hurries. No process
    stays behind.

    Exit codes: 0 stopped in order; 1 a part failed for good; 2 cannot start
    here, nothing was started; 128 + signal: stopped before it was ready.
    """
    import time

    from pointsman.cli.instance.start import Order, start

    order = Order(
        simulated=engine is EngineChoice.SIMULATED,
        host=host,
        port=port,
        state_dir=state_dir or default_state_dir(),
        config=config,
        redis_url=redis_url,
        as_json=as_json,
        console=console,
        console_port=console_port,
    )
    raise typer.Exit(start(order, started=time.monotonic()))
