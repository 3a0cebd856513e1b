"""Routers without sockets that admit requests from leases in a real Redis; engines are a moment's sleep."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pointsman.contracts.errors import ApiError
from pointsman.contracts.limits import Budgets, Limits
from pointsman.contracts.pricing import Usage
from pointsman.router.admission.allowance import Allowance
from pointsman.router.admission.lease_book import LeaseBook
from pointsman.router.admission.stock import Need
from pointsman.router.exchange import Exchange
from pointsman.router.pipeline.admit import Admit
from pointsman.router.pipeline.outcome import Outcome
from pointsman.store.leases import LeaseStore
from support.exchanges import exchange_with


@dataclass
class View:
    """A tenant's view, as far as it concerns limits."""

    name: str
    limits: Limits = field(default_factory=Limits)
    budgets: Budgets = field(default_factory=Budgets)
    allowance: Allowance | None = None
    degraded: bool = False
    gone: bool = False


class _Cell:
    def add(self, amount: float) -> None:
        """Nobody reads it."""


class _Metrics:
    def counter(self, name: str, labels: dict[str, str]) -> _Cell:
        return _Cell()


class Router:
    """
    One run of a router. `settled`: nano-dollars by tenant that its requests have cost. `ahead`: milliseconds by
    which its calendar is ahead. Use as an asynchronous context manager.
    """

    def __init__(self, url: str, *views: View) -> None:
        self.run = secrets.token_hex(8)
        self.redis = Redis.from_url(url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        self.book = LeaseBook(LeaseStore(self.redis), self.run, self.now)
        self.settled: dict[str, int] = {}
        self.ahead = 0
        self.views = {view.name: view for view in views}
        self._need = Need(0, 0, 0)
        self._results: dict[Exchange, asyncio.Future[ApiError | None]] = {}
        self._step = Admit(self.book, cast(Any, self), cast(Any, self), cast(Any, _Metrics()))
        self._step.pipeline = cast(Any, self)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Router:
        for view in self.views.values():
            self.book.open(view)
        self._task = asyncio.create_task(self.book.follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        await self.book.close()
        await self.redis.aclose()

    async def kill(self) -> None:
        """Say nothing any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def resume_following(self) -> None:
        """Go on after `kill`, as a process that was stopped for a while."""
        self._task = asyncio.create_task(self.book.follow())

    async def ask(self, tenant: str, need: Need, nano: int, *, seconds: float = 0.002) -> ApiError | None:
        """One request that needs `need`, takes `seconds` and costs `nano`; the error, where it is refused."""
        view = self.views[tenant]
        exchange = exchange_with({})
        exchange.tenant = cast(Any, view)
        self._need = need
        try:
            outcome = self._step(exchange)
        except ApiError as error:
            return error
        if outcome is Outcome.WAIT:
            answered: asyncio.Future[ApiError | None] = asyncio.get_running_loop().create_future()
            self._results[exchange] = answered
            if (refused := await answered) is not None:
                return refused
        await asyncio.sleep(seconds)
        if exchange.admission is not None:
            self.settled[tenant] = self.settled.get(tenant, 0) + nano
            exchange.admission.settle(Usage(input=need.input, answer=need.output), nano)
        return None

    # -- the ledger, the bounds and the pipeline, as the step sees them

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead

    def at(self, exchange: Exchange) -> int:
        exchange.at = exchange.at or self.now()
        return exchange.at

    def intend(self, exchange: Exchange) -> None:
        """Nothing is written down."""

    def of(self, exchange: Exchange, at: int, *, priced: bool) -> Need:
        return self._need

    def resume(self, exchange: Exchange) -> None:
        self._results.pop(exchange).set_result(None)

    def refuse(self, exchange: Exchange, error: ApiError) -> None:
        self._results.pop(exchange).set_result(error)
