"""How many replicas a pool is to have: by what the routers tell, by what replicas tell, and what Ray is told."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pointsman.contracts.config import Pool
from pointsman.contracts.names import Env
from pointsman.serving import autoscaling
from pointsman.serving.autoscaling import DemandAgent, Scaler, wanted
from pointsman.serving.pool_application import PoolArgs, build_pool
from pointsman.serving.replica import LOAD
from pointsman.store.demand import Demand, DemandReader

MakePool = Callable[..., Pool]
BUSY = Demand(running=6, waiting=4, running_tokens=3000, waiting_tokens=2000)


def context(*, replicas: int = 2, target: int = 2, loads: dict[str, float] | None = None) -> Any:
    return SimpleNamespace(
        current_num_replicas=replicas,
        target_num_replicas=target,
        aggregated_metrics={} if loads is None else {LOAD: loads},
    )


@pytest.fixture
def scaler(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scaler]:
    def make(demand: Demand | None, **targets: Any) -> Scaler:
        monkeypatch.setattr(DemandAgent, "demand", lambda self: demand)
        return Scaler(pool="p", revision="", **{"target_requests": 4.0, "target_tokens": None, **targets})

    return make


@pytest.mark.parametrize(
    ("demand", "requests", "tokens", "replicas"),
    [
        (Demand(), 4, 100, 0),
        (BUSY, 4, None, 2.5),
        (BUSY, 4, 1000, 5),
        (BUSY, 1, 1000, 10),
    ],
    ids=["nothing to do", "requests", "tokens", "whichever asks for more"],
)
def test_the_demand_is_divided_by_what_one_replica_is_to_have(
    demand: Demand, requests: float, tokens: int | None, replicas: float
) -> None:
    assert wanted(demand, target_requests=requests, target_tokens=tokens) == replicas


def test_where_the_demand_is_known_the_replicas_own_loads_say_nothing(scaler: Callable[..., Scaler]) -> None:
    decide = scaler(BUSY)
    assert decide(context(loads={"a": 100, "b": 100})) == 2.5
    assert scaler(Demand())(context(replicas=0, target=0)) == 0
    assert scaler(Demand(waiting=1))(context(replicas=0, target=0)) == 0.25  # which Ray rounds up


@pytest.mark.parametrize(
    ("given", "replicas"),
    [
        (context(loads={"a": 9.0, "b": 3.0}), 3),
        (context(loads={"a": 0.0, "b": 0.0}), 1),
        (context(replicas=0, target=0), 0),
        (context(replicas=0, target=2), 2),
        (context(loads={"a": 9.0}), 2),
        (context(), 2),
    ],
    ids=["loads", "never to sleep", "asleep", "starting", "one has told nothing", "none has"],
)
def test_where_it_is_not_known_the_replicas_own_loads_decide(
    scaler: Callable[..., Scaler], given: Any, replicas: float
) -> None:
    assert scaler(None)(given) == replicas


class Reader:
    """Stands for the store: says what it is told to, or fails."""

    says: Any = BUSY

    def __init__(self, *_: Any) -> None:
        self.asked = threading.Event()

    def read(self) -> Demand | None:
        Reader.asked_last = self.asked
        self.asked.set()
        if isinstance(Reader.says, Exception):
            raise Reader.says
        return Reader.says

    asked_last: threading.Event


def test_the_agent_fetches_beside_those_who_ask_forgets_what_is_old_and_ends_with_its_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(autoscaling, "DemandReader", Reader)
    monkeypatch.setattr(autoscaling, "INTERVAL", 0.01)
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(autoscaling, "monotonic", lambda: clock.now)
    agent = DemandAgent("p", "", "redis://127.0.0.1:1")

    def until(agent: DemandAgent, expected: Demand | None) -> None:
        for _ in range(1000):
            if agent.demand() == expected:
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"{agent.demand()} is not {expected}")

    until(agent, BUSY)
    for failure in (autoscaling.RedisError("away"), RuntimeError("nobody thought of it")):
        Reader.says = failure
        threading.Event().wait(0.05)
        assert agent.demand() == BUSY
    clock.now += 5.1
    assert agent.demand() is None
    Reader.says = BUSY
    until(agent, BUSY)
    (thread,) = [one for one in threading.enumerate() if one.name == "demand-p"]
    del agent
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_without_a_store_nothing_is_ever_known() -> None:
    assert DemandAgent("p", "", None).demand() is None


def test_ray_gets_bounds_delays_and_a_policy_that_holds_no_password(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(Env.REDIS_URL, "redis://:do-not-tell@127.0.0.1:1")
    bounds = {
        "min_replicas": 0,
        "max_replicas": 4,
        "target_tokens": 5000,
        "upscale_delay": 7,
        "downscale_delay": 8,
        "downscale_to_zero_delay": 9,
    }
    pool = make_pool(max_ongoing_requests=8, autoscaling=bounds)
    found = build_pool({"pool": pool.model_dump(mode="json"), "revision": "r7"})._bound_deployment
    config = found._deployment_config.autoscaling_config
    assert (config.min_replicas, config.max_replicas, config.target_ongoing_requests) == (0, 4, 6.0)
    assert (config.upscale_delay_s, config.downscale_delay_s, config.downscale_to_zero_delay_s) == (7, 8, 9)
    assert config.policy.policy_kwargs == {
        "pool": "fast",
        "revision": "r7",
        "target_requests": 6.0,
        "target_tokens": 5000,
    }
    policy = config.policy.get_policy()(**config.policy.policy_kwargs)  # as Ray's controller reads it
    monkeypatch.setattr(DemandAgent, "demand", lambda self: BUSY)
    assert policy(context()) == (max(10 / 6, 1.0), {})
    assert b"do-not-tell" not in config.policy.get_serialized_policy_def()
    assert "do-not-tell" not in repr(found.init_args)


def test_a_simulated_pool_is_deployed_without_what_sglang_needs(make_pool: MakePool) -> None:
    found = build_pool(PoolArgs(pool=make_pool(engine="simulated", model_path=None)))._bound_deployment
    assert found.func_or_class.__name__ == "SimulatedReplica"
    assert "runtime_env" not in found.ray_actor_options


def test_only_routers_that_still_speak_count_and_each_revision_has_its_part() -> None:
    divided = b'[1, 6, 4, 3000, 2000, {"old": [5, 2500, 0.9], "new": [1, 500, 0.1]}]'

    def reader(revision: str = "") -> DemandReader:
        nothing: Any = None
        return DemandReader(nothing, "p", revision)

    whole = reader()
    assert whole.sum_of({}, 0.0) is None
    assert whole.sum_of({"a": b"[1, 6, 4, 3000, 2000, null]", "b": b"[7, 0, 0, 0, 0, null]"}, 0.0) == BUSY
    assert whole.sum_of({"a": b"[1, 6, 4, 3000, 2000, null]", "b": b"[8, 0, 1, 0, 9, null]"}, 4.9) == Demand(
        6, 5, 3000, 2009
    )
    assert whole.sum_of({"a": b"[1, 6, 4, 3000, 2000, null]", "b": b"[9, 0, 0, 0, 0, null]"}, 5.0) == Demand()
    assert whole.sum_of({"a": b"[1, 6, 4, 3000, 2000, null]"}, 6.0) is None
    assert whole.sum_of({"a": b"[2, 1, 0, 5, 0, null]"}, 7.0) == Demand(running=1, running_tokens=5)
    assert reader("old").sum_of({"a": divided}, 0.0) == Demand(5, 4, 2500, 1800)
    assert reader("new").sum_of({"a": divided}, 0.0) == Demand(1, 1, 500, 200)
    assert reader("newer").sum_of({"a": divided}, 0.0) == Demand()
    odd = [
        b"",
        b"7",
        b"{}",
        b"[1]",
        b"[1,1,1,1,-1,null]",
        b'[1,1,1,1,1,{"x":3}]',
        b"[1,1,1,1,1,7]",
        b"[1,1,1,1,1.5,null]",
    ]
    assert whole.sum_of({str(at): value for at, value in enumerate(odd)}, 8.0) is None
