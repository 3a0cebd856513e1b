"""Placing requests: who goes where, who waits, in which order, and who is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.errors import InvalidRequest, PoolUnavailable
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.policies import Policy, PolicyDocument
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.fleet import Fleet
from pointsman.router.key_scope import Scope
from pointsman.router.pipeline import Pipeline, place
from pointsman.router.pipeline.conversation import EXCERPT, conversation_key
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.place import MOST_PREFILL, SECOND_THOUGHT, Place, Route
from pointsman.router.policies import compile_policy
from pointsman.router.snapshot import ModelView, TenantView
from support.exchanges import RecordingClient, exchange_with
from support.fleets import add, config_with, fleet_of, metrics_in


class Stop:
    """The step after: notes who came, and keeps them."""

    name = "relay"

    def __init__(self) -> None:
        self.came: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> Outcome:
        self.came.append(exchange)
        return Outcome.WAIT


class End:
    """The last step."""

    name = "settle"

    def __call__(self, exchange: Exchange) -> Outcome:
        return Outcome.NEXT


class Bench:
    """A fleet, the step `place`, and what comes after it."""

    def __init__(self, folder: Path, *pools: dict[str, Any], replicas: int = 1) -> None:
        self.config = config_with(*pools)
        self.fleet: Fleet = fleet_of(self.config, folder)
        for nth, state in enumerate(self.fleet.pools.values()):
            add(state, [f"10.0.{nth}.{number}:80" for number in range(replicas)])
        self.place = Place(self.fleet)
        self.stop = Stop()
        self.pipeline = self.place.pipeline = Pipeline([self.place, self.stop, End()], metrics_in(folder))
        modes = {mode: tuple(pool for pool in self.config.pools if mode in pool.modes) for mode in Mode}
        self.model = ModelView("m", {mode: pools for mode, pools in modes.items() if pools}, frozenset(Mode))
        self.tenant = TenantView("t", {"m": self.model}, compile_policy(PolicyDocument()), "salt")

    def exchange(self, text: str = "hello", mode: Mode = Mode.THINK, **fields: Any) -> Exchange:
        exchange = exchange_with({"model": "m", "messages": [{"role": "user", "content": text}], **fields})
        exchange.payload = {"messages": [{"role": "user", "content": text}]}
        exchange.tenant, exchange.model = self.tenant, self.model
        exchange.decision = ModeDecision(mode, Source.CLIENT, 0.5, None, "model")
        return exchange

    def send(self, count: int = 1, **options: Any) -> list[Exchange]:
        sent = [self.exchange(**options) for _ in range(count)]
        for exchange in sent:
            self.pipeline.start(exchange)
        return sent

    def end(self, exchange: Exchange) -> None:
        """The replica is done with `exchange`."""
        assert exchange.replica is not None
        self.fleet.released(exchange.replica, exchange.predicted_tokens)

    @property
    def waiting(self) -> int:
        return next(iter(self.fleet.pools.values())).waiting


class Clock:
    """The time that the step and its timers go by: it passes where a test says so, however busy the machine is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._milliseconds = 0

    def __call__(self) -> float:
        return self._milliseconds / 1000

    def passes(self, seconds: float) -> None:
        """Let so much time pass, whole milliseconds, and what is due in it happen."""
        asyncio._set_running_loop(None)
        for _ in range(round(1000 * seconds)):
            self._milliseconds += 1
            self._loop.run_until_complete(asyncio.sleep(0))
        asyncio._set_running_loop(self._loop)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of a loop that timers can be set in; it runs only while time passes."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        clock = Clock(loop)
        monkeypatch.setattr(loop, "time", clock)
        monkeypatch.setattr(place, "monotonic", clock)
        asyncio._set_running_loop(loop)
        yield clock
        asyncio._set_running_loop(None)


def status(exchange: Exchange) -> int:
    return cast(RecordingClient, exchange.client).status


def test_requests_beyond_the_bound_wait_and_go_on_in_turn(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"max_ongoing_requests": 2}, replicas=2)
    sent = bench.send(10)
    assert bench.stop.came == sent[:4]
    assert bench.waiting == 6
    for number, exchange in enumerate(sent):
        bench.end(exchange)
        assert bench.stop.came == sent[: min(10, number + 5)]
    assert bench.fleet.pools["p"].load == 0


