"""Pools and fleets for unit tests: of real parts, without processes behind their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pointsman.contracts.config import Config, Pool
from pointsman.contracts.names import Metric
from pointsman.router.fleet import Fleet, PoolState, Replica
from pointsman.router.metrics import Metrics
from pointsman.store.replicas import Reading

NOTHING = Reading((), frozenset(), None)


def config_with(*pools: dict[str, Any], **fields: Any) -> Config:
    """A configuration of `pools`, each given by what is not usual about it."""
    usual = {
        "name": "p",
        "model": "m",
        "modes": ["think"],
        "engine": "simulated",
        "prices": {"input": 1, "output": 2},
    }
    return Config.model_validate({"pools": [{**usual, **pool} for pool in pools or ({},)], **fields})


def metrics_in(folder: Path) -> Metrics:
    """Metrics that are never written."""
    return Metrics(folder)


def fleet_of(config: Config, folder: Path) -> Fleet:
    """The fleet of `config`, whose store is never asked."""
    return Fleet(config, cast(Any, None), metrics_in(folder), secret="s")


def pool_of(count: int, folder: Path, **fields: Any) -> PoolState:
    """A pool of `count` healthy replicas."""
    config: Pool = config_with(fields).pools[0]
    metrics = metrics_in(folder)
    state = PoolState(config, metrics.gauge(Metric.REPLICAS, {}), metrics.gauge(Metric.RESTING_REPLICAS, {}))
    add(state, [f"10.0.0.{number}:80" for number in range(count)])
    return state


def add(state: PoolState, addresses: Sequence[str], *, revision: str = "") -> None:
    """Healthy replicas of one revision at `addresses` join the pool."""
    for address in addresses:
        replica = state.replicas[address] = Replica(state.config.name, address, "i", revision=revision)
        replica.healthy = True
    state.refresh()
