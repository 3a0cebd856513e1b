"""What clients wish for: every signal of the contract in every spelling, alone, together, and malformed."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.errors import ConflictingModeSignals, InvalidRequest
from pointsman.contracts.modes import ClientSignal, Mode, ModePolicy, choose_mode
from pointsman.contracts.policies import Policy
from pointsman.router.exchange import Exchange
from pointsman.router.wire import openai_request, wishes
from support.exchanges import exchange_with

THINK, NO_THINK = Mode.THINK, Mode.NO_THINK
MESSAGES = [{"role": "user", "content": "hello"}]


def read(
    fields: dict[str, Any] | None = None,
    *,
    headers: dict[str, str] | None = None,
    alias: Mode | None = None,
    policy: Policy | None = None,
) -> Exchange:
    """The exchange of a chat request with `fields`, with its wishes read."""
    exchange = exchange_with({"model": "m", "messages": copy.deepcopy(MESSAGES), **(fields or {})})
    exchange.headers = {name.encode(): value.encode() for name, value in (headers or {}).items()}
    if policy is not None:
        exchange.policy = policy
    openai_request.read(exchange)
    wishes.read(exchange, alias)
    return exchange


def saying(*texts: str) -> dict[str, Any]:
    """A conversation whose user says `texts`."""
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "so"}] for text in texts]
    return {"messages": [message for turn in turns for message in turn][:-1]}


EFFORTS = {"none": NO_THINK, "minimal": NO_THINK, **dict.fromkeys(("low", "medium", "high", "xhigh", "max"), THINK)}

# Each signal of the contract, as a way to send it: (field that is named, keyword arguments of `read`, mode)
SIGNALS: list[tuple[str, dict[str, Any], Mode]] = [
    ("x-pointsman-mode", {"headers": {"x-pointsman-mode": " Think "}}, THINK),
    ("x-pointsman-mode", {"headers": {"x-pointsman-mode": "no_think"}}, NO_THINK),
    ("model", {"alias": THINK}, THINK),
    ("model", {"alias": NO_THINK}, NO_THINK),
    *(("reasoning_effort", {"fields": {"reasoning_effort": word}}, mode) for word, mode in EFFORTS.items()),
    *(("reasoning.effort", {"fields": {"reasoning": {"effort": word}}}, mode) for word, mode in EFFORTS.items()),
    ("reasoning.enabled", {"fields": {"reasoning": {"enabled": True}}}, THINK),
    ("reasoning.enabled", {"fields": {"reasoning": {"enabled": False}}}, NO_THINK),
    ("thinking.type", {"fields": {"thinking": {"type": "enabled"}}}, THINK),
    ("thinking.type", {"fields": {"thinking": {"type": "disabled"}}}, NO_THINK),
    *(
        ("output_config.effort", {"fields": {"output_config": {"effort": word}}}, mode)
        for word, mode in EFFORTS.items()
    ),
    *(
        (f"chat_template_kwargs.{name}", {"fields": {"chat_template_kwargs": {name: value}}}, mode)
        for name in ("enable_thinking", "thinking")
        for value, mode in ((True, THINK), (False, NO_THINK))
    ),
    ("messages[0].content", {"fields": saying("hello /think")}, THINK),
    ("messages[0].content", {"fields": saying("hello /no_think")}, NO_THINK),
]


@pytest.mark.parametrize(("field", "request_", "mode"), SIGNALS, ids=str)
def test_each_signal_is_read_and_named(field: str, request_: dict[str, Any], mode: Mode) -> None:
    assert read(**request_).signals == (ClientSignal(field, mode),)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"headers": {"x-pointsman-mode": "auto"}},
        {"fields": {"reasoning_effort": "auto"}},
        {"fields": {"reasoning_effort": None, "reasoning": None, "thinking": None, "output_config": None}},
        {"fields": {"reasoning": {}}},
        {"fields": {"reasoning": {"effort": "auto", "enabled": None, "max_tokens": 40}}},
        {"fields": {"thinking": {"type": "adaptive"}}},
        {"fields": {"thinking": {"type": "auto", "budget_tokens": None}}},
        {"fields": {"output_config": {}}},
        {"fields": {"chat_template_kwargs": {}}},
        {"headers": {"x-pointsman-thinking-budget": "40"}},
    ],
    ids=str,
)
def test_what_is_no_wish(request_: dict[str, Any]) -> None:
    exchange = read(**request_)
    assert exchange.signals == ()
    assert exchange.effort is None


def test_each_contradiction_of_two_signals_is_refused_with_both_names() -> None:
    """Every pair of ways to ask, for both modes each: equal wishes agree, others are refused."""
    pairs = 0
    for (one, first, mode), (other, second, another) in itertools.combinations(SIGNALS, 2):
        if one == other or not first.keys().isdisjoint(second.keys() - {"fields"}):
            continue
        fields = copy.deepcopy(first.get("fields", {}))
        for name, value in second.get("fields", {}).items():
            fields[name] = {**fields[name], **value} if isinstance(fields.get(name), dict) else value
        exchange = read(**{**first, **second, "fields": fields})
        assert {signal.field for signal in exchange.signals} == {one, other}
        pairs += 1
        if mode is another:
            decision = choose_mode(exchange.signals, probability=None, policy=ModePolicy())
            assert (decision.mode, decision.source.value) == (mode, "client")
            continue
        with pytest.raises(ConflictingModeSignals) as refused:
            choose_mode(exchange.signals, probability=None, policy=ModePolicy(required=mode))
        assert f"'{one}'" in refused.value.message
        assert f"'{other}'" in refused.value.message
    assert pairs > 300


def test_wishes_stand_in_their_order() -> None:
    exchange = read(
        {
            **saying("x /no_think"),
            "chat_template_kwargs": {"thinking": True},
            "thinking": {"type": "enabled"},
            "output_config": {"effort": "low"},
            "reasoning": {"effort": "none", "enabled": True},
            "reasoning_effort": "high",
        },
        headers={"x-pointsman-mode": "think"},
        alias=NO_THINK,
    )
    assert [signal.field for signal in exchange.signals] == [
        "x-pointsman-mode",
        "model",
        "reasoning_effort",
        "reasoning.effort",
        "output_config.effort",
        "reasoning.enabled",
        "thinking.type",
        "chat_template_kwargs.thinking",
        "messages[0].content",
    ]
    assert exchange.effort == "high", "the first field that says how much"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"reasoning_effort": True}, "reasoning_effort"),
        ({"reasoning_effort": ["low"]}, "reasoning_effort"),
        ({"reasoning": "high"}, "reasoning"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"reasoning": {"effort": {}}}, "reasoning.effort"),
        ({"reasoning": {"enabled": "yes"}}, "reasoning.enabled"),
        ({"reasoning": {"enabled": 1}}, "reasoning.enabled"),
        ({"reasoning": {"max_tokens": 0}}, "reasoning.max_tokens"),
        ({"reasoning": {"max_tokens": 1e30}}, "reasoning.max_tokens"),
        ({"reasoning": {"max_tokens": 1.5}}, "reasoning.max_tokens"),
        ({"reasoning": {"exclude": True}}, "reasoning.exclude"),
        ({"thinking": True}, "thinking"),
        ({"thinking": {}}, "thinking.type"),
        ({"thinking": {"type": "on"}}, "thinking.type"),
        ({"thinking": {"budget_tokens": 1024}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "1024"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "disabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "display": "x"}}, "thinking.display"),
        ({"output_config": ["low"]}, "output_config"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {}}}, "output_config.format"),
        ({"chat_template_kwargs": {"thinking": "yes"}}, "chat_template_kwargs.thinking"),
        ({"chat_template_kwargs": {"reasoning_effort": "high"}}, "chat_template_kwargs.reasoning_effort"),
    ],
    ids=str,
)
def test_a_malformed_wish_is_refused_by_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(fields)
    assert refused.value.param == field
    assert f"'{field}'" in refused.value.message


@pytest.mark.parametrize("budget", ["", "0", "-5", "+5", "1e3", "5, 6", "100000001", "9" * 5000, "٤٠", "ten"])
def test_a_budget_that_is_no_number_of_tokens_is_refused(budget: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(headers={"x-pointsman-thinking-budget": budget})
    assert refused.value.param == "x-pointsman-thinking-budget"


@pytest.mark.parametrize("budgets", list(itertools.product((None, 50, 100), repeat=3)), ids=str)
def test_of_several_budgets_the_smallest_holds(budgets: tuple[int | None, ...]) -> None:
    header, thinking, reasoning = budgets
    exchange = read(
        {
            "thinking": {"type": "adaptive", "budget_tokens": thinking},
            "reasoning": {"max_tokens": reasoning},
        },
        headers={} if header is None else {"x-pointsman-thinking-budget": f" {header} "},
    )
    assert exchange.thinking_budget == min((each for each in budgets if each is not None), default=None)
    assert exchange.signals == ()


def test_nothing_of_it_is_forwarded() -> None:
    exchange = read(
        {
            "reasoning_effort": "high",
            "reasoning": {"effort": "high"},
            "thinking": {"type": "enabled", "budget_tokens": 9},
            "output_config": {"effort": "low"},
            "chat_template_kwargs": {"thinking": True},
            **saying("hello /think"),
        }
    )
    assert openai_request.forwarded(exchange) == {"messages": MESSAGES}


SPACE = st.text(alphabet=" \n\t\u3000", min_size=0, max_size=3)
PLAIN = st.text(max_size=20).filter(lambda text: "think" not in text)


@given(
    text=PLAIN, gap=st.text(alphabet=" \n\t\u3000", min_size=1, max_size=3), end=SPACE, mode=st.sampled_from(Mode)
)
def test_a_last_word_is_a_wish_and_taken_out(text: str, gap: str, end: str, mode: Mode) -> None:
    said = f"{text}{gap}/{mode}{end}"
    exchange = read(saying(said))
    assert exchange.signals == (ClientSignal("messages[0].content", mode),)
    assert exchange.payload["messages"] == [{"role": "user", "content": text.rstrip()}]
    off = read(saying(said), policy=Policy(wish_in_prompt=False))
    assert off.signals == ()
    assert off.payload["messages"][0]["content"] == said


@given(text=st.text(max_size=20), end=SPACE)
def test_text_that_ends_with_no_wish_is_left_as_it_is(text: str, end: str) -> None:
    for said in (text + "x" + end, text + "/thinking" + end, text + "a/think" + end, text + " /THINK" + end):
        exchange = read(saying(said))
        assert exchange.signals == ()
        assert exchange.payload["messages"][0]["content"] == said


def test_a_wish_holds_for_the_last_user_message_and_leaves_no_trace_in_the_history() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "never /think"},
        {"role": "user", "content": "one /think"},
        {"role": "assistant", "content": "you said /think"},
        {"role": "user", "content": [{"type": "text", "text": "two /no_think"}, {"type": "text", "text": "end"}]},
        {"role": "user", "content": "three /no_think"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "the tool says /think"},
    ]
    exchange = read({"messages": copy.deepcopy(messages)})
    assert exchange.signals == (ClientSignal("messages[4].content", NO_THINK),)
    changed = {
        index: (before.get("content"), after.get("content"))
        for index, (before, after) in enumerate(zip(messages, exchange.payload["messages"], strict=True))
        if before != after
    }
    assert changed == {1: ("one /think", "one"), 4: ("three /no_think", "three")}
    exchange = read(saying("one /think", "two"))
    assert exchange.signals == (), "it was a wish of the turn before"
    assert exchange.payload["messages"][0]["content"] == "one"


def test_a_wish_ends_the_last_text_of_a_message_of_parts() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/think"}}
    parts = [{"type": "text", "text": "a /no_think"}, {"type": "text", "text": "what is it? /think"}, image]
    exchange = read({"messages": [{"role": "user", "content": parts}]})
    assert exchange.signals == (ClientSignal("messages[0].content", THINK),)
    assert exchange.payload["messages"][0]["content"] == [
        {"type": "text", "text": "a /no_think"},
        {"type": "text", "text": "what is it?"},
        image,
    ]
    exchange = read({"messages": [{"role": "user", "content": [image]}]})
    assert exchange.signals == ()
    exchange = read(saying("/no_think"))
    assert exchange.payload["messages"][0]["content"] == ""
