"""The thinking budget of a day: two workers and their sum, midnight, a raised limit, and Redis away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from pointsman.contracts.config import Config
from pointsman.contracts.policies import PolicyDocument
from pointsman.router.policies import compile_policy
from pointsman.router.snapshot import TenantView, compile_snapshot
from pointsman.router.thinking_spend import ThinkingSpend


class Totals:
    """Stands in for Redis."""

    def __init__(self) -> None:
        self.days: dict[str, dict[str, int]] = {}
        self.away = False

    async def add(self, day: str, tokens: Mapping[str, int], *, teller: str, batch: int) -> None:
        if self.away:
            raise RedisConnectionError
        sums = self.days.setdefault(day, {})
        for tenant, amount in tokens.items():
            sums[tenant] = sums.get(tenant, 0) + amount

    async def of(self, day: str, tenants: Sequence[str]) -> dict[str, int]:
        if self.away:
            raise RedisConnectionError
        return {tenant: self.days.get(day, {}).get(tenant, 0) for tenant in tenants}


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Worker:
    """One worker's view of the tenants `a` (100 thinking tokens a day) and `b` (no limit)."""

    def __init__(self, totals: Totals, clock: Clock) -> None:
        pool = {
            "name": "p",
            "model": "m",
            "modes": ["think"],
            "engine": "simulated",
            "prices": {"input": 1, "output": 1},
        }
        tenants = [
            {"name": "a", "key_digests": ["0" * 64, "1" * 64], "policy": {"daily_thinking_tokens": 100}},
            {"name": "b", "key_digests": ["2" * 64]},
        ]
        self._tenants = compile_snapshot(Config.model_validate({"pools": [pool], "tenants": tenants})).tenants
        self.by_name: dict[str, TenantView] = self._tenants.views
        self._spend = ThinkingSpend(totals, self._tenants, now=clock)  # type: ignore[arg-type]
        self.look()

    def look(self) -> None:
        asyncio.run(self._spend.look())

    def think(self, tokens: int, tenant: str = "a") -> None:
        thinking = self.by_name[tenant].thinking
        assert thinking is not None
        thinking.unsent += tokens

    @property
    def spent(self) -> bool:
        return self.by_name["a"].thinking_spent

    def limit(self, tokens: int | None, **candidate: object) -> None:
        document: dict[str, object] = {"policy": {"daily_thinking_tokens": tokens}}
        if candidate:
            document["candidate"] = candidate
        self.by_name["a"].policy = compile_policy(PolicyDocument.model_validate(document), version="1")
        self._tenants.tell(self.by_name["a"])


@pytest.fixture
def totals() -> Totals:
    return Totals()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workers(totals: Totals, clock: Clock) -> tuple[Worker, Worker]:
    return Worker(totals, clock), Worker(totals, clock)


def test_all_workers_together_spend_one_budget(workers: tuple[Worker, Worker], totals: Totals) -> None:
    one, two = workers
    assert one.by_name["b"].thinking is None  # no limit, nothing counted
    one.think(60)
    one.look()
    two.think(39)
    two.look()
    one.look()
    assert (one.spent, two.spent) == (False, False)
    two.think(1)
    two.look()
    one.look()
    assert (one.spent, two.spent) == (True, True)
    assert totals.days == {"2026-11-22": {"a": 100}}
    one.limit(101)
    one.look()
    assert not one.spent  # a raised limit
    one.limit(None)
    one.look()
    assert not one.spent
    assert one.by_name["a"].thinking is None
    one.limit(50)
    one.look()
    assert one.spent  # the day's sum is not forgotten with the limit


def test_midnight(workers: tuple[Worker, Worker], totals: Totals, clock: Clock) -> None:
    one, two = workers
    one.think(100)
    one.look()
    assert one.spent
    one.think(7)
    clock.now += timedelta(hours=2)
    one.look()
    two.look()
    assert (one.spent, two.spent) == (False, False)
    assert totals.days["2026-11-22"] == {"a": 107}  # of the day in which it was counted
    one.think(100)
    one.look()
    assert one.spent
    assert totals.days["2026-11-23"] == {"a": 100}


def test_while_redis_is_away_each_counts_its_own_and_adds_it_later(
    workers: tuple[Worker, Worker], totals: Totals, clock: Clock
) -> None:
    one, two = workers
    one.think(40)
    one.look()
    two.look()
    totals.away = True
    two.think(60)
    one.think(30)
    one.look()
    two.look()
    assert (one.spent, two.spent) == (False, True)  # two knew of the first 40
    clock.now += timedelta(hours=2)
    two.look()
    two.think(1)
    two.look()
    assert not two.spent
    totals.away = False
    one.look()
    two.look()
    assert totals.days == {"2026-11-22": {"a": 130}, "2026-11-23": {"a": 1}}
    totals.away = True
    for _ in range(5):
        clock.now += timedelta(days=1)
        one.think(1)
        one.look()
    totals.away = False
    one.look()
    assert len(totals.days) <= 5  # what is older than yesterday is not carried along


def test_whose_limit_holds_with_a_candidate(workers: tuple[Worker, Worker]) -> None:
    one, _ = workers
    one.think(60)
    candidate = {"policy": {"daily_thinking_tokens": 50}}
    for stage, spent in (("observe", False), ("canary", False), ("enforce", True)):
        one.limit(100, **candidate, stage=stage)
        one.look()
        assert one.spent is spent