def test_a_newcomer_does_not_overtake_those_that_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"max_ongoing_requests": 1})
    state = bench.fleet.pools["p"]
    first, second = bench.send(2)
    state._waking = True  # a place is free, and the one whose turn it is has not been woken yet
    bench.end(first)
    (newcomer,) = bench.send()
    assert bench.stop.came == [first]
    state._waking = False
    state.wake()
    assert bench.stop.came == [first, second]
    bench.end(second)
    assert bench.stop.came == [first, second, newcomer]


def test_one_whose_replica_failed_goes_before_those_that_came_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"max_ongoing_requests": 1})
    first, second = bench.send(2)
    bench.fleet.failed(first.replica, "connect")  # type: ignore[arg-type]
    bench.end(first)
    bench.pipeline.again(first, Place.name)
    assert (bench.waiting, first.replica) == (2, None)
    add(bench.fleet.pools["p"], ["10.0.9.9:80"])
    assert bench.stop.came == [first, first]
    bench.end(first)
    assert bench.stop.came[-1] is second


@pytest.mark.parametrize("leaves", [False, True])
def test_the_only_replica_gets_a_request_that_it_dropped_after_a_moment(
    tmp_path: Path, clock: Clock, leaves: bool
) -> None:
    """A process that dies takes connections until its last moment: a second try at once would be lost as well."""
    bench = Bench(tmp_path)
    (exchange,) = bench.send()
    exchange.attempts = 1  # as relay notes when it sends
    bench.fleet.failed(exchange.replica, "closed")  # type: ignore[arg-type]
    bench.end(exchange)
    bench.pipeline.again(exchange, Place.name)
    assert bench.stop.came == [exchange]
    if leaves:
        bench.pipeline.abandon(exchange)
    clock.passes(SECOND_THOUGHT - 0.001)
    assert bench.stop.came == [exchange]
    clock.passes(0.002)
    assert bench.stop.came == [exchange] * (1 if leaves else 2)
    assert bench.fleet.pools["p"].members[0].outstanding == (0 if leaves else 1)


def test_another_replica_gets_it_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, replicas=2)
    (exchange,) = bench.send()
    first, exchange.attempts = exchange.replica, 1
    bench.end(exchange)
    bench.pipeline.again(exchange, Place.name)
    assert bench.stop.came == [exchange] * 2
    assert exchange.replica is not first


def test_more_than_may_wait_are_refused_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"max_ongoing_requests": 1, "max_waiting": 3})
    sent = bench.send(6)
    assert [status(exchange) for exchange in sent] == [0, 0, 0, 0, 503, 503]
    assert isinstance(sent[-1].error, PoolUnavailable)
    assert sent[-1].error.retry_after == 5
    assert b"retry-after: 5" in cast(RecordingClient, sent[-1].client).headers
    bench.pipeline.abandon(sent[1])
    (later,) = bench.send()
    assert status(later) == 0


def test_a_higher_priority_takes_the_seat_of_the_lowest(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"max_ongoing_requests": 1, "max_waiting": 2})
    running, early, late = bench.send(3)
    bench.tenant = TenantView("high", {"m": bench.model}, compile_policy(PolicyDocument()), "salt", priority=7)
    (urgent,) = bench.send()
    assert [status(exchange) for exchange in (running, early, late, urgent)] == [0, 0, 503, 0]
    assert b"retry-after: 5" in cast(RecordingClient, late.client).headers
    assert bench.waiting == 2
    bench.end(running)
    bench.end(urgent)
    assert bench.stop.came == [running, urgent, early]
    (next_one, refused) = bench.send(3)[1:]
    assert [status(next_one), status(refused)] == [0, 503]
    page = Counter[str]()
    for (_, priority), cell in bench.fleet._shed.items():
        page[str(priority)] += int(cell.value)
    assert page == {"5": 1, "7": 1}


def test_one_that_is_pushed_out_of_one_pool_waits_for_the_other(tmp_path: Path) -> None:
    one = {"name": "one", "max_ongoing_requests": 1, "max_waiting": 1}
    two = {"name": "two", "max_ongoing_requests": 1, "max_waiting": 1}
    bench = Bench(tmp_path, one, two)
    first, second, low = bench.send(3)
    bench.tenant = TenantView("high", {"m": bench.model}, compile_policy(PolicyDocument()), "salt", priority=7)
    (high,) = bench.send()
    assert [status(low), status(high)] == [0, 0]
    bench.end(second)
    assert bench.stop.came == [first, second, low]
    bench.end(first)
    assert bench.stop.came == [first, second, low, high]


