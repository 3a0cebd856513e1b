"""Pools that come, change and go while requests run, wait and fail: none is lost, none misplaced."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.contracts.config import Pool
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.price_book import EVER
from pointsman.router.exchange import Answer, Exchange
from pointsman.router.pipeline import Pipeline
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.place import Place
from pointsman.router.pools import Pools
from pointsman.router.snapshot import compile_snapshot
from pointsman.store.pool_projection import MadePool
from support.exchanges import RecordingClient, exchange_with
from support.fleets import config_with, fleet_of, metrics_in

THINK, NO_THINK = Mode.THINK, Mode.NO_THINK


class Relay:
    """The step after: holds whoever came until it is ended."""

    name = "relay"

    def __init__(self) -> None:
        self.running: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> Outcome:
        self.running.append(exchange)
        return Outcome.WAIT


class Settle:
    name = "settle"

    def __init__(self) -> None:
        self.ended: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> Outcome:
        self.ended.append(exchange)
        return Outcome.NEXT


class Bench:
    """A router's fleet, tenants and prices, with one pool of the configuration, and what places requests."""

    def __init__(self, folder: Path) -> None:
        tenants = [{"name": "all"}, {"name": "some", "models": ["m", "late"]}]
        config = config_with({"name": "file"}, {"name": "late", "model": "late"}, tenants=tenants)
        config = config.model_copy(update={"pools": config.pools[:1]})
        self.snapshot = compile_snapshot(config)
        self.fleet = fleet_of(config, folder)
        self.pools = Pools(config, self.snapshot, self.fleet)
        self.place, self.relay, self.settle = Place(self.fleet), Relay(), Settle()
        steps = [self.place, self.relay, self.settle]
        self.pipeline = self.place.pipeline = Pipeline(steps, metrics_in(folder))
        self.all, self.some = (self.snapshot.tenants.views[name] for name in ("all", "some"))

    def put(self, name: str, **fields: Any) -> Pool:
        usual = {"name": name, "max_ongoing_requests": 1, "urls": [f"http://10.0.0.1:{7000 + ord(name[0])}"]}
        (pool,) = config_with({**usual, **fields}).pools
        self.pools.take({name: MadePool(pool, {}, ((EVER, pool.prices.price_list()),))})
        self.heal()
        return pool

    def heal(self) -> None:
        for state in self.fleet.pools.values():
            for replica in state.replicas.values():
                replica.healthy = True
            state.refresh()

    def send(self, model: str, mode: Mode = THINK) -> Exchange:
        exchange = exchange_with({"model": model, "messages": [{"role": "user", "content": "hello"}]})
        exchange.payload = {"messages": [{"role": "user", "content": "hello"}]}
        exchange.tenant, exchange.model = self.all, self.all.models[model]
        exchange.decision = ModeDecision(mode, Source.CLIENT, 0.5, None, "model")
        self.pipeline.start(exchange)
        return exchange

    def end(self, exchange: Exchange) -> None:
        assert exchange.replica is not None
        self.relay.running.remove(exchange)
        self.fleet.succeeded(exchange.replica)
        self.fleet.released(exchange.replica, exchange.predicted_tokens)
        exchange.answer = Answer(200, b"", b"{}")
        self.pipeline.resume(exchange)


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """A loop that timers can be set in; it need not run for what is looked at here."""
    with asyncio.Runner() as runner:
        asyncio._set_running_loop(runner.get_loop())
        yield
        asyncio._set_running_loop(None)


def error_of(exchange: Exchange) -> tuple[int, str | None]:
    error = exchange.error
    return (200, None) if error is None else (error.status, error.code)


def test_tenants_may_ask_for_what_comes_if_they_may_ask_for_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    kept = bench.all.models["m"]
    bench.put("a", model="late")
    bench.put("b", model="other")
    assert set(bench.all.models) == {"m", "late", "other"}
    assert set(bench.some.models) == {"m", "late"}
    assert bench.all.models["m"] is bench.some.models["m"] is kept, "what did not change is what it was"
    assert bench.snapshot.prices["b"].input == 1
    bench.pools.take({"a": None})
    assert set(bench.all.models) == {"m", "other"}
    assert set(bench.some.models) == {"m"}
    assert bench.snapshot.prices["a"].input == 1, "what runs there is still to be billed"


