"""Counters of the data plane, in files that any process may read.

Stands beside the pipeline because a scrape must never stall a stream: the data plane adds to plain numbers and
copies those that changed, twice a second and whenever a scrape passes through, into memory-mapped files in
prometheus_client's multi-process format; the admin process folds the files of all workers into one page
(`docs/decisions/`). A counter survives its process: a restarted router adds files and the sums go on.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.utils import floatToGoString

from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import NANO, Cost, TokenClass, Usage

FLUSH_INTERVAL = 0.5
"""Seconds after which a change is in its file at the latest; a killed process loses no more than these."""

FLUSH_BATCH = 32
"""Accounts and cells that are copied in one turn of the event loop: about 0.2 ms."""

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds in seconds."""

_HELP = {
    Metric.REQUESTS: "Requests by outcome (HTTP status).",
    Metric.TOKENS: "Tokens billed, by token class.",
    Metric.COST: "US dollars billed, by token class.",
    Metric.DECISIONS: "Mode decisions by the source that determined them.",
    Metric.ESTIMATED: "Requests whose usage was estimated because the engine's own count never arrived.",
    Metric.RETRIES: "Requests sent to another replica after one failed before its first byte.",
    Metric.TTFT: "Seconds from a request's arrival to the first byte of its streamed answer.",
    Metric.DURATION: "Seconds from a request's arrival to the end of its answer.",
    Metric.STEP: "Seconds spent in each step of the pipeline, waiting not included.",
    Metric.IN_FLIGHT: "Requests in the pipeline now.",
    Metric.REPLICAS: "Replicas of each pool that can answer now.",
    Metric.RESTING_REPLICAS: "Replicas of each pool whose circuit breaker is open or half open.",
}


class Cell:
    """One number. `add` costs about a tenth of a microsecond; the copy to the file is made at the next flush."""

    __slots__ = ("_changed", "_file", "_key", "_metrics", "_scale", "_written", "value")

    def __init__(self, metrics: Metrics, file: MmapedDict, key: str, scale: int = 1) -> None:
        self._metrics = metrics
        self._file = file
        self._key = key
        self._scale = scale
        self._changed = False
        stored = file.read_value(key)[0]  # of an earlier process with this process's number
        self.value: float = stored if scale == 1 else round(stored * scale)
        """In units of the metric divided by `scale`: integers stay exact until they are written."""
        self._written = self.value

    def add(self, amount: float) -> None:
        self.value += amount
        if not self._changed:
            self._changed = True
            self._metrics.changed(self)

    def set(self, value: float) -> None:
        self.add(value - self.value)

    def write(self) -> None:
        """Copy the number to its file, if it differs from what is there."""
        self._changed = False
        if self.value != self._written:
            self._written = self.value
            self._file.write_value(self._key, self.value / self._scale, 0.0)