def test_tenants_share_by_weight_what_becomes_free(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"max_ongoing_requests": 2})
    bench.send(2)
    for name, weight in (("one", 1.0), ("three", 3.0)):
        bench.tenant = TenantView(name, {"m": bench.model}, compile_policy(PolicyDocument()), name, weight=weight)
        bench.send(200)
    for turn in range(200):
        bench.end(bench.stop.came[turn])
    names = Counter(exchange.tenant.name for exchange in bench.stop.came[2:] if exchange.tenant)
    assert names["three"] == pytest.approx(150, abs=4)


def test_a_pool_may_forbid_waiting(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"max_ongoing_requests": 1, "max_waiting": 0})
    assert [status(exchange) for exchange in bench.send(2)] == [0, 503]


def test_who_leaves_while_waiting_leaves_nothing_behind_and_at_no_cost(tmp_path: Path) -> None:
    """With thousands waiting, the time for one to leave must not depend on how many there are."""

    def seconds_to_leave(count: int, folder: Path) -> float:
        bench = Bench(folder, {"max_ongoing_requests": 1, "max_waiting": 10_000})
        waiting = bench.send(count + 1)[1:]
        assert bench.waiting == count
        began = perf_counter()
        for exchange in waiting[::-1][:200]:
            bench.pipeline.abandon(exchange)
        took = perf_counter() - began
        for exchange in waiting:
            bench.pipeline.abandon(exchange)
        assert bench.waiting == 0
        return took

    few = min(seconds_to_leave(200, tmp_path / f"few{turn}") for turn in range(3))
    many = min(seconds_to_leave(8000, tmp_path / f"many{turn}") for turn in range(3))
    assert many < 10 * few + 0.01


def test_time_runs_out_with_503_and_nothing_left_behind(tmp_path: Path, clock: Clock) -> None:
    bench = Bench(tmp_path, {"place_timeout": 0.05}, replicas=0)
    (exchange,) = bench.send()
    clock.passes(0.049)
    assert (bench.waiting, status(exchange)) == (1, 0)
    clock.passes(0.002)
    assert (bench.waiting, status(exchange)) == (0, 503)


ASLEEP: dict[str, Any] = {
    "autoscaling": {"min_replicas": 0, "max_replicas": 1},
    "place_timeout": 0.05,
    "wake_timeout": 0.4,
}


@pytest.mark.parametrize(
    ("pools", "seconds", "message"),
    [
        ([ASLEEP], 0.4, "asleep, and has not woken within 0.4 seconds"),
        ([{**ASLEEP, "wake_timeout": 0.01}], 0.05, "asleep, and has not woken"),
        ([{"place_timeout": 0.05}, {**ASLEEP, "name": "q"}], 0.4, "Pool 'q' was asleep"),
        ([{**ASLEEP, "autoscaling": {"min_replicas": 1}}], 0.05, "could take the request within 0.05"),
        ([{"place_timeout": 0.05, "replicas": 0}], 0.05, "could take the request within 0.05"),
    ],
    ids=[
        "asleep",
        "asleep for less than a place is waited for",
        "beside an empty one",
        "starts",
        "nobody wakes it",
    ],
)
def test_a_pool_that_sleeps_gets_the_time_to_wake(
    tmp_path: Path, clock: Clock, pools: list[dict[str, Any]], seconds: float, message: str
) -> None:
    bench = Bench(tmp_path, *pools, replicas=0)
    (lost,) = bench.send()
    clock.passes(seconds - 0.001)
    assert lost.error is None
    clock.passes(0.002)
    assert lost.error is not None
    assert message in lost.error.message
    assert (lost.error.status, lost.error.retry_after) == (503, 5)
    (found,) = bench.send()
    state = bench.fleet.pools[bench.config.pools[-1].name]
    add(state, ["10.9.9.9:80"])
    assert found.replica is state.members[0]
    assert not state.sleeps


