"""The steps `parse` and `decide` together: two policies side by side, what thinking costs, and load."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest

from pointsman.contracts.errors import ApiError
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.policies import PolicyDocument, Stage
from pointsman.router import metrics as metrics_module
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.fleet import Fleet
from pointsman.router.metrics import OTHERS
from pointsman.router.pipeline import thinking_price
from pointsman.router.pipeline.decide import Decide
from pointsman.router.pipeline.parse import Parse
from pointsman.router.pipeline.place import Place
from pointsman.router.pipeline.thinking_price import ENOUGH, ThinkingPrice
from pointsman.router.policies import ArmName, compile_policy
from pointsman.router.predictor import Predictor
from pointsman.router.predictors import Predictors
from pointsman.router.snapshot import TenantView, compile_snapshot
from pointsman.router.tracks import Tracks
from support.exchanges import exchange_with
from support.fleets import add, config_with, fleet_of, metrics_in

THINK, NO_THINK = Mode.THINK, Mode.NO_THINK
POOLS: tuple[dict[str, Any], ...] = (
    {"name": "fast", "modes": ["no_think"], "prices": {"input": 1, "cached_input": 0.1, "output": 2}},
    {
        "name": "deep",
        "max_ongoing_requests": 2,
        "prices": {"input": 1, "cached_input": 0.1, "output": 10, "reasoning": 20},
    },
    {
        "name": "deeper",
        "max_ongoing_requests": 3,
        "prices": {"input": 1, "cached_input": 0.1, "output": 10, "reasoning": 20},
    },
)


class Half:
    """A predictor that is never sure."""

    arithmetic = "compiled"

    def probability(self, question: str) -> float:
        return 0.5


class Deciding:
    """Both steps, over one fleet of three pools, for one tenant."""

    def __init__(self, folder: Path) -> None:
        config = config_with(*POOLS, tenants=[{"name": "t", "key_digests": ["0" * 64]}])
        snapshot = compile_snapshot(config)
        self.tenant: TenantView = snapshot.tenants.views["t"]
        self.fleet: Fleet = fleet_of(config, folder)
        self.place = Place(self.fleet)
        self.price = ThinkingPrice(self.place, snapshot.prices)
        self.parse = Parse()
        metrics = metrics_in(folder)
        self.predictors = Predictors(cast(Predictor, Half()), metrics)
        self.tracks = Tracks(folder / "tracks")
        self.decide = Decide(self.predictors, metrics, self.fleet, self.price, self.tracks)

    def policy(self, **document: Any) -> None:
        self.tenant.policy = compile_policy(PolicyDocument.model_validate(document), version="7")

    def exchange(self, text: str = "hello", **fields: Any) -> Exchange:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
        exchange = exchange_with(body, endpoint=Endpoint.CHAT)
        exchange.tenant = self.tenant
        self.parse(exchange)
        self.decide(exchange)
        return exchange

    def decision(self, text: str = "hello", **fields: Any) -> ModeDecision:
        decision = self.exchange(text, **fields).decision
        assert decision is not None
        return decision

    def answered(self, mode: Mode, tokens: int, count: int) -> None:
        route = self.place.route(self.tenant, self.tenant.models["m"])
        track = route.think if mode is THINK else route.no_think
        assert track is not None
        for _ in range(count):
            track.output_length.learn(tokens)


def test_tenants_beyond_the_most_that_are_shown_take_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_module, "MAX_TENANTS", 3)
    deciding = Deciding(tmp_path)
    for number in range(50):
        deciding.tenant.name = f"t{number}"
        for effort in ("none", "high"):
            deciding.exchange(reasoning_effort=effort)
    decide = deciding.decide
    assert len(decide._thresholds) == 3
    assert sorted(decide._cells) == [
        (tenant, mode, Source.CLIENT) for tenant in (OTHERS, "t0", "t1", "t2") for mode in (NO_THINK, THINK)
    ]
    assert decide._cells[OTHERS, THINK, Source.CLIENT].value == 47


@pytest.fixture
def deciding(tmp_path: Path) -> Deciding:
    return Deciding(tmp_path)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking_price, "FRESH", 0.0)


# -- two policies

PRESENT: dict[str, Any] = {"threshold": 0.9}
CANDIDATE: dict[str, Any] = {
    "threshold": 0.1,
    "rules": [{"name": "new", "match": {"tools": True}, "mode": "no_think"}],
}


def held_by(exchange: Exchange) -> ArmName:
    """Who held for `exchange`, with all that the record is to say of it checked against each other."""
    arm, decision = exchange.arm, exchange.decision
    assert arm is not None
    assert decision is not None
    assert exchange.policy is arm.policy
    assert (arm.version, exchange.ruling is not None) == ("7", True)
    think_first = {ArmName.PRESENT: (NO_THINK, THINK), ArmName.CANDIDATE: (THINK, NO_THINK)}
    assert (decision.mode, decision.shadow) == think_first[arm.name]
    return arm.name


@pytest.mark.parametrize("stage", Stage)
def test_both_decide_and_one_holds(deciding: Deciding, stage: Stage) -> None:
    deciding.policy(policy=PRESENT, candidate={"policy": CANDIDATE, "stage": stage, "share": 0.3})
    texts = [f"question {number}" for number in range(400)]
    held = {text: held_by(deciding.exchange(text)) for text in texts}
    share = sum(name is ArmName.CANDIDATE for name in held.values()) / len(texts)
    expected = {Stage.OBSERVE: 0.0, Stage.CANARY: 0.3, Stage.ENFORCE: 1.0}[stage]
    assert share == pytest.approx(expected, abs=0.0 if expected in (0.0, 1.0) else 0.1)
    for text, name in held.items():
        answer = {"role": "assistant", "content": "so"}
        first, later = {"role": "user", "content": text}, {"role": "user", "content": "go on"}
        assert held_by(deciding.exchange(messages=[first, answer, later])) is name, (
            "a conversation stays where it is"
        )


def test_conversations_of_another_tenant_are_shared_out_anew(tmp_path: Path) -> None:
    def held(salt: str) -> list[ArmName]:
        deciding = Deciding(tmp_path)
        deciding.tenant.cache_salt = salt
        deciding.policy(policy=PRESENT, candidate={"policy": CANDIDATE, "stage": "canary", "share": 0.5})
        return [held_by(deciding.exchange(f"question {number}")) for number in range(60)]

    assert held("one") == held("one")
    assert held("one") != held("two")


def test_a_wish_in_words_leaves_a_conversation_where_it_is(deciding: Deciding) -> None:
    deciding.policy(policy=PRESENT, candidate={"policy": CANDIDATE, "stage": "canary", "share": 0.5})
    arms = set()
    for number in range(30):
        asked = deciding.exchange(f"question {number} /think")
        first, answer = (
            {"role": "user", "content": f"question {number} /think"},
            {"role": "assistant", "content": "x"},
        )
        later = deciding.exchange(messages=[first, answer, {"role": "user", "content": "and?"}])
        assert asked.arm is later.arm
        assert later.payload["messages"][0]["content"] == asked.payload["messages"][0]["content"]
        arms.add(asked.arm and asked.arm.name)
    assert arms == set(ArmName)


def test_what_the_other_policy_would_have_refused_is_no_mode(deciding: Deciding) -> None:
    strict = {"on_thinking_budget_spent": "refuse"}
    deciding.policy(policy={}, candidate={"policy": strict, "stage": "observe"})
    deciding.tenant.thinking_spent = True
    decision = deciding.decision()
    assert (decision.mode, decision.source, decision.shadow) == (NO_THINK, Source.BUDGET, None)
    deciding.policy(policy=strict, candidate={"policy": {}, "stage": "observe"})
    with pytest.raises(ApiError) as refused:
        deciding.exchange()
    assert refused.value.code == "thinking_budget_spent"
    assert 0 < (refused.value.retry_after or 0) <= 86_400


def test_the_candidates_rules_and_words_hold_where_it_holds(deciding: Deciding) -> None:
    silent = {**CANDIDATE, "wish_in_prompt": False}
    tools = [{"type": "function", "function": {"name": "f"}}]
    for stage, said, source in ((Stage.OBSERVE, "hi", "client"), (Stage.ENFORCE, "hi /think", "predictor")):
        deciding.policy(policy=PRESENT, candidate={"policy": silent, "stage": stage})
        exchange = deciding.exchange("hi /think")
        assert exchange.payload["messages"][0]["content"] == said
        assert exchange.decision is not None
        assert exchange.decision.source.value == source
    ruled = deciding.decision("hi", tools=tools)
    assert (ruled.source, ruled.rule, ruled.mode) == (Source.POLICY, "new", NO_THINK)


# -- what thinking costs


def test_what_thinking_costs_more_is_unknown_until_both_modes_were_seen(deciding: Deciding) -> None:
    deciding.policy(policy={"threshold": 0.7, "cost_of_wrong_fast": "0.01"})
    model = deciding.tenant.models["m"]
    deciding.answered(THINK, 1000, 3 * ENOUGH)
    deciding.answered(NO_THINK, 100, ENOUGH - 1)
    assert deciding.price.extra(deciding.tenant, model) is None
    assert deciding.decision().threshold == 0.7
    deciding.answered(NO_THINK, 100, 2 * ENOUGH)
    route = deciding.place.route(deciding.tenant, model)
    assert route.think is not None
    assert route.no_think is not None
    long, short = route.think.output_length.tokens, route.no_think.output_length.tokens
    assert long > 4 * short
    dollars = (short * 10 + (long - short) * 20 - short * 2) / 1e6
    assert deciding.price.extra(deciding.tenant, model) == pytest.approx(dollars)
    decision = deciding.decision()
    assert decision.threshold == pytest.approx(min(dollars / 0.01, 1.0))
    assert decision.detail == "cost_of_wrong_fast"


def test_the_price_of_a_model_of_one_mode_is_unknown(tmp_path: Path) -> None:
    config = config_with({}, tenants=[{"name": "t", "key_digests": ["0" * 64]}])
    snapshot = compile_snapshot(config)
    tenant = snapshot.tenants.views["t"]
    price = ThinkingPrice(Place(fleet_of(config, tmp_path)), snapshot.prices)
    assert price.extra(tenant, tenant.models["m"]) is None


def test_a_figure_holds_for_a_while(deciding: Deciding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking_price, "FRESH", 60.0)
    model = deciding.tenant.models["m"]
    assert deciding.price.extra(deciding.tenant, model) is None
    for mode in Mode:
        deciding.answered(mode, 50, ENOUGH)
    assert deciding.price.extra(deciding.tenant, model) is None


# -- hysteresis


def turn(deciding: Deciding, *said: str) -> Exchange:
    """A request of a conversation in which `said` was said by turns, the user first."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(said)]
    return deciding.exchange(messages=messages)