class Histogram:
    """A distribution over fixed buckets, part of an account that writes it."""

    __slots__ = ("_bounds", "cells", "total")

    def __init__(self, metrics: Metrics, name: str, labels: dict[str, str], bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        tops = [floatToGoString(bound) for bound in (*bounds, float("inf"))]
        self.cells = [metrics.cell("histogram", name, f"{name}_bucket", {**labels, "le": top}) for top in tops]
        self.total = metrics.cell("histogram", name, f"{name}_sum", labels)

    def observe(self, value: float) -> None:
        self.total.value += value
        self.cells[bisect_left(self._bounds, value)].value += 1


class Account:
    """
    The cells of one tenant, model, mode and pool, looked up once per request.

    Its methods change plain numbers; the account as a whole says once a flush that it has changed.
    """

    __slots__ = (
        "_changed",
        "_costs",
        "_duration",
        "_estimated",
        "_first_byte",
        "_labels",
        "_metrics",
        "_statuses",
        "_tokens",
    )

    def __init__(self, metrics: Metrics, tenant: str, model: str, mode: str, pool: str) -> None:
        self._metrics = metrics
        self._labels = {"tenant": tenant, "model": model, "mode": mode, "pool": pool}
        self._changed = False
        self._statuses: dict[int, Cell] = {}
        self._duration = Histogram(metrics, Metric.DURATION, self._labels, LATENCY_BUCKETS)
        self._first_byte: Histogram | None = None
        self._tokens: list[Cell] = []
        self._costs: list[Cell] = []
        self._estimated: Cell | None = None

    def ended(self, status: int, *, seconds: float) -> None:
        """One request ended with `status` after `seconds`."""
        if not self._changed:
            self._mark()
        cell = self._statuses.get(status)
        if cell is None:
            labels = {**self._labels, "status": str(status)}
            cell = self._statuses[status] = self._metrics.counter(Metric.REQUESTS, labels)
        cell.value += 1
        self._duration.observe(seconds)

    def first_byte(self, seconds: float) -> None:
        """An answer began after `seconds`."""
        if not self._changed:
            self._mark()
        if self._first_byte is None:
            self._first_byte = Histogram(self._metrics, Metric.TTFT, self._labels, LATENCY_BUCKETS)
        self._first_byte.observe(seconds)

    def spent(self, usage: Usage, cost: Cost) -> None:
        """Add the tokens and the nano-dollars of one request."""
        if not self._changed:
            self._mark()
        if not self._tokens:
            for token_class in TokenClass:
                labels = {**self._labels, "token_class": token_class.value}
                self._tokens.append(self._metrics.counter(Metric.TOKENS, labels))
                self._costs.append(self._metrics.counter(Metric.COST, labels, scale=NANO))
        for cell, tokens in zip(self._tokens, usage, strict=False):  # the usage's last field is no token class
            cell.value += tokens
        for cell, nano in zip(self._costs, cost, strict=True):
            cell.value += nano
        if usage.estimated:
            if self._estimated is None:
                self._estimated = self._metrics.counter(Metric.ESTIMATED, self._labels)
            self._estimated.value += 1

    def write(self) -> None:
        """Copy every number that has changed to its file."""
        self._changed = False
        for cell in self._statuses.values():
            cell.write()
        for cell in self._tokens:
            cell.write()
        for cell in self._costs:
            cell.write()
        for histogram in (self._duration, self._first_byte):
            if histogram is not None:
                histogram.total.write()
                for cell in histogram.cells:
                    cell.write()
        if self._estimated is not None:
            self._estimated.write()

    def _mark(self) -> None:
        self._changed = True
        self._metrics.changed(self)


class Written(Protocol):
    """Numbers that wait to be copied to their files."""

    def write(self) -> None:
        """Copy what has changed."""


class Metrics:
    """
    All numbers of one data-plane process.

    `directory` is shared by all workers of one instance; `schedule` runs a function once after some seconds (a
    loop's `call_later`). Not thread-safe: one event loop owns it.
    """

    def __init__(self, directory: Path, schedule: Callable[[float, Callable[[], None]], object]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        _drop_gauges_of_the_dead(directory)
        self._directory = directory
        self._schedule = schedule
        self._files: dict[str, MmapedDict] = {}
        self._cells: dict[str, Cell] = {}
        self._accounts: dict[tuple[str, str, str, str], Account] = {}
        self._changed: list[Written] = []
        self._scheduled = False
        self.in_flight = self.cell("gauge_livesum", Metric.IN_FLIGHT, Metric.IN_FLIGHT, {})
        self.in_flight.set(0)

    def account(self, tenant: str, model: str, mode: str, pool: str) -> Account:
        """The cells of one tenant, model, mode and pool; an empty string where a request never got that far."""
        key = (tenant, model, mode, pool)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(self, tenant, model, mode, pool)
        return account

    def counter(self, name: str, labels: dict[str, str], *, scale: int = 1) -> Cell:
        """The counter `name` (as scraped, ending in `_total`) with `labels`."""
        return self.cell("counter", name.removesuffix("_total"), name, labels, scale=scale)

    def gauge(self, name: str, labels: dict[str, str]) -> Cell:
        """A gauge that every worker reports alike: the greatest value is shown."""
        return self.cell("gauge_livemax", name, name, labels)

    def step_time(self, step: str) -> Cell:
        return self.counter(Metric.STEP, {"step": step})

    def cell(self, kind: str, family: str, sample: str, labels: dict[str, str], *, scale: int = 1) -> Cell:
        """One number of the metric `family`; `kind` as prometheus_client names its files."""
        help_text = _HELP[sample] if sample in _HELP else _HELP[family]
        key = mmap_key(family, sample, list(labels), list(labels.values()), help_text)
        cell = self._cells.get(key)
        if cell is None:
            file = self._files.get(kind)
            if file is None:
                path = self._directory / f"{kind}_{os.getpid()}.db"
                file = self._files[kind] = MmapedDict(str(path))
            cell = self._cells[key] = Cell(self, file, key, scale)
        return cell

    def changed(self, item: Written) -> None:
        """`item` waits to be copied at the next flush, at most `FLUSH_INTERVAL` from now."""
        self._changed.append(item)
        if not self._scheduled:
            self._scheduled = True
            self._schedule(FLUSH_INTERVAL, self._flush_some)

    def flush(self) -> None:
        """Copy every changed number to its file now."""
        changed, self._changed = self._changed, []
        for item in changed:
            item.write()

    def _flush_some(self) -> None:
        """Copy a few, and the others in turns of their own: no stream waits for a thousand tenants' numbers."""
        changed = self._changed
        now, self._changed = changed[:FLUSH_BATCH], changed[FLUSH_BATCH:]
        for item in now:
            item.write()
        self._scheduled = bool(self._changed)
        if self._scheduled:
            self._schedule(0.0, self._flush_some)

    def close(self) -> None:
        """Write what is left; gauges of a process that has ended say nothing any more."""
        self.in_flight.set(0)
        self.flush()
        for kind, file in self._files.items():
            file.close()
            if kind.startswith("gauge"):
                (self._directory / f"{kind}_{os.getpid()}.db").unlink(missing_ok=True)


def _drop_gauges_of_the_dead(directory: Path) -> None:
    """A process that was killed could not take its gauges back; they would be summed for ever."""
    for path in directory.glob("gauge_*.db"):
        try:
            os.kill(int(path.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except PermissionError:
            continue  # alive, and somebody else's
