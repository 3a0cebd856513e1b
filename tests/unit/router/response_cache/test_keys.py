"""Which requests have the same key: those alone whose answers can't differ, of one tenant or one group."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.config import Config
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.names import Header
from pointsman.contracts.policies import Policy
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.pipeline.recall import is_deterministic
from pointsman.router.response_cache.keys import Keys, idempotent_key, idempotent_scope, request_digest, scope_of
from pointsman.router.snapshot import compile_snapshot
from pointsman.router.wire import openai_request, wishes
from pointsman.store.response_cache import AnswerKey
from support.exchanges import RecordingClient

POOLS = [
    {
        "name": name,
        "model": model,
        "modes": [mode],
        "engine": "simulated",
        "prices": {"input": 1, "output": 2},
        "capabilities": {"tools": True, "json_schema": True, "logprobs": True},
    }
    for model in ("m", "m2")
    for name, mode in ((f"{model}-fast", "no_think"), (f"{model}-deep", "think"))
]
TENANTS = [
    {"name": "one"},
    {"name": "two"},
    {"name": "shared"},  # as the group is called
    {"name": "left", "cache": {"enabled": True, "group": "shared"}},
    {"name": "right", "cache": {"enabled": True, "group": "shared"}},
]


class World:
    """A configuration, and what has the key of its requests been made with."""

    def __init__(self, **changes: Any) -> None:
        pools = [{**pool, **changes.get("pool", {})} if pool["name"] == "m-fast" else pool for pool in POOLS]
        self.tenants = compile_snapshot(Config.model_validate({"pools": pools, "tenants": TENANTS})).tenants
        self.keys = Keys(lambda pools: str(changes.get("versions", "")))


HERE = World()
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"a": 1, "b": 2}}}
TURNED = {"type": "function", "function": {"name": "f", "parameters": {"b": 2, "a": 1}}}
BASE: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Why?"}], "temperature": 0}


def key(
    *,
    world: World = HERE,
    tenant: str = "one",
    mode: Mode = Mode.NO_THINK,
    source: Source = Source.PREDICTOR,
    policy: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    endpoint: Endpoint = Endpoint.CHAT,
    generation: int = 0,
    **body: Any,
) -> AnswerKey:
    """The key of a request that is `BASE` but for what is said here."""
    fields = {name: value for name, value in {**BASE, **body}.items() if value is not ...}
    named = {name.encode(): value.encode() for name, value in (headers or {}).items()}
    exchange = Exchange(RecordingClient(), endpoint, named, orjson.dumps(fields))
    openai_request.read(exchange)
    exchange.tenant = world.tenants.named(tenant)
    assert exchange.tenant is not None
    exchange.model = exchange.tenant.models[fields["model"]]
    exchange.policy = Policy.model_validate(policy or {})
    wishes.read(exchange, None)
    exchange.decision = ModeDecision(mode, source, 0.5, 0.4, "threshold")
    found = world.keys.key(exchange, generation)
    assert found is not None
    return found


SHAPING: list[dict[str, Any]] = [
    {},
    {"tenant": "two"},
    {"tenant": "left"},
    {"tenant": "shared"},
    {"model": "m2"},
    {"mode": Mode.THINK},
    {"mode": Mode.THINK, "headers": {Header.THINKING_BUDGET: "100"}},
    {"mode": Mode.THINK, "reasoning_effort": "high"},
    {"generation": 1},
    {"stream": True},
    {"stream": True, "headers": {Header.ESCALATION: "buffered"}},
    {"source": Source.CLIENT},  # is never escalated
    {"policy": {"model_decides": True}},
    {"policy": {"max_output": {"no_think": 10}}},
    {"policy": {"thinking_budget": 10}},
    {"policy": {"escalation": {"triggers": ["empty"]}}},
    {"policy": {"escalation": {"triggers": ["confidence"], "min_mean_logprob": -1.0}}},
    {"policy": {"escalation": {"triggers": ["confidence"], "min_mean_logprob": -2.0}}},
    {"world": World(versions="v1")},
    {"world": World(versions="v2")},
    {"world": World(pool={"served_model_name": "other"})},
    {"messages": [{"role": "user", "content": "Why ?"}]},
    {"messages": [{"role": "system", "content": "Why?"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]},
    {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "?"}]},
    {"temperature": ..., "seed": 1},
    {"seed": 1},
    {"seed": 2},
    {"max_tokens": 100},
    {"max_tokens": 101},
    {"top_p": 0.5},
    {"top_k": 5},
    {"min_p": 0.5},
    {"n": 2},
    {"stop": "a"},
    {"stop": ["a", "b"]},
    {"presence_penalty": 0.5},
    {"frequency_penalty": 0.5},
    {"repetition_penalty": 0.5},
    {"logit_bias": {"1": 5}},
    {"min_tokens": 3},
    {"ignore_eos": True},
    {"logprobs": True},
    {"logprobs": True, "top_logprobs": 3},
    {"tools": [TOOL]},
    {"tools": [TURNED]},  # templates write it in the order it came in
    {"tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL], "parallel_tool_calls": False},
    {"response_format": {"type": "json_object"}},
    {"endpoint": Endpoint.COMPLETIONS, "messages": ..., "prompt": "Why?"},
    {"endpoint": Endpoint.COMPLETIONS, "messages": ..., "prompt": "Why?", "echo": True},
    {"endpoint": Endpoint.COMPLETIONS, "messages": ..., "prompt": "Why?", "suffix": "x"},
    {"endpoint": Endpoint.COMPLETIONS, "messages": ..., "prompt": "Why?", "best_of": 2},
]
SAME: list[dict[str, Any]] = [
    {"user": "u"},
    {"metadata": {"a": "b"}},
    {"store": True},
    {"service_tier": "x"},
    {"safety_identifier": "x"},
    {"prompt_cache_key": "x"},
    {"headers": {Header.INCLUDE_COST: "true"}},
    {"headers": {Header.REQUEST_ID: "mine"}},
    {"headers": {Header.CACHE_CONTROL: "force"}},
    {"policy": {"show_cost": False, "threshold": 0.9}},
    {"world": World(pool={"prices": {"input": 9, "output": 9}})},
]


def test_whatever_shapes_an_answer_makes_another_key() -> None:
    keys = [key(**change) for change in SHAPING]
    assert len(set(keys)) == len(SHAPING)
    forwarded = {
        name
        for fields in openai_request.FIELDS.values()
        for name, field in fields.items()
        if field.forwarded and name not in {"messages", "prompt", "temperature"}
    }
    tried = {name for change in SHAPING for name in change}
    assert forwarded <= tried  # a field that engines get from now on belongs into the table


@pytest.mark.parametrize("change", SAME)
def test_what_only_concerns_the_client_makes_none(change: dict[str, Any]) -> None:
    assert key(**change) == key()
    assert key(headers={Header.ESCALATION: "off"}) == key(source=Source.CLIENT)  # neither is escalated
    assert key(stream=True, stream_options={"include_usage": True}) == key(stream=True)


def test_two_tenants_have_a_key_in_common_only_in_a_group_that_both_name() -> None:
    assert key(tenant="left") == key(tenant="right")
    scopes = [scope_of("one", None), scope_of("shared", None), scope_of("left", "shared"), scope_of("left", None)]
    scopes += [idempotent_scope("one"), idempotent_scope("left")]
    assert len(set(scopes)) == len(scopes)
    view = HERE.tenants.named("right")
    assert view is not None
    shared, view.cache = view.cache, view.cache.model_copy(update={"group": None})
    assert key(tenant="right") != key(tenant="left")  # from the next request on
    view.cache = shared
    assert key(tenant="right") == key(tenant="left")


Json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(Json, Json)
def test_requests_have_one_key_exactly_where_engines_are_sent_the_same(one: Any, other: Any) -> None:
    def of(value: Any) -> AnswerKey:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"default": value}}}
        return key(tools=[tool])

    assert (of(one) == of(other)) == (orjson.dumps(one) == orjson.dumps(other))


def digest(body: dict[str, Any], *, endpoint: Endpoint = Endpoint.CHAT, effort: str | None = None) -> bytes:
    exchange = Exchange(RecordingClient(), endpoint, {}, b"")
    exchange.payload, exchange.effort = body, effort
    return request_digest(exchange)


def test_an_idempotency_key_is_of_one_tenant_and_tells_one_request_from_others() -> None:
    assert idempotent_key("one", b"k", 0) == idempotent_key("one", b"k", 0)
    others = [
        idempotent_key("two", b"k", 0),
        idempotent_key("one", b"K", 0),
        idempotent_key("one", b"k", 1),
        idempotent_key("one", b"1\nk", 0),
    ]
    assert len({idempotent_key("one", b"k", 0), *others}) == 5
    same = digest(BASE)
    assert same == digest(dict(reversed(BASE.items())))
    assert len({same, digest({**BASE, "user": "u"}), digest(BASE, effort="high")}) == 3


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0.0}, True),
        ({"seed": 0}, True),
        ({"temperature": 1, "seed": 5}, True),
        ({}, False),
        ({"temperature": 0.01}, False),
        ({"top_p": 0.1}, False),
    ],
)
def test_what_is_not_sampled_or_names_its_seed_is_meant_to_be_the_same(body: dict[str, Any], kept: bool) -> None:
    exchange = Exchange(RecordingClient(), Endpoint.CHAT, {}, b"")
    exchange.payload = body
    assert is_deterministic(exchange) is kept