def decided(exchange: Exchange) -> ModeDecision:
    assert exchange.decision is not None
    return exchange.decision


def on(deciding: Deciding, mode: Mode, *said: str) -> None:
    """The conversation in which `said` was said has been answered in `mode`."""
    exchange = turn(deciding, *said)
    exchange.decision = decided(exchange)._replace(mode=mode)
    deciding.tracks.note(exchange, 200)


LONG = "word " * 4000
"""Five thousand tokens, as the router counts them: 0.005 dollars where they are not cached, see `POOLS`."""


@pytest.mark.parametrize("mode", Mode)
def test_a_conversation_stays_on_its_track_by_what_moving_it_costs(deciding: Deciding, mode: Mode) -> None:
    deciding.answered(THINK, 1100, ENOUGH)
    deciding.answered(NO_THINK, 125, ENOUGH)
    extra = deciding.price.extra(deciding.tenant, deciding.tenant.models["m"])
    assert extra is not None
    deciding.policy(policy={"threshold": 0.45, "hysteresis": 0.4})
    assert decided(turn(deciding, LONG, "so", "on")).threshold == 0.45, "nobody knows its track"
    on(deciding, mode, LONG)
    decision = decided(turn(deciding, LONG, "so", "on"))
    history = 0.005 * (0.9 if mode is NO_THINK else -0.9)  # dollars: a cached token costs a tenth
    assert decision.threshold == pytest.approx(0.45 * (1 + history / extra), rel=0.01)
    # The predictor says 0.5: above the policy's threshold, and below what it costs to leave the fast track.
    stayed = (NO_THINK, Source.PREDICTOR, "hysteresis")
    assert (*decision[:2], decision.detail) == (
        stayed if mode is NO_THINK else (THINK, Source.PREDICTOR, "threshold")
    )
    assert decided(turn(deciding, LONG)).threshold == 0.45, "a first turn has no track yet"
    assert decided(turn(deciding, LONG + "!", "so", "on")).threshold == 0.45, "nor has another conversation"


