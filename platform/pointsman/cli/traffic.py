"""`pointsman traffic`: mixed questions at a running platform, for demonstrations and tests.

Only the options and their explanation; what is played is in `playing/`, imported when it is called.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli.state import DEFAULT_HOST, DEFAULT_PORT, default_state_dir
from pointsman.contracts.names import Env

CANNOT_START = 2

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def _span(text: str) -> float:
    found = _SPAN.fullmatch(text)
    if found is None or not (seconds := float(found[1]) * _SECONDS[found[2]]):
        raise typer.BadParameter("give 90s, 15m or 2h.")
    return seconds


def traffic(
    rate: Annotated[float, typer.Option(min=0.01, max=500, help="Requests a second, on average.")] = 1.0,
    how_long: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=_span,
            metavar="TIME",
            help="How long: 90s, 15m, 2h. Default: until Ctrl-C.",
            show_default=False,
        ),
    ] = None,
    at_once: Annotated[
        int, typer.Option(min=1, max=1000, help="Requests under way at most; while they are, none is begun.")
    ] = 8,
    feedback: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the conversations whose client says which mode was right."),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed asks the same, at the same pace.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(help="The model to ask. Default: every model that the key may use.", show_default=False),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            envvar=Env.URL,
            help=f"Where the router is. Default: http://{DEFAULT_HOST}:{DEFAULT_PORT}",
            show_default=False,
        ),
    ] = None,
    tenant_key: Annotated[
        list[str] | None,
        typer.Option(
            envvar=Env.API_KEY,
            help="The API key of a tenant; several times for several tenants. Other users of this machine can see "
            "options, so prefer the variable. Default: the demo key in the state folder.",
            show_default=False,
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help=f"State folder of the instance whose demo key to use. Default: {default_state_dir()}",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end, and nothing else on stdout.")
    ] = False,
) -> None:
    """
    Play mixed questions at a running platform: for demonstrations and tests.

    Easy and hard questions of its own in English, Chinese and Japanese, short
    and with long documents, in one turn or several, streamed or whole, in
    OpenAI's and Anthropic's format; some clients say which mode they want.
    Ctrl-C ends it: running answers are read for up to 10 seconds, a second
    Ctrl-C drops them.

    Exit codes: 0 every request was answered; 1 some were not; 2 no router,
    no key, no model.
    """
    import asyncio

    from pointsman.cli.chatting.target import ChatError
    from pointsman.cli.playing.player import Score
    from pointsman.cli.playing.stage import perform, prepared

    score = Score(rate=rate, seconds=how_long, at_once=at_once, feedback=feedback, seed=seed)
    try:
        cast = prepared(url, tenant_key or [None], state_dir, model=model)
    except ChatError as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(CANNOT_START) from None
    tally = asyncio.run(perform(cast, score, as_json=as_json))
    raise typer.Exit(1 if tally.problems else 0)
