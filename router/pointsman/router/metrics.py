"""Counters of the data plane, in files that any process may read.

Stands beside the pipeline because a scrape must never stall a stream: the data plane adds to numbers in
memory-mapped files, in prometheus_client's multi-process format, and the admin process folds the files of all
workers into one page (`docs/decisions/`). A number is in its file as soon as it has changed, and survives its
process: a restarted router adds files and the sums go on.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.utils import floatToGoString

from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import NANO, Cost, TokenClass, Usage

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds in seconds."""

TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds in seconds between two tokens."""

PROBABILITY_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Upper bounds of probabilities: closest where most thresholds are."""

MAX_TENANTS = 2000
"""Tenants that have numbers of their own in one process: the first to come. The others' are counted together."""

OTHERS = "(others)"
"""The tenant, by a name that none can have, under which the numbers of those beyond `MAX_TENANTS` are counted."""

_HELP = {
    Metric.REQUESTS: "Requests by outcome (HTTP status).",
    Metric.TOKENS: "Tokens billed, by token class.",
    Metric.COST: "US dollars billed, by token class.",
    Metric.DECISIONS: "Mode decisions by the source that determined them.",
    Metric.STAGE_RETURNS: "New policies that went back to an earlier stage, by the stage they left and the reason.",
    Metric.ESCALATIONS: "Answers without thinking that were asked for once more with thinking, by reason.",
    Metric.ANSWER_FLOORS: "Requests whose thinking was closed so that an answer still fitted.",
    Metric.STOPPED: "Outputs that were stopped, by reason.",
    Metric.JUDGEMENTS: "Modes that models themselves judged right, by whether the router had decided alike.",
    Metric.TOOL_ANSWERS: "Answers that called tools, or had to, by what became of the calls.",
    Metric.TOOL_WARNINGS: "Requests with tools answered by a pool whose operator warns of its tool calls.",
    Metric.UNKEPT_DECISIONS: "Decisions of which no record was kept: above the rate, or with Redis away.",
    Metric.ESTIMATED: "Requests whose usage was estimated because the engine's own count never arrived.",
    Metric.RETRIES: "Requests sent to another replica after one failed before its first byte.",
    Metric.TTFT: "Seconds from a request's arrival to the first byte of its streamed answer.",
    Metric.DURATION: "Seconds from a request's arrival to the end of its answer.",
    Metric.CACHE: "Requests that the response cache had a part in, by what came of it.",
    Metric.CACHE_SAVED: "US dollars that answers from the response cache were not billed.",
    Metric.CACHE_REFUSED: "Entries of the response cache that were not what they should be, and were ignored.",
    Metric.CACHE_BYTES: "Bytes of recorded answers in a router process.",
    Metric.REPLAYS: "Requests that got the answer of an earlier one with the same idempotency key.",
    Metric.STEP: "Seconds spent in each step of the pipeline, waiting not included.",
    Metric.IN_FLIGHT: "Requests in the pipeline now.",
    Metric.REPLICAS: "Replicas of each pool that can answer now.",
    Metric.RESTING_REPLICAS: "Replicas of each pool whose circuit breaker is open or half open.",
    Metric.LIMITED: "Requests refused, by the limit or budget (`redis`: it could not be known) that was reached.",
    Metric.LEDGER_COST: "US dollars in the ledger, corrections included: what the bills add up to.",
    Metric.LEDGER_TOKENS: "Tokens in the ledger, by token class.",
    Metric.LEDGER_ENTRIES: "Entries in the ledger, by kind and by how the request ended.",
    Metric.LEDGER_PERIOD_COST: "US dollars in the ledger of the present day or month in UTC, by token class.",
    Metric.LEDGER_FORECAST: "US dollars that the present month will have cost: foretold from the days before.",
    Metric.LEDGER_TENANT_FORECAST: "The same for one tenant.",
    Metric.LEDGER_LAG: "Seconds that the oldest batch in the stream has waited for the database.",
    Metric.LEDGER_STREAM: "Batches of entries in the stream that are not in the database.",
    Metric.LEDGER_SPOOL: "Bytes that the routers' spools of ledger entries take on the disk.",
    Metric.LEDGER_SPOOL_LIMIT: "Bytes that the spools of the running routers may take together.",
    Metric.LEDGER_UNWRITTEN: "Entries in the routers' spools that the database does not have yet.",
    Metric.BEYOND_RESERVED: "Requests that cost more than was set aside: an engine told more tokens than asked.",
    Metric.LEDGER_REFUSED: "Requests refused because the spool of ledger entries was full.",
    Metric.RUNNING: "Requests that the replicas of each pool work on now.",
    Metric.WAITING: "Requests that wait for a place in each pool now.",
    Metric.PREDICTED: "Predicted tokens of output that each pool has to do, by whether they run or wait.",
    Metric.SHED: "Requests refused because too many waited for the pool already, by priority.",
    Metric.REVISION_REPLICAS: "Replicas of each revision of a pool that requests may be placed on.",
    Metric.REVISION_REQUESTS: "Requests that were sent to replicas of each revision of a pool, and ended.",
    Metric.REVISION_ERRORS: "Of those, the ones that the replica failed.",
    Metric.REVISION_STREAMS: "Streams that replicas of each revision of a pool began.",
    Metric.REVISION_TTFT: "Seconds from the sending of those to their first byte, added up.",
    Metric.INTER_TOKEN: "Mean seconds between the tokens of a streamed answer, one observation for each stream.",
    Metric.PROBABILITY: "Probabilities of needing to think, as the predictor gave them.",
    Metric.THRESHOLD: "The threshold that the tenant's last decision was held against.",
    Metric.AVOIDED_TOKENS: "Tokens of output that answers without thinking have spared, estimated from quartiles.",
    Metric.AVOIDED_COST: "US dollars that answers without thinking have spared, estimated likewise.",
    Metric.BUDGET: "US dollars that a tenant may spend in the present day or month, by mark.",
    Metric.BUDGET_SPENT: "US dollars that a tenant has spent in the present day or month, as routers know it.",
    Metric.FEEDBACK: "Words of tenants on their decisions, by whether they agree with the mode.",
    Metric.MISSING_PREDICTOR: "Requests judged by the platform's predictor, since their policy's was not here.",
    Metric.DEGRADED: "Parts that this router has to do without now: 1 for each.",
}


