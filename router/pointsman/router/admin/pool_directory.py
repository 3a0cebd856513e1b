"""Which pools there are now: those of the configuration file, and those that the admin API has made.

Apart from `live_pools.py`, which changes them, because most of the admin process only asks: which models there are,
whether a pool is known, which pools have one price. What it says at one moment belongs together. Safe to share
between threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pointsman.contracts.config import Config, Pool
from pointsman.contracts.modes import Mode
from pointsman.contracts.price_book import twins_of


class PoolDirectory:
    """The pools of `config`, and those that `replace` was told of."""

    def __init__(self, config: Config) -> None:
        self.of_file = {pool.name: pool for pool in config.pools}
        self._now = _State(self.of_file)

    @property
    def all(self) -> tuple[Pool, ...]:
        """Every pool: the file's in its order, then the others by name."""
        return self._now.all

    @property
    def models(self) -> frozenset[str]:
        """The models that some pool answers."""
        return self._now.models

    def named(self, name: str) -> Pool | None:
        """The pool `name`."""
        return self._now.by_name.get(name)

    def answering(self, model: str, mode: Mode) -> Pool | None:
        """The first of the pools that answer `model` in `mode`, all of which have one price."""
        return self._now.answering.get((model, mode))

    def twins(self, name: str) -> tuple[str, ...]:
        """The pool `name`, which there is, and all whose price can't differ from it."""
        state = self._now
        found = state.twins.get(name)
        if found is None:
            found = state.twins[name] = twins_of(state.all, name)
        return found

    def replace(self, made: Iterable[Pool]) -> None:
        """Let `made` be the pools beside the file's, which go before others of their name."""
        others = {pool.name: pool for pool in made if pool.name not in self.of_file}
        self._now = _State({**self.of_file, **dict(sorted(others.items()))})


class _State:
    def __init__(self, by_name: Mapping[str, Pool]) -> None:
        self.by_name = by_name
        self.all = tuple(by_name.values())
        self.models = frozenset(pool.model for pool in self.all)
        self.answering: dict[tuple[str, Mode], Pool] = {}
        for pool in self.all:
            for mode in pool.modes:
                self.answering.setdefault((pool.model, mode), pool)
        self.twins: dict[str, tuple[str, ...]] = {}