def test_a_pool_of_the_configuration_is_never_changed_by_one_that_was_made(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    before = bench.fleet.pools["file"].config
    bench.put("file", model="taken-over")
    bench.pools.take({"file": None})
    assert bench.fleet.pools["file"].config is before
    assert set(bench.all.models) == {"m"}


def test_new_settings_hold_at_once_and_leave_requests_and_replicas_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put("a", model="late")
    first, second = bench.send("late"), bench.send("late")
    replica = first.replica
    assert bench.relay.running == [first]
    track = bench.place.route(bench.all, bench.all.models["late"]).think
    assert track is not None
    track.output_length.learn(77)
    bench.put("a", model="late", max_ongoing_requests=2)
    assert bench.relay.running == [first, second], "there is a place more"
    assert second.replica is replica
    again = bench.place.route(bench.all, bench.all.models["late"]).think
    assert again is not track
    assert again is not None
    assert again.output_length is track.output_length, "how long answers are is still known"


def test_urls_that_go_take_no_more_and_those_that_stay_keep_what_they_have(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put("a", model="late", urls=["http://10.0.0.1:1", "http://10.0.0.1:2"])
    before = dict(bench.fleet.pools["a"].replicas)
    bench.put("a", model="late", urls=["http://10.0.0.1:2", "http://10.0.0.1:3"])
    now = bench.fleet.pools["a"].replicas
    assert set(now) == {"10.0.0.1:2", "10.0.0.1:3"}
    assert now["10.0.0.1:2"] is before["10.0.0.1:2"]
    assert not before["10.0.0.1:1"].usable
    bench.put("a", model="late", urls=[])
    assert not bench.fleet.pools["a"].replicas, "whoever is there from now on registers itself"


def test_who_waits_goes_to_another_pool_of_the_model_and_is_refused_where_there_is_none(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put("a", model="late")
    running, waiting = bench.send("late"), bench.send("late")
    bench.put("b", model="late")
    bench.pools.take({"a": None})
    assert bench.relay.running == [running, waiting]
    assert waiting.pool is not None
    assert waiting.pool.name == "b"
    assert bench.fleet.closing() == {"a": 1}
    stuck = bench.send("late")
    bench.pools.take({"b": None})
    assert error_of(stuck) == (503, "pool_unavailable")
    for exchange in (running, waiting):
        bench.end(exchange)
        assert error_of(exchange) == (200, None)
    assert bench.fleet.closing() == {}
    assert cast(RecordingClient, stuck.client).status == 503


def test_one_that_fails_on_a_pool_that_is_gone_is_placed_on_what_answers_the_model_now(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put("a", model="late")
    exchange = bench.send("late")
    bench.put("a", model="other")
    bench.put("b", model="late")
    assert exchange.replica is not None
    bench.fleet.failed(exchange.replica, "closed")
    bench.fleet.released(exchange.replica, exchange.predicted_tokens)
    bench.relay.running.remove(exchange)
    bench.pipeline.again(exchange, "place")
    assert exchange.replica.pool == "b"


names, models = st.sampled_from(("a", "b", "c")), st.sampled_from(("x", "y"))
MODES = ([THINK], [NO_THINK], [THINK, NO_THINK])
STEPS = st.one_of(
    st.tuples(st.just("put"), names, models, st.sampled_from(MODES), st.integers(1, 3)),
    st.tuples(st.just("drop"), names),
    st.tuples(st.just("send"), models, st.sampled_from((THINK, NO_THINK))),
    st.tuples(st.just("end"), st.integers(0, 20)),
)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEPS, max_size=30))
def test_whatever_becomes_of_pools_each_request_is_placed_where_its_model_and_mode_are_answered(
    steps: list[Any],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        sent: list[Exchange] = []
        for step in steps:
            placed = len(bench.relay.running)
            if step[0] == "put":
                _, name, model, modes, places = step
                bench.put(name, model=model, modes=modes, family="qwen3", max_ongoing_requests=places)
            elif step[0] == "drop":
                bench.pools.take({step[1]: None})
            elif step[0] == "send":
                view = bench.all.models.get(step[1])
                if view is not None and step[2] in view.modes:
                    sent.append(bench.send(step[1], step[2]))
            elif bench.relay.running:
                bench.end(bench.relay.running[step[1] % len(bench.relay.running)])
                placed = 0
            for exchange in bench.relay.running[placed:]:
                pool, decision, model_view = exchange.pool, exchange.decision, exchange.model
                assert pool is not None
                assert decision is not None
                assert model_view is not None
                if step[0] != "end":  # placed just now: on a pool that there is
                    assert bench.fleet.pools[pool.name].config == pool
                assert (pool.model, decision.mode in pool.modes) == (model_view.name, True)
        while bench.relay.running:
            bench.end(bench.relay.running[0])
        for exchange in sent:
            waits = exchange.work is not None
            assert waits or exchange in bench.settle.ended
            if waits:  # for a pool that there is
                assert exchange.pool is not None
                assert bench.fleet.pools[exchange.pool.name].waiting
                bench.pipeline.abandon(exchange)
        for state in bench.fleet.pools.values():
            assert (state.running, state.load, state.waiting) == (0, 0, 0)
        assert bench.fleet.closing() == {}
