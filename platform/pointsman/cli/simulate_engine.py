"""`pointsman simulate-engine`: one simulated replica, for trials and load tests.

Only reads the command line and the configuration; the engine itself is `pointsman.serving.simulated`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.cli import standalone
from pointsman.contracts.config_types import PATTERN_MEANINGS, REVISION_PATTERN
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Env


def simulate_engine(
    config: Annotated[
        Path | None, typer.Option(help="Configuration file; with --pool, whom to stand in for.")
    ] = None,
    pool: Annotated[str | None, typer.Option(help="Pool of the configuration, or the name to register as.")] = None,
    revision: Annotated[
        str, typer.Option(metavar="NAME", help="Revision of the pool to register as. Default: none.")
    ] = "",
    redis_url: Annotated[
        str | None, typer.Option(envvar=Env.REDIS_URL, help="Redis to register in. Default: register nowhere.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 0,
    model: Annotated[str | None, typer.Option(help="Model name, without --config. Default: simulated.")] = None,
    mode: Annotated[
        list[Mode] | None,
        typer.Option(help="Mode, without --config; twice for an engine that can do both. Default: no_think."),
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=64, help="Context window in tokens. Default: the pool's, else 8192.")
    ] = None,
    prefill_speed: Annotated[
        float | None, typer.Option(help="Prompt tokens read per second; `inf` for no delay. Default: 20000.")
    ] = None,
    decode_speed: Annotated[
        float | None, typer.Option(help="Tokens said per second and answer; `inf` for no delay. Default: 100.")
    ] = None,
    answer_tokens: Annotated[
        str | None, typer.Option(metavar="N|LOW:HIGH", help="Length of answers in tokens. Default: 48.")
    ] = None,
    thinking_tokens: Annotated[
        str | None, typer.Option(metavar="N|LOW:HIGH", help="Length of thinking in tokens. Default: 96.")
    ] = None,
    max_running: Annotated[
        int | None, typer.Option(help="Answers written at a time; more wait. Default: 1024.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=RATE",
            help="Let a share of requests go wrong, e.g. error=0.05; may be given several times. Kinds: error, "
            "hang, die, garbage, garbage_body, error_midstream, hang_midstream, die_midstream, "
            "garbage_midstream, truncate, slow.",
        ),
    ] = None,
    fault_seed: Annotated[int | None, typer.Option(help="Seed that draws the faults. Default: 0.")] = None,
    keep_requests: Annotated[
        int | None,
        typer.Option(
            help="Test aid: keep the last N requests, prompts included, for GET /simulated/requests. Default: 0."
        ),
    ] = None,
) -> None:
    """
    Stand in for one SGLang replica, without a model: for trials and load tests.

    Every text it sends says that it is simulated. Needs the variable
    POINTSMAN_REPLICA_SECRET and refuses any POST that does not carry its value.
    Runs until SIGTERM or Ctrl-C.
    """
    from pointsman.serving.simulated import server
    from pointsman.serving.simulated.settings import (
        Identity,
        SettingsError,
        identity_of,
        pool_settings,
        settings_from,
    )

    secret = standalone.read_secret()
    if redis_url and not pool:
        standalone.refuse("--redis-url needs --pool: a replica registers under its pool's name.")
    if redis_url:
        standalone.require_redis_url(redis_url)
    if re.fullmatch(REVISION_PATTERN, revision) is None:
        standalone.refuse(f"--revision {PATTERN_MEANINGS[REVISION_PATTERN]}.")
    given: dict[str, Any] = {}
    try:
        if config is None:
            identity = Identity(
                model=model or "simulated",
                modes=tuple(mode or (Mode.NO_THINK,)),
                context=context or 8192,
                pool=pool,
                revision=revision,
            )
        else:
            if model or mode or not pool:
                standalone.refuse(
                    "--config needs --pool, and takes model and mode from it: leave out --model, --mode."
                )
            chosen = next((entry for entry in standalone.read_config(config).pools if entry.name == pool), None)
            if chosen is None:
                standalone.refuse(f"{config} has no pool named {pool!r}.")
            identity = identity_of(chosen).model_copy(update={"revision": revision})
            if context is not None:
                identity = identity.model_copy(update={"context": context})
            given |= pool_settings(chosen)
        flags = {
            "prefill_speed": prefill_speed,
            "decode_speed": decode_speed,
            "answer_tokens": answer_tokens,
            "thinking_tokens": thinking_tokens,
            "max_running": max_running,
            "fault_rates": dict(entry.partition("=")[::2] for entry in fault) if fault else None,
            "fault_seed": fault_seed,
            "keep_requests": keep_requests,
        }
        settings = settings_from(given | {name: value for name, value in flags.items() if value is not None})
        server.run(identity, settings, host=host, port=port, secret=secret, redis_url=redis_url)
    except (SettingsError, server.CannotListen) as error:
        standalone.refuse(str(error))
