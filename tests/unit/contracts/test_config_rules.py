"""The rules between fields of the configuration: each one broken once, and each boundary that still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pointsman.contracts.config import Config, Family, Policy, Pool, Prices
from pointsman.contracts.config_engines import (
    FAMILIES_BY_BEGINNING,
    FAMILIES_CLOSED_BY_TEXT,
    FAMILIES_THAT_FORGET_THINKING,
    FAMILIES_WITHOUT_SWITCH,
    SGLANG_ARGS_BY_FIELD,
)
from pointsman.contracts.config_file import ConfigError, dump_config, parse_config
from pointsman.contracts.modes import Mode, ModePolicy
from pointsman.contracts.policies import PolicyDocument
from pointsman.router.policies import compile_policy

DIGEST = "ab" * 32
POOL: dict[str, Any] = {
    "name": "deep",
    "model": "m",
    "modes": ["think"],
    "engine": "sglang",
    "model_path": "org/m",
    "prices": {"input": "0.1", "output": "0.4"},
}
UPSTREAM: dict[str, Any] = {
    **{field: value for field, value in POOL.items() if field != "model_path"},
    "engine": "vllm",
    "urls": ["http://10.0.0.1:8000"],
}


def problems(*pools: dict[str, Any], **rest: Any) -> dict[str, str]:
    """Path and message of all that is wrong with a fleet of `pools`; empty where it is fine."""
    import yaml

    text = yaml.safe_dump({"pools": list(pools), **rest}, sort_keys=False)
    try:
        config = parse_config(text, source="fleet.yaml", folder=Path("/fleet"))
    except ConfigError as error:
        return {problem.path: problem.message for problem in error.problems}
    assert parse_config(dump_config(config), source="dump", folder=Path("/")) == config
    return {}


def test_the_pools_of_these_tests_are_fine() -> None:
    assert problems(POOL) == {}
    assert problems(UPSTREAM) == {}


@pytest.mark.parametrize("engine", ["vllm", "ktransformers", "openai"])
def test_an_engine_that_we_do_not_start_needs_urls(engine: str) -> None:
    pool = {**POOL, "engine": engine}
    message = f"engine {engine} is not started by Pointsman: list its replicas here"
    assert problems(pool) == {"pools[0].urls": message}
    assert problems({**UPSTREAM, "engine": engine}) == {}


def test_sglang_needs_weights_where_we_start_it() -> None:
    pool = {field: value for field, value in POOL.items() if field != "model_path"}
    assert problems(pool) == {
        "pools[0].model_path": "engine sglang needs weights: a folder, a hub name or local:smollm2"
    }
    assert problems({**pool, "urls": ["http://10.0.0.1:30000"]}) == {}
    assert problems({**pool, "engine": "simulated"}) == {}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("10.0.0.1:8000", "must be http://host:port"),
        ("http://", "must be http://host:port"),
        ("http://:8000", "must be http://host:port"),
        ("http://[::1", "must be http://host:port"),
        ("http://host:99999", "must be http://host:port"),
        ("http://host:0", "must be http://host:port"),
        ("http://host:port", "must be http://host:port"),
        ("ftp://host", "must be http://host:port"),
        ("http://ho st:1", "must be http://host:port"),
        ("http://ho\tst:1", "must be http://host:port"),
        ("http://host:1\r\nx: y", "must be http://host:port"),
        (
            "https://host",
            "must start with http://: the router speaks plain HTTP to replicas, over a network you trust",
        ),
        ("http://user:secret@host:1", "must be http://host:port, without a user name or password"),
        ("http://host:1/v1", "must be http://host:port and nothing after it: the router adds /v1/… itself"),
        ("http://host:1?a=b", "must be http://host:port and nothing after it: the router adds /v1/… itself"),
    ],
)
def test_a_url_that_is_no_base_url(url: str, message: str) -> None:
    assert problems({**UPSTREAM, "urls": [url]}) == {"pools[0].urls[0]": message}


@pytest.mark.parametrize("url", ["http://host", "http://host:8000", "http://host:8000/", "http://[::1]:8000"])
def test_a_url_that_is_a_base_url(url: str) -> None:
    assert problems({**UPSTREAM, "urls": [url]}) == {}


def test_a_url_listed_twice() -> None:
    assert problems({**UPSTREAM, "urls": ["http://a:1", "http://b:1", "http://a:1"]}) == {
        "pools[0].urls[2]": "http://a:1 is listed twice"
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [("engine_args", {"dtype": "auto"}), ("chat_template", "x.jinja"), ("autoscaling", {"max_replicas": 2})],
)
def test_settings_that_could_not_take_effect_are_refused(field: str, value: Any) -> None:
    found = problems({**UPSTREAM, field: value})
    assert set(found) == {f"pools[0].{field}"}
    assert "has no effect on a pool with `urls`" in found[f"pools[0].{field}"]


def test_a_mode_listed_twice() -> None:
    assert problems({**POOL, "modes": ["think", "think"]}) == {"pools[0].modes": "lists a mode twice"}


@pytest.mark.parametrize("family", list(Family))
def test_only_a_family_that_switches_may_answer_both_modes(family: Family) -> None:
    found = problems({**POOL, "modes": ["think", "no_think"], "family": str(family)})
    assert ("pools[0].family" in found) is (family in FAMILIES_WITHOUT_SWITCH)


def test_the_families_of_both_modes_are_those_that_the_router_tells_the_mode() -> None:
    from pointsman.router.families import FAMILIES

    assert set(FAMILIES) == set(Family)
    switched = {name for name, family in FAMILIES.items() if family.switch is not None}
    begun = {name for name, family in FAMILIES.items() if set(family.prefills) == set(Mode)}
    assert begun == FAMILIES_BY_BEGINNING
    assert switched | begun == set(Family) - FAMILIES_WITHOUT_SWITCH


@pytest.mark.parametrize("engine", ["sglang", "vllm", "ktransformers", "openai", "simulated"])
def test_kat_answers_both_modes_where_its_turn_can_be_begun(engine: str) -> None:
    pool = {**UPSTREAM, "engine": engine, "family": "kat"}
    assert problems(pool) == {}
    assert set(problems({**pool, "modes": ["think", "no_think"]})) == (
        set() if engine in ("sglang", "vllm") else {"pools[0].family"}
    )


def test_the_reasoning_parser_goes_with_the_family() -> None:
    assert set(problems({**POOL, "family": "kat", "reasoning_parser": "qwen3"})) == {"pools[0].reasoning_parser"}
    assert set(problems({**POOL, "family": "gpt_oss"})) == {"pools[0].reasoning_parser"}
    assert problems({**POOL, "family": "gpt_oss", "reasoning_parser": "gpt-oss"}) == {}
    assert problems({**UPSTREAM, "family": "gpt_oss"}) == {}  # vLLM needs none


def test_a_template_opens_the_thinking_of_a_pool_that_thinks() -> None:
    assert problems({**POOL, "template_opens_thinking": True}) == {}
    assert problems({**POOL, "modes": ["no_think"], "template_opens_thinking": True}) == {
        "pools[0].template_opens_thinking": "is set on a pool that never thinks"
    }


@pytest.mark.parametrize(
    ("said", "opens"),
    [
        ({}, False),
        ({"chat_template": "builtin:think"}, True),
        ({"chat_template": "builtin:think", "template_opens_thinking": False}, False),
        ({"family": "deepseek"}, True),
        ({"family": "qwen3"}, False),
        ({"family": "qwen3", "template_opens_thinking": True}, True),
    ],
)
def test_which_templates_open_the_thinking(said: dict[str, Any], opens: bool) -> None:
    assert Pool.model_validate({**POOL, **said}).opens_thinking is opens


@pytest.mark.parametrize(
    ("said", "enforces"),
    [
        ({}, False),
        ({"reasoning_parser": "qwen3"}, False),
        ({"reasoning_parser": "qwen3", "thinking_budget": 100}, True),
        ({"reasoning_parser": "pointsman"}, True),
        ({"engine": "simulated"}, True),
        ({"engine": "vllm", "urls": ["http://10.0.0.1:8000"], "reasoning_parser": "qwen3"}, False),
    ],
)
def test_which_engines_enforce_thinking_budgets(said: dict[str, Any], enforces: bool) -> None:
    assert Pool.model_validate({**POOL, **said}).enforces_thinking_budget is enforces


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("context_length", "say it in the pool's field `capabilities.context`"),
        ("tp_size", "say it in the pool's field `tensor_parallel`"),
        ("enable_strict_thinking", "say it in the pool's field `thinking_budget`"),
        ("port", "is set by Pointsman for each replica"),
        (
            "enable_custom_logit_processor",
            "is refused: the engine would run code that comes with a request",
        ),
    ],
)
def test_engine_arguments_that_are_ours_to_set(name: str, message: str) -> None:
    assert problems({**POOL, "engine_args": {name: 1}}) == {f"pools[0].engine_args.{name}": message}
    assert problems({**POOL, "engine": "simulated", "engine_args": {name: 1}}) == {}


@pytest.mark.parametrize("field", sorted(SGLANG_ARGS_BY_FIELD.values()))
def test_the_fields_that_stand_for_engine_arguments_exist(field: str) -> None:
    assert field.partition(".")[0] in Pool.model_fields


def test_kimi_never_thinks() -> None:
    assert problems({**POOL, "family": "kimi_k2"}) == {
        "pools[0].modes": "family kimi_k2 has no thinking: its pools answer no_think only"
    }
    assert problems({**POOL, "family": "kimi_k2", "modes": ["no_think"]}) == {}


class TestTokenLimits:
    def test_an_output_as_long_as_the_context(self) -> None:
        pool = {**POOL, "capabilities": {"context": 1024}}
        assert problems({**pool, "default_max_tokens": 1023}) == {}
        assert problems({**pool, "default_max_tokens": 1024}) == {
            "pools[0].default_max_tokens": "1024 leaves no room in a context of 1024 tokens"
        }

    def test_a_budget_needs_thinking(self) -> None:
        pool = {**POOL, "modes": ["no_think"], "thinking_budget": 100, "reasoning_parser": "qwen3"}
        assert problems(pool) == {"pools[0].thinking_budget": "is set on a pool that never thinks"}

    def test_a_budget_needs_a_parser_on_sglang(self) -> None:
        pool = {**POOL, "thinking_budget": 100}
        assert set(problems(pool)) == {"pools[0].thinking_budget"}
        assert problems({**pool, "reasoning_parser": "qwen3"}) == {}
        assert problems({**pool, "engine": "simulated"}) == {}

    def test_a_budget_that_nobody_would_enforce(self) -> None:
        assert problems({**UPSTREAM, "thinking_budget": 100}) == {
            "pools[0].thinking_budget": "can't be enforced: neither by engine vllm nor by closing the thinking of "
            "family plain there"
        }

    @pytest.mark.parametrize("family", list(Family))
    @pytest.mark.parametrize("engine", ["vllm", "openai", "ktransformers"])
    def test_a_budget_that_the_router_enforces(self, family: Family, engine: str) -> None:
        pool = {**UPSTREAM, "engine": engine, "family": str(family), "thinking_budget": 100}
        closed = engine == "vllm" and family in FAMILIES_CLOSED_BY_TEXT - FAMILIES_THAT_FORGET_THINKING
        assert ("pools[0].thinking_budget" not in problems(pool)) is closed
        both = {**pool, "modes": ["think", "no_think"]}  # where it can ask once more without thinking
        assert "pools[0].thinking_budget" not in problems(both)

    def test_a_budget_beyond_the_context(self) -> None:
        pool = {**POOL, "thinking_budget": 8192, "reasoning_parser": "qwen3"}
        assert problems(pool) == {"pools[0].thinking_budget": "8192 leaves no room in a context of 8192 tokens"}


class TestAccelerators:
    def test_sixteen_over_two_nodes(self) -> None:
        pool = {**POOL, "nodes": 2, "tensor_parallel": 16, "gpu": {"type": "H200", "per_node": 8}}
        assert problems(pool) == {}
        assert problems({**pool, "tensor_parallel": 8, "pipeline_parallel": 2}) == {}
        assert problems({**pool, "tensor_parallel": 8}) == {
            "pools[0].gpu.per_node": "8 x nodes 2 must equal tensor_parallel 8 x pipeline_parallel 1"
        }

    def test_several_nodes_need_accelerators(self) -> None:
        assert problems({**POOL, "nodes": 2}) == {
            "pools[0].nodes": "more than one node needs `gpu`: the accelerators on each of them"
        }

    def test_replicas_in_order(self) -> None:
        assert problems({**POOL, "autoscaling": {"min_replicas": 2, "max_replicas": 2}}) == {}
        assert problems({**POOL, "autoscaling": {"min_replicas": 3, "max_replicas": 2}}) == {
            "pools[0].autoscaling": "min_replicas 3 is above max_replicas 2"
        }


@pytest.mark.parametrize(("field", "value"), [("chat_template", "builtin:"), ("model_path", "local:")])
def test_our_own_names_need_a_name(field: str, value: str) -> None:
    assert set(problems({**POOL, field: value})) == {f"pools[0].{field}"}


class TestTheWholeFleet:
    def test_pools_with_one_name(self) -> None:
        other = {**POOL, "model": "other"}
        assert problems(POOL, other) == {"pools[1].name": "'deep' is already the name of pools[0]"}

    def test_pools_that_disagree_on_a_price(self) -> None:
        other = {**POOL, "name": "deep2", "prices": {"input": "0.1", "output": "0.5"}}
        assert problems(POOL, other) == {
            "pools[1].prices": "differ from those of pool 'deep', which answers the same model and mode (m, think)"
        }
        assert problems(POOL, {**other, "modes": ["no_think"]}) == {}
        assert problems(POOL, {**other, "model": "other"}) == {}

    def test_the_same_price_said_in_other_words(self) -> None:
        prices = {"input": "0.10", "cached_input": "0.1", "output": "0.4", "reasoning": "0.400"}
        assert problems(POOL, {**POOL, "name": "deep2", "prices": prices}) == {}

    def test_tenants_with_one_name(self) -> None:
        assert problems(POOL, tenants=[{"name": "a"}, {"name": "a"}]) == {
            "tenants[1].name": "'a' is already the name of tenants[0]"
        }

    def test_a_key_with_two_owners(self) -> None:
        tenants = [{"name": "a", "key_digests": [DIGEST]}, {"name": "b", "key_digests": [DIGEST]}]
        assert problems(POOL, tenants=tenants, router={"admin_key_digests": [DIGEST]}) == {
            "tenants[1].key_digests[0]": "this key already belongs to tenant 'a'",
            "router.admin_key_digests[0]": "this key already belongs to tenant 'a'",
        }

    def test_a_tenant_of_an_unknown_model(self) -> None:
        assert problems(POOL, tenants=[{"name": "a", "models": ["m", "n"]}]) == {
            "tenants[0].models[1]": "no pool answers the model 'n'"
        }

    def test_a_tenant_of_no_model(self) -> None:
        assert problems(POOL, tenants=[{"name": "a", "models": []}]) == {"tenants[0].models": "must not be empty"}

    @pytest.mark.parametrize("band", [[0.6, 0.4], [-0.1, 0.5], [0.5, 1.1], [0.5], [0.1, 0.2, 0.3]])
    def test_a_band_that_is_none(self, band: list[float]) -> None:
        found = problems(POOL, tenants=[{"name": "a", "policy": {"abstain": band}}])
        assert found
        assert all(path.startswith("tenants[0].policy.abstain") for path in found)

    @pytest.mark.parametrize("name", ["Qwen3-8B", "Qwen/Qwen3-8B", "m", "0.5b", "a" * 128])
    def test_model_names_as_clients_spell_them(self, name: str) -> None:
        assert problems({**POOL, "model": name}) == {}

    @pytest.mark.parametrize("name", ["", "m:think", "-m", "m/", "a" * 129, "m m", "modèle", "m\n"])
    def test_model_names_that_would_not_survive_a_header_or_an_alias(self, name: str) -> None:
        assert set(problems({**POOL, "model": name})) == {"pools[0].model"}


def test_prices_fill_in_their_defaults() -> None:
    prices = Prices.model_validate({"input": "0.1", "output": "0.4"}).price_list()
    assert prices.cached_input == prices.input
    assert prices.reasoning == prices.answer
    full = Prices.model_validate({"input": "1", "cached_input": "0", "output": "2", "reasoning": "0"}).price_list()
    assert (full.cached_input, full.reasoning) == (0, 0)


def test_the_engine_is_called_as_it_knows_the_model() -> None:
    config = Config.model_validate({"pools": [POOL, {**POOL, "name": "b", "served_model_name": "org/m"}]})
    assert [pool.upstream_model for pool in config.pools] == ["m", "org/m"]


def test_a_policy_without_a_band_never_abstains() -> None:
    def modes(policy: Policy) -> ModePolicy:
        return compile_policy(PolicyDocument(policy=policy)).present.modes

    assert modes(Policy()) == ModePolicy(0.5, 0.0, 0.0, Mode.THINK)
    assert modes(Policy(abstain=(0.4, 0.6))) == ModePolicy(0.5, 0.4, 0.6, Mode.THINK)
