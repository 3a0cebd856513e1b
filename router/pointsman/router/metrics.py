"""Counters of the data plane, in files that any process may read.

Stands beside the pipeline because a scrape must never stall a stream: the data plane adds to plain numbers and
copies those that changed, once a loop turn, into memory-mapped files in prometheus_client's multi-process
format; the admin process folds the files of all workers into one page (`docs/decisions/`). A counter survives
its process: a restarted router adds files and the sums go on.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.utils import floatToGoString

from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import NANO, Cost, TokenClass, Usage

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
}


class Cell:
    """One number. `add` costs about a tenth of a microsecond; the copy to the file is made once a loop turn."""

    __slots__ = ("_dirty", "_file", "_key", "_metrics", "_scale", "value")

    def __init__(self, metrics: Metrics, file: MmapedDict, key: str, scale: int = 1) -> None:
        self._metrics = metrics
        self._file = file
        self._key = key
        self._scale = scale
        self._dirty = False
        stored = file.read_value(key)[0]  # of an earlier process with this process's number
        self.value: float = stored if scale == 1 else round(stored * scale)
        """In units of the metric divided by `scale`: integers stay exact until they are written."""

    def add(self, amount: float) -> None:
        self.value += amount
        if not self._dirty:
            self._dirty = True
            self._metrics.changed(self)

    def set(self, value: float) -> None:
        self.add(value - self.value)

    def write(self) -> None:
        """Copy the number to its file."""
        self._dirty = False
        self._file.write_value(self._key, self.value / self._scale, 0.0)


class Histogram:
    """A distribution over fixed buckets."""

    __slots__ = ("_bounds", "_cells", "_sum")

    def __init__(self, metrics: Metrics, name: str, labels: dict[str, str], bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        tops = [floatToGoString(bound) for bound in (*bounds, float("inf"))]
        self._cells = [metrics.cell("histogram", name, f"{name}_bucket", {**labels, "le": top}) for top in tops]
        self._sum = metrics.cell("histogram", name, f"{name}_sum", labels)

    def observe(self, value: float) -> None:
        self._sum.add(value)
        self._cells[bisect_left(self._bounds, value)].add(1)


class Account:
    """The cells of one tenant, model, mode and pool, looked up once per request."""

    def __init__(self, metrics: Metrics, tenant: str, model: str, mode: str, pool: str) -> None:
        self._metrics = metrics
        self._labels = {"tenant": tenant, "model": model, "mode": mode, "pool": pool}
        self._statuses: dict[int, Cell] = {}
        self._tokens: list[tuple[Cell, Cell]] | None = None
        self._first_byte: Histogram | None = None
        self._duration: Histogram | None = None
        self._estimated: Cell | None = None

    def ended(self, status: int, *, seconds: float) -> None:
        """One request ended with `status` after `seconds`."""
        cell = self._statuses.get(status)
        if cell is None:
            labels = {**self._labels, "status": str(status)}
            cell = self._statuses[status] = self._metrics.counter(Metric.REQUESTS, labels)
        cell.add(1)
        if self._duration is None:
            self._duration = Histogram(self._metrics, Metric.DURATION, self._labels, LATENCY_BUCKETS)
        self._duration.observe(seconds)

    def first_byte(self, seconds: float) -> None:
        if self._first_byte is None:
            self._first_byte = Histogram(self._metrics, Metric.TTFT, self._labels, LATENCY_BUCKETS)
        self._first_byte.observe(seconds)

    def spent(self, usage: Usage, cost: Cost) -> None:
        """Add the tokens and the nano-dollars of one request."""
        cells = self._tokens
        if cells is None:
            cells = self._tokens = [self._money_cells(token_class) for token_class in TokenClass]
        amounts = (
            (usage.input, cost.input),
            (usage.cached_input, cost.cached_input),
            (usage.reasoning, cost.reasoning),
            (usage.answer, cost.answer),
        )
        for (tokens, nano), (token_cell, cost_cell) in zip(amounts, cells, strict=True):
            if tokens:
                token_cell.add(tokens)
                cost_cell.add(nano)
        if usage.estimated:
            if self._estimated is None:
                self._estimated = self._metrics.counter(Metric.ESTIMATED, self._labels)
            self._estimated.add(1)

    def _money_cells(self, token_class: TokenClass) -> tuple[Cell, Cell]:
        labels = {**self._labels, "token_class": token_class.value}
        return (
            self._metrics.counter(Metric.TOKENS, labels),
            self._metrics.counter(Metric.COST, labels, scale=NANO),
        )


class Metrics:
    """
    All numbers of one data-plane process.

    `directory` is shared by all workers of one instance; `schedule` runs a function once, soon (a loop's
    `call_soon`). Not thread-safe: one event loop owns it.
    """

    def __init__(self, directory: Path, schedule: Callable[[Callable[[], None]], object]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        _drop_gauges_of_the_dead(directory)
        self._directory = directory
        self._schedule = schedule
        self._files: dict[str, MmapedDict] = {}
        self._cells: dict[str, Cell] = {}
        self._accounts: dict[tuple[str, str, str, str], Account] = {}
        self._changed: list[Cell] = []
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

    def changed(self, cell: Cell) -> None:
        """`cell` waits to be copied to its file at the end of this loop turn."""
        if not self._changed:
            self._schedule(self.flush)
        self._changed.append(cell)

    def flush(self) -> None:
        """Copy every changed number to its file now."""
        changed, self._changed = self._changed, []
        for cell in changed:
            cell.write()

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
