"""What is missing, on every face: the health page, the metrics, the log, and what other processes read."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.exceptions import ConnectionError as Gone

from pointsman.contracts.pricing import Cost, Usage
from pointsman.router import live_report
from pointsman.router.fleet import Fleet
from pointsman.router.health import Health
from pointsman.router.live_report import LiveReport
from pointsman.router.metrics import Metrics
from pointsman.router.tenants import Tenants
from pointsman.store.live import TTL
from support.fleets import add, config_with, fleet_of, metrics_in

RUN = "0123456789abcdef"


class Store:
    """Takes reports as Redis would, or is away."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.parts: dict[str, Any] = {"admin": {}}
        self.away = False

    async def tell(self, run: str, report: dict[str, Any]) -> dict[str, Any]:
        if self.away:
            raise Gone("away")
        assert run == RUN
        self.told.append(orjson.loads(orjson.dumps(report)))
        return self.parts


class Spared:
    """Savings that nobody has made."""

    def told(self) -> dict[str, Any]:
        return {"requests": 0}


class Router:
    """What a router has of this, with a clock that a test moves."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = config_with({"name": "one"}, {"name": "two"})
        self.fleet: Fleet = fleet_of(config, folder)
        self.tenants = Tenants(config)
        self.health = Health(self.fleet, self.tenants)
        self.metrics: Metrics = metrics_in(folder)
        self.store = Store()
        self.now = 1000.0
        monkeypatch.setattr(live_report, "monotonic", lambda: self.now)
        store: Any = self.store
        savings: Any = Spared()
        self.live = LiveReport(RUN, store, self.fleet, self.health, self.metrics, savings)
        for number, state in enumerate(self.fleet.pools.values()):
            add(state, [f"10.0.{number}.1:80"])
            state.answered = True

    def turn(self, seconds: float = 1.0) -> dict[str, Any]:
        """One second later: what the health page says."""
        self.now += seconds

        async def once() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(self.live.follow(), 0.01)

        asyncio.run(once())
        status, body = self.health.answer("/readyz")
        return {"http": status, **orjson.loads(body)}

    def degraded(self, part: str) -> float:
        return self.live._cells["pointsman_degraded", part].value


@pytest.fixture
def router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Router:
    return Router(tmp_path, monkeypatch)


def test_what_a_part_says_is_shown_everywhere_and_gone_when_it_is(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    words: list[str | None] = [None]
    router.health.watch("ledger", lambda: words[0])
    assert (router.turn()["status"], caplog.messages) == ("ready", [])
    words[0] = "7 entries wait"
    router.turn()
    page = router.turn()
    assert (page["http"], page["status"], page["missing"]) == (200, "degraded", ["ledger"])
    assert page["troubles"] == {"ledger": "7 entries wait"}
    assert router.degraded("ledger") == 1
    assert router.store.told[-1]["troubles"] == {"ledger": "7 entries wait"}
    assert caplog.messages == ["degraded: ledger: 7 entries wait"], "once"
    words[0] = None
    assert router.turn()["missing"] == []
    assert router.degraded("ledger") == 0
    assert caplog.messages[1:] == ["no longer degraded: ledger"]


def test_redis_is_missing_from_the_second_miss_on_and_hides_nobody_elses_absence(router: Router) -> None:
    router.turn()
    router.store.away = True
    assert router.turn()["missing"] == []
    page = router.turn()
    assert (page["http"], page["missing"]) == (200, ["redis"])
    router.turn(10 * TTL)
    router.store.away, router.store.parts = False, {"admin": None}
    assert router.turn()["missing"] == [], "the others were cut off too: they get time to say something"
    assert router.turn(2 * TTL + 1)["missing"] == ["admin"]
    router.store.parts = {"admin": {"database": "does not answer"}}
    assert router.turn()["troubles"] == {"database": "does not answer"}


def test_a_router_that_lets_nobody_in_is_not_ready(router: Router) -> None:
    router.tenants.stale = True
    page = router.turn()
    assert (page["http"], page["status"]) == (503, "unavailable")
    router.tenants.stale = False
    for state in router.fleet.pools.values():
        for address in list(state.replicas):
            state.remove(address)
        state.refresh()
    page = router.turn()
    assert (page["http"], page["status"], page["missing"]) == (503, "unavailable", ["pool one", "pool two"])


def test_the_report_counts_what_runs_and_what_ended(router: Router) -> None:
    state = router.fleet.pools["one"]
    replica = state.take(0, 70)
    times = router.metrics.latencies("m", "think", "one")
    router.turn()
    assert router.store.told[-1]["rates"] == []
    for seconds in (1.0, 3.0):
        times.duration.observe(seconds)
    times.first_byte.observe(0.5)
    account = router.metrics.account("t", "m", "think", "one")
    account.spent(Usage(input=20, cached_input=10, reasoning=9, answer=3), Cost(1, 2, 3, 1))
    add(state, ["10.0.0.2:80"], revision="b")
    state.direct({"b": 0})
    assert replica is not None
    router.fleet.released(replica, 70)
    replica = state.take(0, 70)
    router.turn(4.0)
    report = router.store.told[-1]
    assert report["pools"]["one"] == {
        "running": 1,
        "waiting": 0,
        "places": 64,
        "running_tokens": 70,
        "waiting_tokens": 0,
        "replicas": [
            {"address": "10.0.0.1:80", "state": "ready", "running": 1, "running_tokens": 70},
            {"address": "10.0.0.2:80", "state": "ready", "running": 0, "running_tokens": 0},
        ],
        "revisions": {
            "": {
                "replicas": 1,
                "running": 1,
                "requests": 1,
                "errors": 0,
                "streams": 0,
                "first_byte_seconds": 0.0,
                "first_byte": {},
            },
            "b": {"replicas": 1, "running": 0, "weight": 0},
        },
    }
    assert report["rates"] == [
        {
            "model": "m",
            "mode": "think",
            "pool": "one",
            "requests": 2,
            "streams": 1,
            "window": 4.0,
            "seconds": 4.0,
            "first_byte_seconds": 0.5,
            "prompt_tokens": 30,
            "output_tokens": 12,
            "nano": 7,
        }
    ]
    assert replica is not None
    router.fleet.failed(replica, "connect")
    router.turn()
    assert router.store.told[-1]["pools"]["one"]["replicas"][0]["state"] == "resting"
    for _ in range(30):
        router.turn()
    assert router.store.told[-1]["rates"] == [], "only the last seconds count"
