"""What engines are asked: each family in each mode, a turn begun for the model, a turn gone on from."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pointsman.contracts.config import Engine, Family, Pool
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.policies import Policy, PolicyDocument, Trigger
from pointsman.router.exchange import Exchange
from pointsman.router.families import closing, output_ceiling
from pointsman.router.fleet import Replica
from pointsman.router.policies import compile_policy
from pointsman.router.snapshot import TenantView
from pointsman.router.wire.upstream_request import Ask, is_forced, upstream_request
from support.exchanges import exchange_with

THINK, NO_THINK = Mode.THINK, Mode.NO_THINK
HELLO = {"role": "user", "content": "Hello"}


def pool_of(family: Family, engine: Engine = Engine.SGLANG, **said: Any) -> Pool:
    both = family not in (Family.PLAIN, Family.KIMI_K2)
    return Pool.model_validate(
        {
            "name": "p",
            "model": "m",
            "modes": [THINK, NO_THINK] if both and (family, engine) != (Family.KAT, Engine.OPENAI) else [NO_THINK],
            "family": family,
            "engine": engine,
            "urls": ["http://10.0.0.1:8000"],
            "prices": {"input": "0.1", "output": "0.4"},
            "reasoning_parser": "gpt-oss" if family is Family.GPT_OSS else None,
            **said,
        }
    )


def exchange_of(pool: Pool, mode: Mode, *, source: Source = Source.CLIENT, **request: Any) -> Exchange:
    payload = {"model": "m", "messages": [HELLO], **request}
    exchange = exchange_with(payload)
    exchange.payload = payload
    exchange.effort = request.get("reasoning_effort")
    exchange.tenant = TenantView("t", {}, compile_policy(PolicyDocument()), "salt")
    exchange.decision = ModeDecision(mode, source, 0.5, None, "model")
    exchange.pool = pool
    return exchange


def sent(exchange: Exchange, ask: Ask | None = None) -> dict[str, Any]:
    """The JSON object that an engine gets; by default asked for 1,024 tokens in the decided mode."""
    ask = ask or Ask(exchange.mode, 1024, False, forced=is_forced(exchange))
    request = upstream_request(exchange, Replica("p", "10.0.0.1:8000", "i"), ask, secret="s")
    head, _, body = request.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head.lower()
    told = orjson.loads(body)
    assert isinstance(told, dict)
    return told


KAT = {
    "temperature": 0.6,
    "top_p": 0.95,
    "skip_special_tokens": False,
    "separate_reasoning": False,
    "continue_final_message": True,
}
KAT_THINKS = {"role": "assistant", "content": "<judge></judge><think_on><think>"}
KAT_ANSWERS = {"role": "assistant", "content": "<judge></judge><think_off><answer>"}
DEEPSEEK, GLM = {"temperature": 0.6, "top_p": 0.95}, {"temperature": 1.0, "top_p": 0.95}
GPT_OSS = {"temperature": 1.0, "top_p": 1.0}


@pytest.mark.parametrize(
    ("family", "mode", "told"),
    [
        (Family.PLAIN, NO_THINK, {}),
        (
            Family.QWEN3,
            THINK,
            {"chat_template_kwargs": {"enable_thinking": True}, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
        ),
        (
            Family.QWEN3,
            NO_THINK,
            {"chat_template_kwargs": {"enable_thinking": False}, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
        ),
        (Family.DEEPSEEK, THINK, {"chat_template_kwargs": {"thinking": True}, **DEEPSEEK}),
        (Family.DEEPSEEK, NO_THINK, {"chat_template_kwargs": {"thinking": False}, **DEEPSEEK}),
        (Family.GLM, THINK, {"chat_template_kwargs": {"enable_thinking": True}, **GLM}),
        (Family.GLM, NO_THINK, {"chat_template_kwargs": {"enable_thinking": False}, **GLM}),
        (Family.GRANITE, THINK, {"chat_template_kwargs": {"thinking": True}}),
        (Family.GRANITE, NO_THINK, {"chat_template_kwargs": {"thinking": False}}),
        (Family.KIMI_K2, NO_THINK, {"temperature": 0.6}),
        (Family.GPT_OSS, THINK, {"reasoning_effort": "medium", **GPT_OSS}),
        (Family.GPT_OSS, NO_THINK, {"reasoning_effort": "low", **GPT_OSS}),
        (Family.KAT, THINK, {**KAT, "messages": [HELLO, KAT_THINKS]}),
        (Family.KAT, NO_THINK, {**KAT, "messages": [HELLO, KAT_ANSWERS]}),
    ],
)
def test_each_family_in_each_mode(family: Family, mode: Mode, told: dict[str, Any]) -> None:
    exchange = exchange_of(pool_of(family), mode)
    usual = {"model": "m", "messages": [HELLO], "max_tokens": 1024, "stream": False, "cache_salt": "salt"}
    assert sent(exchange) == {**usual, "rid": f"{exchange.rid}0", **told}
    assert exchange.payload == {"model": "m", "messages": [HELLO]}  # nobody's later attempt sees the beginning


@pytest.mark.parametrize("family", [family for family in Family if family not in (Family.PLAIN, Family.GRANITE)])
def test_what_the_client_says_of_sampling_holds(family: Family) -> None:
    wish: dict[str, Any] = {"temperature": 0.0, "top_p": 0.5, "top_k": 3}
    told = sent(exchange_of(pool_of(family), NO_THINK, **wish))
    assert {name: told[name] for name in wish} == wish


@pytest.mark.parametrize(
    ("effort", "level"),
    [("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "high"), ("max", "high")],
)
def test_gpt_oss_gets_the_clients_own_effort(effort: str, level: str) -> None:
    exchange = exchange_of(pool_of(Family.GPT_OSS), THINK)
    exchange.effort = effort
    assert sent(exchange)["reasoning_effort"] == level


def test_a_server_of_unknown_kind_gets_openai_fields_alone() -> None:
    told = sent(exchange_of(pool_of(Family.QWEN3, Engine.OPENAI), NO_THINK))
    assert set(told) == {
        "model", "messages", "max_tokens", "stream", "temperature", "top_p", "chat_template_kwargs"
    }  # fmt: skip
    assert "continue_final_message" not in sent(exchange_of(pool_of(Family.KAT, Engine.OPENAI), NO_THINK))


def test_kat_alone_has_a_longest_output() -> None:
    assert {family: output_ceiling(family) for family in Family if output_ceiling(family)} == {Family.KAT: 65_536}


@pytest.mark.parametrize("source", list(Source))
@pytest.mark.parametrize("escalated", [None, Trigger.JUDGE])
def test_a_model_judges_by_itself_where_nobody_above_the_predictor_decided(
    source: Source, escalated: Trigger | None
) -> None:
    exchange = exchange_of(pool_of(Family.KAT), THINK, source=source)
    exchange.policy = Policy(model_decides=True)
    exchange.escalated = escalated
    judges = escalated is None and source in (Source.PREDICTOR, Source.SATURATION, Source.DEFAULT)
    assert is_forced(exchange) is not judges
    told = sent(exchange)
    assert (told["messages"] == [HELLO]) is judges
    assert ("continue_final_message" in told) is not judges
    assert told["skip_special_tokens"] is False


SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}}
CALL = {"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}


@pytest.mark.parametrize("request_part", [SCHEMA, CALL, {"response_format": {"type": "json_object"}}])
@pytest.mark.parametrize("judges", [False, True])
def test_kat_answers_at_once_where_its_output_is_held_to_a_schema(
    request_part: dict[str, Any], judges: bool
) -> None:
    exchange = exchange_of(pool_of(Family.KAT), THINK, source=Source.DEFAULT, **request_part)
    exchange.policy = Policy(model_decides=judges)
    assert sent(exchange)["messages"] == [HELLO, KAT_ANSWERS]
    free = exchange_of(pool_of(Family.KAT), THINK, response_format={"type": "text"}, tool_choice="auto")
    assert sent(free)["messages"] == [HELLO, KAT_THINKS]


def test_vllm_is_told_not_to_open_another_turn() -> None:
    told = sent(exchange_of(pool_of(Family.KAT, Engine.VLLM), THINK))
    assert (told["continue_final_message"], told["add_generation_prompt"]) == (True, False)
    assert told["messages"] == [HELLO, KAT_THINKS]


def test_a_turn_is_gone_on_from_where_its_thinking_was_closed() -> None:
    exchange = exchange_of(pool_of(Family.QWEN3, reasoning_parser="qwen3"), THINK, max_tokens=500)
    begun = "<think>\nSo far.\n</think>\n\n"
    told = sent(exchange, Ask(THINK, 77, True, continuation=begun, logprobs=True, steady_usage=True))
    assert told["messages"] == [HELLO, {"role": "assistant", "content": begun}]
    assert (told["continue_final_message"], told["separate_reasoning"]) == (True, False)
    assert (told["max_tokens"], told["stream"], told["logprobs"]) == (77, True, True)
    assert told["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert told["chat_template_kwargs"] == {"enable_thinking": True}
    kat = sent(exchange_of(pool_of(Family.KAT), THINK), Ask(THINK, 5, False, continuation="<judge>"))
    assert kat["messages"][1:] == [{"role": "assistant", "content": "<judge>"}]  # and no beginning besides


def test_the_thinking_budget_goes_to_engines_that_enforce_it() -> None:
    pool = pool_of(Family.QWEN3, reasoning_parser="qwen3", thinking_budget=100)
    assert "custom_params" not in sent(exchange_of(pool, THINK))
    assert sent(exchange_of(pool, THINK), Ask(THINK, 50, False, 25))["custom_params"] == {"thinking_budget": 25}


THOUGHTS = "\nFirst this.\n\nThen that.\n"
CLOSED = {
    Family.QWEN3: "<think>\nFirst this.\n\nThen that.\n</think>\n\n",
    Family.DEEPSEEK: "First this.\n\nThen that.</think>",
    Family.GLM: "\n<think>First this.\n\nThen that.</think>\n",
    Family.GRANITE: "<think>First this.\n\nThen that.</think><response>",
    Family.KAT: "<judge></judge><think_on><think>First this.\n\nThen that.</think><answer>",
}


@pytest.mark.parametrize("family", list(Family))
def test_how_thinking_that_was_cut_is_closed(family: Family) -> None:
    pool = pool_of(family)
    assert closing(pool, THOUGHTS) == CLOSED.get(family)
    if family in CLOSED:
        assert closing(pool, THOUGHTS, "So") == CLOSED[family] + "So"
    assert closing(pool_of(family, Engine.OPENAI), THOUGHTS) is None
    assert closing(pool_of(family, Engine.SIMULATED, urls=[], modes=[NO_THINK]), THOUGHTS) is None


def test_closing_heeds_who_opened_the_thinking_and_who_renders_the_turn() -> None:
    opened = pool_of(Family.QWEN3, template_opens_thinking=True)
    assert closing(opened, THOUGHTS) == "First this.\n\nThen that.\n</think>\n\n"
    rendered = pool_of(Family.QWEN3, Engine.VLLM, template_opens_thinking=True)
    assert closing(rendered, THOUGHTS) == CLOSED[Family.QWEN3]
    assert closing(pool_of(Family.DEEPSEEK, Engine.VLLM), THOUGHTS) is None  # its template would cut it out
    plain = pool_of(Family.PLAIN, modes=[THINK], template_opens_thinking=True)
    assert closing(plain, THOUGHTS) == "First this.\n\nThen that.</think>"
    torn = closing(pool_of(Family.KAT), "Is <think> a </think> tag?<answer>")
    assert torn == "<judge></judge><think_on><think>Is  a  tag?</think><answer>"
    budgeted = pool_of(Family.QWEN3, reasoning_parser="qwen3", thinking_budget=100)
    assert closing(budgeted, THOUGHTS) is None  # the engine closes it, and would wait for another tag