def test_hysteresis_moves_the_threshold_only_so_far_and_only_where_asked_for(deciding: Deciding) -> None:
    deciding.answered(THINK, 600, ENOUGH)
    deciding.answered(NO_THINK, 500, ENOUGH)
    for most in (0.0, 0.05):
        deciding.policy(policy={"threshold": 0.48, "hysteresis": most})
        on(deciding, NO_THINK, LONG)
        decision = decided(turn(deciding, LONG, "so", "on"))
        assert decision.threshold == pytest.approx(0.48 + most)
        assert decision.mode is (NO_THINK if most else THINK)  # the predictor says 0.5
    deciding.policy(policy={"threshold": 0.48})
    assert decided(turn(deciding, LONG, "so", "on")).threshold == 0.48


def test_hysteresis_waits_until_it_is_known_what_thinking_costs(deciding: Deciding) -> None:
    deciding.policy(policy={"threshold": 0.5, "hysteresis": 0.4})
    on(deciding, NO_THINK, LONG)
    assert decided(turn(deciding, LONG, "so", "on")).threshold == 0.5


# -- load


def test_load_is_what_runs_and_waits_per_place(deciding: Deciding) -> None:
    pools = deciding.tenant.models["m"].pools[THINK]
    deep, deeper = (deciding.fleet.pools[pool.name] for pool in pools)
    assert deciding.fleet.load_of(pools) == 0.0, "no places, and nobody wants one"
    deep.waiting = deeper.waiting = 1
    assert deciding.fleet.load_of(pools) == math.inf
    deep.waiting = deeper.waiting = 0
    add(deep, ["10.0.0.1:80", "10.0.0.2:80"])
    add(deeper, ["10.0.1.1:80"])
    taken = [deep.take(number << 20, 10) for number in range(4)]
    assert deciding.fleet.load_of(pools) == pytest.approx(4 / 7)
    deep.refresh()
    assert deciding.fleet.load_of(pools) == pytest.approx(4 / 7)
    assert taken[0] is not None
    deep.give_back(taken[0], 10)
    assert deciding.fleet.load_of(pools) == pytest.approx(3 / 7)
    assert deciding.fleet.load_of(()) == 0.0


