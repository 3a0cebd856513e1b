"""Answers that do not stand: asked for once more with thinking, or gone on to with the thinking closed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.names import Header
from pointsman.router.exchange import Exchange
from pointsman.router.key_scope import Scope
from pointsman.router.pipeline.relay import Relaying
from support.scenes import BUFFERED, CHUNK, DEEP, FAST, URLS, Scene, Sending, said, tail, used

THINK, NO_THINK = Mode.THINK, Mode.NO_THINK
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "x",
        "schema": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}},
    },
}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    for name, replica in scene.replicas.items():
        assert replica.outstanding == replica.tokens == 0, f"a place at {name} was not given back"


def call(arguments: str) -> list[dict[str, Any]]:
    return [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]


BAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "empty": ({}, {"content": ""}),
    "tool_call": ({"tools": TOOLS}, {"content": None, "tool_calls": call('{"a": ')}),
    "schema": ({"response_format": SCHEMA}, {"content": '{"a": "no number"}'}),
}
CUT = {"content": None, "tool_calls": call('{"a": "b"}'), "finish": "length"}


def test_a_key_that_may_not_think_is_never_escalated_whoever_asked_before(scene: Scene) -> None:
    for scope, address in ((None, "deep"), (Scope(modes=["no_think"]), None), (None, "deep")):
        exchange = scene.ask(NO_THINK, max_tokens=16, scope=scope)
        scene.sent().answer(content="", usage=used(10, 3))
        if address is None:
            assert scene.idle()
            assert exchange.escalated is None
            continue
        second = scene.sent()
        assert second.address == address
        second.answer()


@pytest.mark.parametrize("trigger", BAD)
def test_a_bad_answer_without_thinking_is_asked_for_once_more_with_thinking(scene: Scene, trigger: str) -> None:
    asked, bad = BAD[trigger]
    exchange = scene.ask(NO_THINK, **asked)
    first = scene.sent()
    assert first.address == "fast"
    first.answer(**bad, usage=used(10, 3))
    second = scene.sent()
    assert second.address == "deep"
    assert second.asked["rid"] != first.asked["rid"]
    good = {"content": '{"a": 1}'}
    second.answer(**good, reasoning_content="hm", usage=used(12, 9, 5))
    told = scene.told(exchange)
    assert told.status == 200
    assert told.message["content"] == '{"a": 1}'
    assert told.headers[Header.MODE] == "think"
    assert told.headers[Header.MODE_SOURCE] == "predictor"
    assert told.headers[Header.ESCALATED] == trigger
    assert told.headers[Header.POOL] == "deep"
    assert told.usage["total_tokens"] == 10 + 3 + 12 + 9
    told.check_bill()


@pytest.mark.parametrize("trigger", BAD)
def test_a_second_try_is_the_last_and_its_answer_is_delivered_unless_it_is_none(scene: Scene, trigger: str) -> None:
    asked, bad = BAD[trigger]
    exchange = scene.ask(NO_THINK, **asked)
    scene.sent().answer(**bad)
    scene.sent().answer(**bad)
    assert scene.idle()
    told = scene.told(exchange)
    error = {"empty": "empty_answer", "tool_call": "tool_call_invalid"}.get(trigger)
    assert (told.status, told.error) == (200 if error is None else 502, error)
    assert told.headers[Header.ESCALATED] == trigger


@pytest.mark.parametrize(
    ("source", "policy", "headers", "status"),
    [
        (Source.CLIENT, {}, {}, 502),
        (Source.POLICY, {}, {}, 502),
        (Source.BUDGET, {}, {}, 502),
        (Source.DEFAULT, {"escalation": {"triggers": []}}, {}, 502),
        (Source.DEFAULT, {}, {Header.ESCALATION: "off"}, 502),
        (Source.DEFAULT, {}, {Header.ESCALATION: "perhaps"}, 400),
    ],
)
def test_nothing_is_escalated_over_a_wish_or_a_rule(
    scene: Scene, source: Source, policy: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    exchange = scene.ask(NO_THINK, source=source, policy=policy, headers=headers)
    if status != 400:
        scene.sent().answer(content="")
    told = scene.told(exchange)
    assert scene.idle()
    assert told.status == status
    assert told.error == ("empty_answer" if status == 502 else "invalid_value")


@pytest.mark.parametrize("stream", [False, True])
def test_where_no_better_answer_can_be_had_the_first_one_is_delivered(scene: Scene, *, stream: bool) -> None:
    trigger = "schema"
    asked, bad = BAD[trigger]
    exchange = scene.ask(NO_THINK, stream=stream, headers=BUFFERED, **asked)
    first = scene.sent()
    if stream:
        told = {name: value for name, value in bad.items() if value is not None}
        first.say(said(role="assistant"), said(**told), said("stop"), *tail(10, 3))
    else:
        first.answer(**bad, usage=used(10, 3))
    scene.sent().fail(400)
    told_ = scene.told(exchange)
    assert told_.status == 200
    assert told_.headers[Header.MODE] == "no_think"
    assert told_.headers[Header.ESCALATED] == trigger
    assert told_.headers[Header.POOL] == "fast"
    if not stream:
        told_.check_bill()
        assert told_.message["content"] == bad["content"]
        assert told_.usage["total_tokens"] == 13
    else:
        assert told_.events[-1] == "[DONE]"
        assert told_.exchange.legs == ()


def test_a_stream_waits_for_its_first_word_and_no_longer(scene: Scene) -> None:
    exchange = scene.ask(NO_THINK, stream=True)
    engine = scene.sent()
    engine.say(said(role="assistant", content=""))
    assert scene.told(exchange).raw == b""
    engine.say(said(content="Wo"))
    assert scene.told(exchange).raw == said(role="assistant", content="") + said(content="Wo")
    engine.say(said(content="rd"))
    assert scene.told(exchange).message == {"content": "Word"}
    engine.say(said("stop"), *tail(10, 3))
    assert scene.told(exchange).raw.endswith(said("stop") + b"data: [DONE]\n\n")
    assert exchange.legs == ()


def test_an_empty_stream_is_escalated_before_anything_of_it_is_sent(scene: Scene) -> None:
    exchange = scene.ask(NO_THINK, stream=True, stream_options={"include_usage": True})
    scene.sent().say(said(role="assistant", content=""), said("stop"), *tail(10, 1))
    second = scene.sent()
    assert second.address == "deep"
    second.say(said(reasoning_content="hm"), said(content="42"), said("stop"), *tail(12, 4, 1))
    told = scene.told(exchange)
    assert told.headers[Header.ESCALATED] == "empty"
    assert told.headers[Header.MODE] == "think"
    assert told.message == {"reasoning_content": "hm", "content": "42"}
    told.check_bill()


@pytest.mark.parametrize("by", ["header", "policy"])
@pytest.mark.parametrize("good", [True, False])
def test_a_buffered_stream_is_judged_whole(scene: Scene, by: str, *, good: bool) -> None:
    policy = {"escalation": {"buffered": True}} if by == "policy" else {}
    exchange = scene.ask(
        NO_THINK,
        stream=True,
        stream_options={"include_usage": True},
        response_format=SCHEMA,
        policy=policy,
        headers=BUFFERED if by == "header" else {},
    )
    scene.sent().say(said(content='{"a": '), said(content="1}" if good else '"x"}'), said("stop"), *tail(10, 3))
    if not good:
        assert scene.told(exchange).raw == b""
        scene.sent().say(said(content='{"a": 2}'), said("stop"), *tail(11, 4))
    told = scene.told(exchange)
    assert told.message == {"content": '{"a": 1}' if good else '{"a": 2}'}
    assert told.headers[Header.MODE] == ("no_think" if good else "think")
    assert (Header.ESCALATED in told.headers) == (not good)
    told.check_bill()


def test_unsure_answers_are_escalated_by_logprobs_that_the_client_does_not_see(scene: Scene) -> None:
    policy = {"escalation": {"triggers": ["confidence"], "min_mean_logprob": -1.0}}

    def answer(engine: Sending, logprob: float) -> None:
        tokens = [{"token": "a", "logprob": logprob}, {"token": "b", "logprob": logprob}]
        message = {"role": "assistant", "content": "ab"}
        engine.choices(
            {"index": 0, "message": message, "logprobs": {"content": tokens}, "finish_reason": "stop"},
            usage=used(5, 2),
        )

    sure = scene.ask(NO_THINK, policy=policy)
    engine = scene.sent()
    assert engine.asked["logprobs"] is True
    answer(engine, -0.5)
    assert scene.told(sure).body["choices"][0]["logprobs"] is None
    unsure = scene.ask(NO_THINK, policy=policy)
    answer(scene.sent(), -1.5)
    deep = scene.sent()
    assert "logprobs" not in deep.asked
    deep.answer()
    assert scene.told(unsure).headers[Header.ESCALATED] == "confidence"
    wanted = scene.ask(NO_THINK, policy=policy, logprobs=True)
    answer(scene.sent(), -0.5)
    assert scene.told(wanted).body["choices"][0]["logprobs"]["content"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", [NO_THINK, THINK])
def test_a_tool_call_that_was_cut_is_never_delivered(scene: Scene, mode: Mode, *, stream: bool) -> None:
    exchange = scene.ask(mode, source=Source.CLIENT, stream=stream, tools=TOOLS)
    if stream:
        cut = {"index": 0, **call('{"a": 1')[0]}
        scene.sent().say(said(tool_calls=[cut]), said("length"), *tail(10, 40))
    else:
        scene.sent().answer(**CUT)
    told = scene.told(exchange)
    assert told.error == "tool_call_cut"
    assert told.status == (200 if stream else 502)
    assert not any(
        choice["finish_reason"]
        for event in (told.events[:-1] if stream else ())
        for choice in event.get("choices", ())
    )
    assert exchange.cost is not None
    assert exchange.cost.total > 0


def test_with_several_choices_none_may_be_empty(scene: Scene) -> None:
    exchange = scene.ask(THINK, n=2)
    choices = [{"index": i, "message": {"role": "assistant", "content": text}} for i, text in enumerate(["a", ""])]
    scene.sent().choices(*choices, usage=used(5, 2))
    assert scene.told(exchange).error == "empty_answer"
    exchange = scene.ask(THINK, n=2, stream=True)
    ends = [said("stop", index=0), said("stop", index=1)]
    scene.sent().say(said(index=0, content="a"), said(index=1, reasoning_content="b"), *ends, *tail(5, 2))
    assert scene.told(exchange).error == "empty_answer"
    exchange = scene.ask(THINK, n=2, stream=True)
    scene.sent().say(said(index=0, content="a"), said(index=1, content="b"), *ends, *tail(5, 2))
    assert scene.told(exchange).error is None


VLLM = {**DEEP, "engine": "vllm", "family": "qwen3", **URLS}
OPENAI = {**DEEP, "engine": "openai", "family": "qwen3", "modes": ["think", "no_think"], **URLS}


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_is_closed_at_its_budget_where_the_engine_does_not(tmp_path: Path, *, stream: bool) -> None:
    scene = Scene(tmp_path, VLLM)
    exchange = scene.ask(
        THINK,
        stream=stream,
        max_tokens=100,
        thinking_budget=3,
        stream_options={"include_usage": True} if stream else None,
    )
    first = scene.sent()
    assert first.asked["stream"] is True
    first.say(said(role="assistant"), *(said(reasoning_content=f"w{i} ") for i in range(9)))
    assert first.stopped
    second = scene.sent()
    assert second.asked["max_tokens"] == 97
    assert second.asked["messages"][-1]["role"] == "assistant"
    assert second.asked["messages"][-1]["content"].startswith("<think>")
    assert "w0 w1 w2" in second.asked["messages"][-1]["content"]
    assert "w3" not in second.asked["messages"][-1]["content"]
    second.say(said(role="assistant"), said(content="So."), said("stop"), *tail(15, 2))
    told = scene.told(exchange)
    assert told.message["reasoning_content"] == "w0 w1 w2 "
    assert told.message["content"] == "So."
    assert told.headers[Header.THINKING_BUDGET] == "3"
    assert Header.ANSWER_FLOOR not in told.headers
    assert [leg.usage.reasoning for leg in exchange.legs] == [3]
    told.check_bill()
    if stream:
        assert {event["id"] for event in told.events[:-1]} == {"e1"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("pool", [VLLM, OPENAI], ids=["closed", "asked without thinking"])
def test_thinking_leaves_room_for_an_answer(tmp_path: Path, pool: dict[str, Any], *, stream: bool) -> None:
    scene = Scene(tmp_path, pool)
    exchange = scene.ask(THINK, stream=stream, max_tokens=32)
    first = scene.sent()
    first.say(*(said(reasoning_content="w ", usage=used(10, i + 1)) for i in range(40)))
    assert first.stopped
    second = scene.sent()
    assert second.asked["max_tokens"] == 16
    continued = second.asked["messages"][-1]["role"] == "assistant"
    assert continued == (pool is VLLM)
    assert pool is VLLM or second.asked["chat_template_kwargs"] == {"enable_thinking": False}
    second.say(said(content="So."), said("length"), *tail(20, 16))
    told = scene.told(exchange)
    assert told.message["content"] == "So."
    assert [(leg.usage.prompt_tokens, leg.usage.reasoning) for leg in exchange.legs] == [(10, 16)]
    if stream:
        assert told.remarks["answer_floor"] is True
    else:
        assert told.headers[Header.ANSWER_FLOOR] == "true"
        assert told.usage["completion_tokens"] == 32
        told.check_bill()


@pytest.mark.parametrize("stream", [False, True])
def test_what_only_thought_and_stopped_is_gone_on_from(tmp_path: Path, *, stream: bool) -> None:
    scene = Scene(tmp_path, VLLM)
    exchange = scene.ask(THINK, stream=stream, max_tokens=64)
    scene.sent().say(said(reasoning_content="w"), said("stop"), *tail(10, 2, 1))
    second = scene.sent()
    assert second.asked["max_tokens"] == 62
    second.say(said("stop"), *tail(11, 1))
    told = scene.told(exchange)
    assert told.error == "empty_answer"
    assert exchange.cost is not None
    assert len(exchange.legs) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_below_the_floor_an_empty_answer_is_an_answer(scene: Scene, *, stream: bool) -> None:
    exchange = scene.ask(THINK, stream=stream, max_tokens=31)
    if stream:
        scene.sent().say(said(reasoning_content="w"), said("length"), *tail(10, 31, 31))
    else:
        scene.sent().answer(content=None, reasoning_content="w", finish="length", usage=used(10, 31, 31))
    told = scene.told(exchange)
    assert (told.status, told.error) == (200, None)


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_thought_everything_away_is_an_error_with_a_bill(scene: Scene, *, stream: bool) -> None:
    exchange = scene.ask(THINK, stream=stream, max_tokens=64)
    engine = scene.sent()
    assert engine.asked["custom_params"] == {"thinking_budget": 32}
    if stream:
        engine.say(said(reasoning_content="w"), said("length"), *tail(10, 64, 64))
    else:
        engine.answer(content=None, reasoning_content="w", finish="length", usage=used(10, 64, 64))
    told = scene.told(exchange)
    assert told.error == "empty_answer"
    assert exchange.cost is not None
    assert exchange.cost.total == 10 * 3000 + 64 * 7000


def test_wishes_above_a_ceiling_are_cut_and_told(scene: Scene) -> None:
    policy = {"max_output": {"think": 200, "no_think": 50}, "thinking_budget": 40}
    exchange = scene.ask(THINK, policy=policy, max_tokens=5000, thinking_budget=90)
    engine = scene.sent()
    assert engine.asked["max_tokens"] == 200
    assert engine.asked["custom_params"] == {"thinking_budget": 40}
    engine.answer()
    told = scene.told(exchange)
    assert told.headers[Header.CLAMPED] == "max_tokens=200, thinking_budget=40"
    assert told.headers[Header.THINKING_BUDGET] == "40"
    for mode, wish, allowed in ((NO_THINK, 60, 50), (NO_THINK, None, 50), (NO_THINK, 20, 20), (THINK, 150, 150)):
        exchange = scene.ask(mode, policy=policy, **({} if wish is None else {"max_tokens": wish}))
        engine = scene.sent()
        assert engine.asked["max_tokens"] == allowed
        engine.answer()
        told = scene.told(exchange)
        assert (Header.CLAMPED in told.headers) == (wish is not None and wish > allowed)
        assert (Header.THINKING_BUDGET in told.headers) == (mode is THINK)


def test_a_policy_may_hide_what_answers_cost(scene: Scene) -> None:
    for shown in (True, False):
        policy = {"show_cost": shown}
        exchange = scene.ask(NO_THINK, policy=policy)
        scene.sent().answer()
        assert (Header.COST_USD in scene.told(exchange).headers) == shown
        exchange = scene.ask(NO_THINK, policy=policy, stream=True, headers={Header.INCLUDE_COST: "true"})
        scene.sent().say(said(content="x"), said("stop"), *tail(1, 1))
        assert ("cost_usd" in scene.told(exchange).remarks) == shown


def test_every_answer_that_was_decided_names_its_decision(scene: Scene) -> None:
    exchange = scene.ask(NO_THINK)
    scene.sent().answer()
    assert scene.told(exchange).headers[Header.DECISION_ID] == "dec-0123456789abcdef"


KAT = {"engine": "sglang", "model_path": "x", "family": "kat", "tool_call_parser": "qwen"}
KAT_FAST, KAT_DEEP = {**FAST, **KAT}, {**DEEP, **KAT}


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_judges_that_it_should_think_gets_to_think(tmp_path: Path, *, stream: bool) -> None:
    scene = Scene(tmp_path, KAT_FAST, KAT_DEEP)
    exchange = scene.ask(NO_THINK, policy={"model_decides": True}, stream=stream)
    first = scene.sent()
    text = "<judge>Hard.</judge><think_on>"
    if stream:
        first.say(*(said(content=letter) for letter in text), said(content="<think>"))
        assert first.stopped
    else:
        first.answer(content=text + "<think>hm</think><answer>5</answer>", usage=used(9, 12))
    second = scene.sent()
    assert second.address == "deep"
    thought = "hm</think>\n<answer>42</answer>"
    second.say(*(said(content=letter) for letter in thought), said("stop"), *tail(10, 9))
    told = scene.told(exchange)
    assert told.message == {"role": "assistant", "reasoning_content": "hm", "content": "42"} or told.message == {
        "reasoning_content": "hm",
        "content": "42",
    }
    assert told.headers[Header.ESCALATED] == "judge"
    assert told.headers[Header.JUDGEMENT] == "think"
    assert b"<" not in told.raw
    if not stream:
        told.check_bill()
        assert 0 < told.usage["reasoning_tokens"] < told.usage["completion_tokens"]


def test_an_answer_that_makes_no_sense_is_an_error_that_quotes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path, KAT_FAST, KAT_DEEP)
    exchange = scene.ask(NO_THINK, source=Source.CLIENT, stream=True)
    bad = {**CHUNK, "choices": [{"index": 0, "delta": {"content": {"secret": 1}}}]}
    scene.sent().say(said(content="a secret"), b"data: " + json.dumps(bad).encode() + b"\n\n")
    told = scene.told(exchange)
    assert told.error == "engine_failed"
    assert "secret" not in caplog.text


@pytest.mark.parametrize("headers", [{}, BUFFERED])
def test_an_engine_that_never_comes_to_the_point_is_given_up(scene: Scene, headers: dict[str, str]) -> None:
    exchange = scene.ask(NO_THINK, stream=True, headers=headers)
    engine = scene.sent()
    for _ in range(3000):
        engine.say(said(content="", padding="x" * 500))
        if engine.stopped:
            break
    told = scene.told(exchange)
    assert engine.stopped
    assert (told.status, told.error) == (502, "engine_failed")


@pytest.mark.parametrize("stream", [False, True])
def test_a_part_that_goes_on_is_not_begun_anew_where_it_breaks_off(tmp_path: Path, *, stream: bool) -> None:
    scene = Scene(tmp_path, OPENAI)
    exchange = scene.ask(THINK, stream=stream, max_tokens=64)
    scene.sent().say(*(said(reasoning_content="w") for _ in range(32)))
    second = scene.sent()
    second.say(said(content="So"), b"data: no event\n\n")
    told = scene.told(exchange)
    assert scene.idle()
    assert told.error == "engine_failed"
    assert exchange.cost is not None
    assert exchange.cost.total > 32 * 7000


def test_a_client_that_leaves_stops_the_part_that_runs_and_is_billed_for_all_of_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path, VLLM)
    exchange = scene.ask(THINK, max_tokens=64)
    scene.sent().say(*(said(reasoning_content="w", usage=used(9, i + 1)) for i in range(32)))
    second = scene.sent()
    second.say(said(content="So"), said(content=" it"))
    scene.pipeline.abandon(exchange)
    assert second.stopped
    assert [leg.usage.completion_tokens for leg in exchange.legs] == [32]
    assert exchange.usage is not None
    assert exchange.usage.answer == 2
    assert all(replica.outstanding == 0 for replica in scene.replicas.values())


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_answer_is_billed_the_prompt(scene: Scene, stream: bool) -> None:
    exchange = scene.ask(NO_THINK, stream=stream, max_tokens=64)
    engine = scene.sent()
    scene.pipeline.abandon(exchange)
    assert engine.stopped
    assert exchange.usage is not None
    assert exchange.usage.estimated
    assert exchange.usage.input == max(1, len(exchange.body) // 4)
    assert exchange.usage.completion_tokens == 0, "nobody knows what the engine had written"
    assert exchange.cost is not None
    assert exchange.cost.total == exchange.usage.input * 1000
    assert [part.pool for part in exchange.parts] == ["fast"]


@pytest.mark.parametrize("status", [400, 500])
def test_who_leaves_while_the_engine_refuses_is_billed_nothing(scene: Scene, status: int) -> None:
    exchange = scene.ask(NO_THINK)
    scene.sent().receive(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{" % status)
    scene.pipeline.abandon(exchange)
    assert (exchange.usage, exchange.cost, exchange.parts) == (None, None, ())


PIECES = [
    said(role="assistant", content=""),
    said(content=""),
    said(content="Wo"),
    said(content='"rd"\n'),
    said(reasoning_content="hm"),
    b": ping\n\n",
    said(content="x", usage=used(1, 1)),
]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("metrics"), {**FAST, "served_model_name": "other"}, DEEP)


@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=8),
    cuts=st.lists(st.integers(1, 3000), max_size=12),
    renamed=st.booleans(),
)
def test_what_is_held_back_is_the_same_stream_later(
    named: Scene, pieces: list[bytes], cuts: list[int], *, renamed: bool
) -> None:
    """However it is cut, a stream that may be escalated says what it would have said."""
    events_ = [said(role="assistant"), *pieces, said(content="end"), said("stop"), *tail(5, 5)]
    if renamed:
        events_ = [event.replace(b'"model":"m"', b'"model":"other"') for event in events_]
    raw = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    raw += b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events_) + b"0\r\n\r\n"
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    said_: list[Any] = []
    for wish in ("off", "on"):
        exchange = named.ask(NO_THINK, stream=True, headers={Header.ESCALATION: wish})
        engine = named.sent()
        for start, end in pairwise(edges):
            engine.receive(raw[start:end])
        told = named.told(exchange)
        assert told.ended
        assert told.headers[Header.MODE] == "no_think"
        said_.append(told.events)
        assert {event["model"] for event in told.events[:-1]} == {"m"}
    assert said_[0] == said_[1]


@pytest.mark.parametrize("how", ["left", "broken"])
def test_thinking_that_was_never_answered_is_billed_as_thinking(tmp_path: Path, how: str) -> None:
    scene = Scene(tmp_path, VLLM)
    exchange = scene.ask(THINK, stream=True, max_tokens=1000)
    engine = scene.sent()
    engine.say(*(said(reasoning_content="w", usage=used(9, i + 1)) for i in range(50)))
    if how == "left":
        scene.pipeline.abandon(exchange)
    else:
        engine.say(b'data: {"error": {"message": "x"}}\n\n')
    assert exchange.usage is not None
    assert (exchange.usage.reasoning, exchange.usage.answer) == (50, 0)
    assert exchange.cost is not None
    assert exchange.cost.reasoning == 50 * 7000


def test_nothing_is_escalated_once_the_day_s_thinking_is_spent(scene: Scene) -> None:
    tenant = next(iter(scene.snapshot.tenants.views.values()))
    tenant.thinking_spent = True
    exchange = scene.ask(NO_THINK)
    scene.sent().answer(content="")
    assert scene.idle()
    assert scene.told(exchange).error == "empty_answer"


def test_a_client_that_reads_slowly_holds_back_the_part_that_goes_on_too(tmp_path: Path) -> None:
    scene = Scene(tmp_path, VLLM)
    exchange = scene.ask(THINK, stream=True, max_tokens=64)
    first = scene.sent()
    first.say(*(said(reasoning_content="w") for _ in range(31)))
    exchange.paused = True
    assert exchange.work is not None
    exchange.work.pause()
    assert first.paused
    first.say(said(reasoning_content="w"))  # came in the same read
    second = scene.sent()
    assert second.paused
    exchange.paused = False
    exchange.work.resume()
    assert not second.paused


def test_log_probabilities_of_a_stream_are_not_kept_and_those_of_a_held_one_are_bounded(tmp_path: Path) -> None:
    top = [{"token": "t", "logprob": -1.0, "bytes": [116]}] * 20
    event = json.loads(said(content="word ")[6:])
    event["choices"][0]["logprobs"] = {"content": [{"token": "t", "logprob": -1.0, "top_logprobs": top}]}
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    able = {"capabilities": {"tools": True, "logprobs": True}}
    scene = Scene(tmp_path, {**VLLM, **able})
    number = 1500
    for stream in (True, False):
        exchange = scene.ask(THINK, stream=stream, max_tokens=9000, logprobs=True, top_logprobs=20)
        engine = scene.sent()
        engine.say(said(content="</think>"))
        for index in range(number):
            engine.say(data.replace(b"word", b"word%d" % index))
        assert engine.stopped is not stream
        if stream:
            assert kept_of(exchange) < 50_000
            engine.say(said("stop"), *tail(9, number))
        assert scene.told(exchange).error == (None if stream else "engine_failed")


def kept_of(exchange: Exchange) -> int:
    """Characters that the work on `exchange` keeps of its answer."""
    work = exchange.work
    assert isinstance(work, Relaying)
    assert work._assembly is not None
    return len(json.dumps(work._assembly.answer()))


def test_what_can_t_be_gone_on_with_elsewhere_is_asked_without_thinking(tmp_path: Path) -> None:
    scene = Scene(tmp_path, VLLM, {**OPENAI, "name": "other"})
    exchange = scene.ask(THINK, max_tokens=64)
    first = scene.sent()
    first.say(*(said(reasoning_content="w") for _ in range(32)))
    second = scene.sent()
    assert second.address == "deep"
    scene.replicas["deep"].healthy = False
    scene.fleet.pools["deep"].refresh()
    exchange.attempts -= 1  # so that the next one takes a connection that is there
    second.fail(500)
    third = scene.sent()
    assert third.address == "other"
    assert third.asked["messages"][-1]["role"] == "user"
    assert third.asked["chat_template_kwargs"] == {"enable_thinking": False}
    third.say(said(content="So."), said("stop"), *tail(9, 2))
    told = scene.told(exchange)
    assert told.message["reasoning_content"] == "w" * 32
    assert told.message["content"] == "So."


def test_a_part_that_goes_on_need_not_be_longer_than_it_may(tmp_path: Path) -> None:
    scene = Scene(tmp_path, VLLM)
    scene.ask(THINK, max_tokens=64, min_tokens=60)
    first = scene.sent()
    assert first.asked["min_tokens"] == 60
    first.say(*(said(reasoning_content="w") for _ in range(32)))
    second = scene.sent()
    assert second.asked["max_tokens"] == second.asked["min_tokens"] == 32


def test_every_choice_of_a_short_stream_has_its_end(scene: Scene) -> None:
    exchange = scene.ask(THINK, stream=True, max_tokens=16, n=2)
    scene.sent().say(said(index=0, role="assistant"), said("stop", index=0), said("length", index=1), *tail(3, 2))
    ends = [choice for event in scene.told(exchange).events[:-1] for choice in event["choices"]]
    assert [choice["finish_reason"] for choice in ends] == [None, "stop", "length"]