@pytest.mark.parametrize(
    ("allowed", "change", "placed"),
    [
        (True, {}, "fast"),
        (False, {}, None),
        (True, {"source": Source.POLICY}, None),
        (True, {"source": Source.BUDGET}, None),
        (True, {"source": Source.PREDICTOR}, "fast"),
        (True, {"needs": {"images": "messages[0].content"}}, None),
        (True, {"abandoned": True}, None),
        (True, {"engine_endpoint": Endpoint.COMPLETIONS}, None),
        (True, {"offered": False}, None),
    ],
    ids=["allowed", "not", "a rule", "a budget", "a guess", "can't", "gone", "completion", "key"],
)
def test_the_other_mode_answers_where_the_policy_allows_it_and_nothing_forbids_it(
    tmp_path: Path, clock: Clock, allowed: bool, change: dict[str, Any], placed: str | None
) -> None:
    deep = {"name": "deep", "place_timeout": 0.02, "capabilities": {"images": True}}
    bench = Bench(tmp_path, deep, {"name": "fast", "modes": ["no_think"], "place_timeout": 0.02}, replicas=0)
    add(bench.fleet.pools["fast"], ["10.0.0.9:80"])
    exchange = bench.exchange()
    exchange.policy = Policy.model_validate({"on_unavailable": "substitute"} if allowed else {})
    assert exchange.decision is not None
    for name, value in change.items():
        if name == "source":
            exchange.decision = exchange.decision._replace(source=value)
        elif name == "offered":
            exchange.scope = Scope(modes=["think"])
        else:
            setattr(exchange, name, value)
    bench.pipeline.start(exchange)
    clock.passes(0.1)
    assert bench.waiting == 0
    found = exchange.pool.name if exchange.pool is not None and exchange.replica is not None else None
    assert found == placed
    assert (exchange.error is None) == (placed is not None)
    assert exchange.decision.mode is (Mode.THINK if placed is None else Mode.NO_THINK)
    if placed is not None:
        assert exchange.decision.source is Source.POLICY


def test_one_that_waits_for_two_pools_takes_the_first_place_there_is(tmp_path: Path) -> None:
    one = {"name": "one", "max_ongoing_requests": 1}
    two = {"name": "two", "max_ongoing_requests": 1}
    bench = Bench(tmp_path, one, two)
    sent = bench.send(4)
    assert [exchange.pool.name for exchange in sent[:2] if exchange.pool] == ["one", "two"]
    assert [state.waiting for state in bench.fleet.pools.values()] == [2, 2]
    bench.end(sent[1])
    assert bench.stop.came == sent[:3]
    assert sent[2].pool is bench.config.pools[1]
    assert [state.waiting for state in bench.fleet.pools.values()] == [1, 1]


def test_what_the_request_needs_chooses_among_the_pools(tmp_path: Path) -> None:
    plain = {"name": "plain"}
    tools = {"name": "tools", "capabilities": {"tools": True}}
    bench = Bench(tmp_path, plain, tools)
    for _ in range(2):  # found out, then remembered
        exchange = bench.exchange()
        exchange.needs = {"tools": "tools"}
        assert bench.place(exchange) is Outcome.NEXT
        assert exchange.pool is bench.config.pools[1]
        exchange = bench.exchange()
        exchange.needs = {"tools": "tools", "images": "messages[0].content"}
        with pytest.raises(InvalidRequest, match=r"messages\[0\]\.content"):
            bench.place(exchange)


def test_the_mode_is_never_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"name": "deep"}, {"name": "fast", "modes": ["no_think"], "max_ongoing_requests": 1})
    sent = bench.send(3, mode=Mode.NO_THINK)
    assert [exchange.pool.name for exchange in sent if exchange.pool] == ["fast"] * 3
    assert bench.stop.came == sent[:1]


def test_a_new_configuration_of_the_model_is_seen(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"name": "one"}, {"name": "two"})
    bench.send()
    bench.model = ModelView("m", {Mode.THINK: (bench.config.pools[1],)}, frozenset({Mode.THINK}))
    bench.tenant.models["m"] = bench.model
    (exchange,) = bench.send()
    assert exchange.pool is bench.config.pools[1]


def test_what_is_remembered_of_tenants_is_bounded_and_what_is_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman.router.pipeline.place.GENERATION", 5)
    bench = Bench(tmp_path, {"max_ongoing_requests": 1000})
    policy = compile_policy(PolicyDocument())
    busy = bench.tenant
    (first,) = bench.send()
    for number in range(50):
        bench.tenant = TenantView(f"t{number}", {"m": bench.model}, policy, f"salt{number}")
        bench.send()
        if number % 4 == 0:
            bench.tenant = busy
            (again,) = bench.send()
            assert again.output_length is first.output_length
        assert len(bench.place._routes) <= 5
        assert len(bench.place._older) <= 5


