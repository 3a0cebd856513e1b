"""Which processes an instance consists of, and in which order they stop.

Pure: turns a configuration and a few addresses into `Part`s; starts nothing.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from pointsman.cli.instance.child import Part
from pointsman.cli.instance.preflight import replica_count, started_by_serving
from pointsman.cli.instance.state_folder import StateFolder
from pointsman.cli.instance.valkey import valkey_part
from pointsman.contracts.config import STARTED_ENGINES, Config, Engine
from pointsman.contracts.names import Env

COMMAND = (sys.executable, "-m", "pointsman.cli")

ROUTER = "router"
ADMIN = "admin"
LEDGER_WRITER = "ledger-writer"
CONSOLE = "console"
SERVING = "serving"

_BEYOND_DRAIN = 3.0
"""Seconds the router gets to end after its last answer, or after it gave up waiting for it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    `store` is None where the instance was given a Redis, `console` where none is wanted; `engines` are the parts
    that hold replicas.
    """

    store: Part | None
    engines: tuple[Part, ...]
    admin: Part
    ledger_writer: Part
    router: Part
    console: Part | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        first = (self.store,) if self.store else ()
        last = (self.console,) if self.console else ()
        return (*first, *self.engines, self.admin, self.ledger_writer, self.router, *last)

    @property
    def stopping_order(self) -> list[list[str]]:
        """
        Names in groups: the router first: its answers need an engine to end them, its entries a writer. The console
        goes with it, as it has nobody left to ask.
        """
        first = [self.router, *((self.console,) if self.console else ())]
        after = [self.admin, self.ledger_writer, *self.engines]
        groups = [first, after, [self.store] if self.store else []]
        return [[part.name for part in group] for group in groups]


@dataclass(frozen=True, slots=True)
class ConsolePlace:
    """Where the console listens, and the router that it asks."""

    host: str
    port: int
    router_url: str


def with_simulated_engines(config: Config) -> Config:
    """`config` with the simulated engine in every pool that Pointsman would start; pools with URLs stay."""
    pools = tuple(
        pool.model_copy(update={"engine": Engine.SIMULATED})
        if pool.engine in STARTED_ENGINES and not pool.urls
        else pool
        for pool in config.pools
    )
    return config.model_copy(update={"pools": pools})


def plan_of(
    config: Config,
    *,
    folder: StateFolder,
    redis_url: str,
    embedded_valkey: bool,
    host: str,
    port: int,
    secret: str,
    console: ConsolePlace | None = None,
) -> Plan:
    """
    The parts of an instance; `secret` is what its replicas will want to see from its router, `console` where there
    is to be one.
    """
    config_file = ("--config", str(folder.config))
    redis = ("--redis-url", redis_url)
    state = ("--state-dir", str(folder.path))
    unbuffered = {"PYTHONUNBUFFERED": "1"}
    trusted = {**unbuffered, Env.REPLICA_SECRET: secret}
    # One thread: the engines share the machine with each other and with the router.
    engine = {**trusted, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    engines = [
        Part(
            name=f"simulated-{pool.name}-{number}",
            argv=(*COMMAND, "simulate-engine", *config_file, *redis, "--pool", pool.name),
            environment=engine,
        )
        for pool in config.pools
        if pool.engine is Engine.SIMULATED and not pool.urls
        for number in range(1, replica_count(pool) + 1)
    ]
    if started_by_serving(config):
        engines.append(
            Part(
                name=SERVING,
                argv=(*COMMAND, "serving", *config_file, *redis, *state),
                environment=engine,
                stop_within=12.0,
            )
        )
    return Plan(
        store=valkey_part(folder) if embedded_valkey else None,
        engines=tuple(engines),
        admin=Part(name=ADMIN, argv=(*COMMAND, "admin", *config_file, *redis, *state), environment=unbuffered),
        ledger_writer=Part(
            name=LEDGER_WRITER,
            argv=(*COMMAND, "ledger-writer", *config_file, *redis, *state),
            environment=unbuffered,
        ),
        router=Part(
            name=ROUTER,
            argv=(*COMMAND, "router", *config_file, *redis, *state, "--host", host, "--port", str(port)),
            environment=trusted,
            stop_within=config.router.drain_timeout + _BEYOND_DRAIN,
        ),
        console=None if console is None else _console(config, console, redis, unbuffered),
    )


def _console(config: Config, place: ConsolePlace, redis: tuple[str, ...], environment: dict[str, str]) -> Part:
    certificate = () if config.router.tls is None else ("--router-certificate", config.router.tls.certificate)
    return Part(
        name=CONSOLE,
        argv=(
            *(*COMMAND, "console", *redis, "--url", place.router_url),
            *("--host", place.host, "--port", str(place.port), *certificate),
        ),
        environment=environment,
    )