def test_load_raises_the_threshold_within_its_limits(deciding: Deciding) -> None:
    limits = {"highest_threshold": 0.8, "from_load": 0.2, "full_load": 1.0}
    deciding.policy(policy={"threshold": 0.4, "saturation": limits})
    deep = deciding.fleet.pools["deep"]
    add(deep, [f"10.0.0.{number}:80" for number in range(5)])
    seen = []
    for _ in range(11):
        decision = deciding.decision()
        seen.append(decision.threshold)
        assert (decision.source is Source.SATURATION) is (decision.threshold > 0.5)
        assert (decision.mode is NO_THINK) is (decision.threshold > 0.5)
        if deep.take(len(seen) << 20, 10) is None:
            break
    assert seen == pytest.approx([0.4, 0.4, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8])


class Sure:
    """A predictor that always says the same."""

    def __init__(self, version: str, probability: float) -> None:
        self.version = version
        self.said = probability

    def probability(self, question: str) -> float:
        return self.said


def test_each_policy_is_judged_by_its_own_predictor(deciding: Deciding) -> None:
    fast, deep = "acme-2026-11-22-0000000000", "acme-2026-11-23-0000000000"
    deciding.predictors.hold(fast, cast(Predictor, Sure(fast, 0.1)))
    deciding.predictors.hold(deep, cast(Predictor, Sure(deep, 0.9)))
    deciding.policy(policy={"predictor": fast})
    exchange = deciding.exchange()
    assert (exchange.mode, exchange.predictor) == (NO_THINK, deciding.predictors.of(fast))
    for stage, mode, shadow, held in (("observe", NO_THINK, THINK, fast), ("enforce", THINK, NO_THINK, deep)):
        deciding.policy(policy={"predictor": fast}, candidate={"policy": {"predictor": deep}, "stage": stage})
        exchange = deciding.exchange()
        decision = exchange.decision
        assert decision is not None
        assert (decision.mode, decision.shadow) == (mode, shadow)
        assert exchange.predictor is deciding.predictors.of(held)
        assert decision.probability == deciding.predictors.of(held).probability("")
    deciding.policy(policy={"predictor": deep}, candidate={"policy": {"threshold": 0.6}, "stage": "observe"})
    decision = deciding.decision()
    assert (decision.mode, decision.shadow) == (THINK, NO_THINK)  # the platform's own says 0.5
    deciding.predictors.drop(deep)
    exchange = deciding.exchange()
    assert exchange.predictor is deciding.predictors.base  # which says 0.5, and goes on
    assert deep in (deciding.predictors.trouble() or "")