class Cell:
    """One number, kept where every process reads it: adding to it is a store to memory that is shared."""

    __slots__ = ("_at", "_values")

    def __init__(self, values: memoryview[float], at: int) -> None:
        self._values = values
        self._at = at

    @property
    def value(self) -> float:
        return self._values[self._at]

    def add(self, amount: float) -> None:
        self._values[self._at] += amount

    def set(self, value: float) -> None:
        self._values[self._at] = value


class DollarCell:
    """A sum of nano-dollars, kept exactly, and shown in dollars."""

    __slots__ = ("_at", "_values", "nano")

    def __init__(self, values: memoryview[float], at: int) -> None:
        self._values = values
        self._at = at
        self.nano = round(values[at] * NANO)  # of an earlier process with this process's number

    def add(self, nano: int) -> None:
        self.nano += nano
        self._values[self._at] = self.nano / NANO


class Histogram:
    """A distribution over fixed buckets."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, metrics: Metrics, name: str, labels: dict[str, str], bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        tops = [floatToGoString(bound) for bound in (*bounds, float("inf"))]
        self._buckets = [metrics.cell("histogram", name, f"{name}_bucket", {**labels, "le": top}) for top in tops]
        self._sum = metrics.cell("histogram", name, f"{name}_sum", labels)

    @property
    def count(self) -> float:
        """How many were observed."""
        return sum(bucket.value for bucket in self._buckets)

    @property
    def total(self) -> float:
        """The sum of what was observed."""
        return self._sum.value

    def observe(self, value: float) -> None:
        self._sum.add(value)
        self._buckets[bisect_left(self._bounds, value)].add(1)


class Latencies:
    """
    The times of one model, mode and pool, and beside them what was used there since this process began: tokens of
    prompts and of output, and nano-dollars. No tenant's own: a thousand tenants would make a page of them.
    """

    __slots__ = ("duration", "first_byte", "inter_token", "nano", "output", "prompt")

    def __init__(self, metrics: Metrics, model: str, mode: str, pool: str) -> None:
        labels = {"model": model, "mode": mode, "pool": pool}
        self.duration = Histogram(metrics, Metric.DURATION, labels, LATENCY_BUCKETS)
        self.first_byte = Histogram(metrics, Metric.TTFT, labels, LATENCY_BUCKETS)
        self.inter_token = Histogram(metrics, Metric.INTER_TOKEN, labels, TOKEN_BUCKETS)
        self.prompt = self.output = self.nano = 0


class Account:
    """The cells of one tenant, model, mode and pool, looked up once per request; `latencies` are of all tenants."""

    __slots__ = ("_costs", "_estimated", "_labels", "_metrics", "_statuses", "_tokens", "latencies")

    def __init__(self, metrics: Metrics, tenant: str, model: str, mode: str, pool: str) -> None:
        self.latencies = metrics.latencies(model, mode, pool)
        self._metrics = metrics
        self._labels = {"tenant": tenant, "model": model, "mode": mode, "pool": pool}
        self._statuses: dict[int, Cell] = {}
        self._tokens: list[Cell] = []
        self._costs: list[DollarCell] = []
        self._estimated: Cell | None = None

    def ended(self, status: int) -> None:
        """One request ended with `status`."""
        cell = self._statuses.get(status)
        if cell is None:
            labels = {**self._labels, "status": str(status)}
            cell = self._statuses[status] = self._metrics.counter(Metric.REQUESTS, labels)
        cell.add(1)

    def spent(self, usage: Usage, cost: Cost) -> None:
        """Add the tokens and the nano-dollars of one request."""
        self.billed(cost)
        latencies = self.latencies
        latencies.prompt += usage[0] + usage[1]
        latencies.output += usage[2] + usage[3]
        # The first four fields are the token classes; what follows is no part of a request's tokens.
        for cell, tokens in zip(self._tokens, usage, strict=False):
            if tokens:
                cell.add(tokens)
        if usage.estimated:
            if self._estimated is None:
                self._estimated = self._metrics.counter(Metric.ESTIMATED, self._labels)
            self._estimated.add(1)

    def billed(self, cost: Cost) -> None:
        """Add the nano-dollars alone of a request that used no tokens."""
        if not self._tokens:
            for token_class in TokenClass:
                labels = {**self._labels, "token_class": token_class.value}
                self._tokens.append(self._metrics.counter(Metric.TOKENS, labels))
                self._costs.append(self._metrics.dollars(Metric.COST, labels))
        for dollars, nano in zip(self._costs, cost, strict=False):
            if nano:
                dollars.add(nano)
                self.latencies.nano += nano


class _File:
    """One file of numbers. Its memory is mapped anew when it grows; what was mapped before stays what it was."""

    def __init__(self, path: Path) -> None:
        self._numbers = MmapedDict(str(path))
        self._mapped: object = None
        self._values: memoryview[float]

    def place(self, key: str) -> tuple[memoryview[float], int]:
        """Where the number called `key` is; 0 where it is new."""
        self._numbers.read_value(key)  # makes a new one
        memory = self._numbers._m
        if memory is not self._mapped:
            self._mapped = memory
            self._values = memoryview(memory).cast("d")
        return self._values, self._numbers._positions[key] // 8


class Metrics:
    """
    All numbers of one data-plane process.

    `directory` is shared by all workers of one instance. Not thread-safe: one event loop owns it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        _drop_gauges_of_the_dead(directory)
        self._directory = directory
        self._files: dict[str, _File] = {}
        self._latencies: dict[tuple[str, str, str], Latencies] = {}
        self._accounts: dict[tuple[str, str, str, str], Account] = {}
        self._tenants = {"", OTHERS}
        self.in_flight = self.cell("gauge_livesum", Metric.IN_FLIGHT, Metric.IN_FLIGHT, {})
        self.in_flight.set(0)

    def account(self, tenant: str, model: str, mode: str, pool: str) -> Account:
        """The cells of one tenant, model, mode and pool; an empty string where a request never got that far."""
        account = self._accounts.get((tenant, model, mode, pool))
        if account is None:
            shown = self.label_of(tenant)
            key = (shown, model, mode, pool)
            account = self._accounts.get(key)
            if account is None:
                account = self._accounts[key] = Account(self, shown, model, mode, pool)
        return account

    def latencies(self, model: str, mode: str, pool: str) -> Latencies:
        """The times of one model, mode and pool."""
        key = (model, mode, pool)
        latencies = self._latencies.get(key)
        if latencies is None:
            latencies = self._latencies[key] = Latencies(self, model, mode, pool)
        return latencies

    def all_latencies(self) -> Iterable[tuple[tuple[str, str, str], Latencies]]:
        """The times of every model, mode and pool that requests were made of."""
        return self._latencies.items()

    def counter(self, name: str, labels: dict[str, str]) -> Cell:
        """The counter `name` (as scraped, ending in `_total`) with `labels`; a tenant's may be all others'."""
        tenant = labels.get("tenant")
        if tenant is not None:
            labels = {**labels, "tenant": self.label_of(tenant)}
        return self.cell("counter", name.removesuffix("_total"), name, labels)

    def gauge(self, name: str, labels: dict[str, str]) -> Cell:
        """A gauge that every worker reports alike: the greatest value is shown."""
        return self.cell("gauge_livemax", name, name, labels)

    def tenants_gauge(self, name: str, labels: dict[str, str]) -> Cell:
        """As `gauge`; `labels` has a `tenant`, who may be one of all others."""
        return self.gauge(name, {**labels, "tenant": self.label_of(labels["tenant"])})

    def shows(self, tenant: str) -> bool:
        """Whether `tenant` has numbers of its own."""
        return self.label_of(tenant) == tenant

    def label_of(self, tenant: str) -> str:
        """The label of `tenant`: his name, or that of all who came later than `MAX_TENANTS` others."""
        if tenant not in self._tenants:
            if len(self._tenants) >= MAX_TENANTS + 2:
                return OTHERS
            self._tenants.add(tenant)
        return tenant

    def step_time(self, step: str) -> Cell:
        return self.counter(Metric.STEP, {"step": step})

    def dollars(self, name: str, labels: dict[str, str]) -> DollarCell:
        """The counter of dollars called `name`, with `labels`; to be asked for once."""
        return DollarCell(*self._place("counter", name.removesuffix("_total"), name, labels))

    def cell(self, kind: str, family: str, sample: str, labels: dict[str, str]) -> Cell:
        """One number of the metric `family`; `kind` as prometheus_client names its files."""
        return Cell(*self._place(kind, family, sample, labels))

    def close(self) -> None:
        """Take the gauges back: those of a process that has ended say nothing any more."""
        for path in self._directory.glob(f"gauge_*_{os.getpid()}.db"):
            path.unlink()

    def _place(self, kind: str, family: str, sample: str, labels: dict[str, str]) -> tuple[memoryview[float], int]:
        help_text = _HELP[sample] if sample in _HELP else _HELP[family]
        file = self._files.get(kind)
        if file is None:
            file = self._files[kind] = _File(self._directory / f"{kind}_{os.getpid()}.db")
        return file.place(mmap_key(family, sample, list(labels), list(labels.values()), help_text))


def _drop_gauges_of_the_dead(directory: Path) -> None:
    """A process that was killed could not take its gauges back; they would be summed for ever."""
    for path in directory.glob("gauge_*.db"):
        try:
            os.kill(int(path.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except PermissionError:
            continue  # alive, and somebody else's