def test_predictions_follow_what_answers_cost_and_never_exceed_what_was_allowed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"max_ongoing_requests": 1000})
    (first,) = bench.send()
    assert first.output_length is not None
    for _ in range(100):
        first.output_length.learn(4000)
    (default,) = bench.send()
    assert 1024 <= default.predicted_tokens < 1100  # the pool's default_max_tokens
    long, short = bench.exchange(), bench.exchange()
    long.max_tokens, short.max_tokens = 100_000, 10
    for exchange in (long, short):
        bench.pipeline.start(exchange)
    assert 3000 < long.predicted_tokens < 5000
    assert 10 <= short.predicted_tokens < 20
    (other,) = [bench.exchange()]
    other.tenant = TenantView("u", {"m": bench.model}, compile_policy(PolicyDocument()), "pepper")
    bench.pipeline.start(other)
    assert other.predicted_tokens < 400  # nobody learns from somebody else's answers


def test_a_long_prompt_counts_but_little_and_not_without_bound(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"max_ongoing_requests": 1000})
    sizes = []
    for characters in (0, 64_000, 640_000, 6_400_000):
        (exchange,) = bench.send(text="x" * characters)
        sizes.append(exchange.predicted_tokens)
    assert 990 <= sizes[1] - sizes[0] <= 1010
    assert sizes[0] + 2000 < sizes[2] == sizes[3] <= sizes[0] + MOST_PREFILL


# -- the key of a conversation


def key_of(messages: list[dict[str, Any]], seed: int = 7) -> int:
    exchange = exchange_with({})
    exchange.payload = {"messages": messages}
    return conversation_key(exchange, seed)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}


def test_later_turns_have_the_key_of_the_first() -> None:
    first = [SYSTEM, user("hello")]
    later = [*first, {"role": "assistant", "content": "hi"}, user("and now?")]
    assert key_of(first) == key_of(later)


def test_another_beginning_is_another_key() -> None:
    keys = {
        key_of([SYSTEM, user("hello")]),
        key_of([user("hello")]),
        key_of([SYSTEM, user("bye")]),
        key_of([SYSTEM, user("hello")], seed=8),
        key_of([user([{"type": "text", "text": "what is this?"}])]),
        key_of([user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])]),
        key_of([user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,BBBB"}}])]),
    }
    assert len(keys) == 7


def test_of_a_long_message_both_ends_count() -> None:
    template, other = "x" * EXCERPT, "y" * EXCERPT
    first = key_of([user(template + "a" * 10_000_000 + other)])
    assert first == key_of([user(template + "b" * EXCERPT + other)])
    assert first != key_of([user(template + "a" * 10_000_000 + template)])
    assert first != key_of([user(other + "a" * 10_000_000 + other)])


def test_tenants_and_models_are_apart(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    other = TenantView("u", {}, compile_policy(PolicyDocument()), "pepper")
    seeds = {Route(bench.fleet, tenant, bench.model, None).seed for tenant in (bench.tenant, other)}
    assert len(seeds) == 2


CONTENT = (
    st.none()
    | st.text()
    | st.lists(
        st.fixed_dictionaries({"type": st.just("text"), "text": st.text()})
        | st.fixed_dictionaries(
            {"type": st.just("image_url"), "image_url": st.dictionaries(st.just("url"), st.integers() | st.text())}
        )
    )
)


@given(
    messages=st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "user", "assistant"])}, optional={"content": CONTENT}
        ),
        min_size=1,
    )
)
def test_every_message_that_is_let_in_has_a_key(messages: list[dict[str, Any]]) -> None:
    assert 0 <= key_of(messages) < 2**32


@pytest.mark.parametrize("prompt", ["tell me", ["tell me", "and me"]])
def test_a_bare_prompt_has_a_key(prompt: Any) -> None:
    exchange = exchange_with({}, endpoint=Endpoint.COMPLETIONS)
    exchange.payload = {"prompt": prompt}
    assert conversation_key(exchange, 1) != conversation_key(exchange, 2)
