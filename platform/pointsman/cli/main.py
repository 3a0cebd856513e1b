"""The root of the command line: names the sub-commands, imports none of the rooms behind them.

Each command's own module imports its room inside the function, so that `pointsman --help` answers at once and
with any one extra installed.
"""

from __future__ import annotations

import typer

from pointsman.cli import chat, config, predictor, router, serving, simulate_engine, up

app = typer.Typer(
    name="pointsman",
    help="Pointsman throws the points: every query runs down the right track, thinking or not.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("up")(up.up)
app.command("chat")(chat.chat)
app.add_typer(config.app, name="config")
app.command("serving")(serving.serving)
app.command("simulate-engine")(simulate_engine.simulate_engine)
app.command("router")(router.router)
app.command("admin")(router.admin)
app.command("explain")(predictor.explain)
app.command("predict")(predictor.predict)
app.command("train")(predictor.train)
app.command("evaluate")(predictor.evaluate)


def main() -> None:
    """Entry point of the console script."""
    app()
