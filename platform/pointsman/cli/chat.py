"""`pointsman chat`: talk to the platform, and see which track each answer took, why, and what it cost.

Only the options and their explanation; the conversation is in `chatting/`, imported when it is called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli.state import DEFAULT_HOST, DEFAULT_PORT, default_state_dir
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Env

CANNOT_START = 2


def chat(
    question: Annotated[
        str | None,
        typer.Argument(help="Ask this one question and leave; `-` reads it from stdin.", show_default=False),
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="The track to take. Default: the platform chooses.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model to ask. Default: the first one.", show_default=False),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            envvar=Env.URL,
            help=f"Where the router is. Default: http://{DEFAULT_HOST}:{DEFAULT_PORT}",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar=Env.API_KEY,
            help="The API key; other users of this machine can see options, so prefer the variable. "
            "Default: the demo key in the state folder.",
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
        bool, typer.Option("--json", help="Print one JSON object for each answer instead of text.")
    ] = False,
) -> None:
    """
    Talk to the platform: see which track each answer took, why, and what it cost.

    Without a question it reads them from the terminal, or line by line from
    stdin; Ctrl-C stops an answer. Commands: /think, /no_think, /auto, /new, /quit.

    Exit codes: 0 every question was answered; 1 one was not, or was stopped;
    2 no router, no key, no model, no question.
    """
    from pointsman.cli.chatting.client import Router
    from pointsman.cli.chatting.screen import JsonScreen, Screen, TerminalScreen
    from pointsman.cli.chatting.session import Session
    from pointsman.cli.chatting.target import ChatError, find_target

    screen: Screen = JsonScreen() if as_json else TerminalScreen()
    try:
        if question == "-":
            question = sys.stdin.read()
        if question is not None and not question.strip():
            raise ChatError("There is no question: it is empty.")
        router = Router(find_target(url, key, state_dir))
        offered = router.models()
        if not offered:
            raise ChatError("This key may use no model.", code="model_not_found")
        if model is not None and model.partition(":")[0] not in offered:
            raise ChatError(f"There is no model {model}; this key may use {', '.join(offered)}.")
    except ChatError as error:
        screen.failed(error)
        raise typer.Exit(CANNOT_START) from None
    session = Session(router, screen, model=model or offered[0], mode=mode)
    try:
        whole = session.converse() if question is None else session.ask(question.strip())
    finally:
        router.close()
    raise typer.Exit(0 if whole else 1)
