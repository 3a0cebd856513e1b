"""Tool calls in answers: delivered where they may be carried out, else asked for once more, or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.modes import Mode, Source
from pointsman.contracts.names import Header, Metric
from support.scenes import BUFFERED, CHUNK, DEEP, FAST, Scene, Sending, said, tail, used

NO_THINK, THINK = Mode.NO_THINK, Mode.THINK
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}


def offered(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": CITY, **more}}


TOOLS = {"tools": [offered(), offered("strictly", strict=True)]}
NAMED = {"type": "function", "function": {"name": "weather"}}
OSLO = '{"city": "Oslo"}'


def call(name: str = "weather", arguments: str = OSLO, index: int = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{index}", "index": index, "type": "function", "function": function}


FAULTY: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str, str]] = {
    # what is at fault: (what is asked besides, the calls, why the output ended, what is counted)
    "cut": ({}, [call(arguments='{"city": ')], "length", "cut"),
    "cut behind the last brace": ({}, [call()], "length", "cut"),
    "arguments that are no JSON": ({}, [call(arguments='{"city": ')], "tool_calls", "malformed"),
    "arguments that are a list": ({}, [call(arguments="[1]")], "tool_calls", "malformed"),
    "no arguments at all": ({}, [call(arguments="")], "tool_calls", "malformed"),
    "an argument is missing": ({}, [call(arguments='{"days": 2}')], "tool_calls", "incomplete"),
    "the second call is at fault": ({}, [call(), call(arguments="{}", index=1)], "tool_calls", "incomplete"),
    "a tool that was not offered": ({}, [call("rm")], "tool_calls", "unknown_tool"),
    "a strict tool, called loosely": (
        {},
        [call("strictly", '{"city": "Oslo", "days": "two"}')],
        "tool_calls",
        "off_schema",
    ),
    "no call where one is demanded": ({"tool_choice": "required"}, [], "stop", "missing"),
    "no call of the one that is named": ({"tool_choice": NAMED}, [], "stop", "missing"),
    "a call of another than the one that is named": ({"tool_choice": NAMED}, [call("strictly")], "stop", "missing"),
    "a demanded call that was cut": ({"tool_choice": "required"}, [], "length", "cut"),
}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    for name, replica in scene.replicas.items():
        assert replica.outstanding == replica.tokens == 0, f"a place at {name} was not given back"


def give(engine: Sending, calls: list[dict[str, Any]], finish: str, *, stream: bool, pieces: int = 3) -> None:
    """Answer with `calls`, or with a text where there are none; a stream gives arguments in `pieces`."""
    if not stream:
        message = {"content": None, "tool_calls": calls} if calls else {"content": "[{"}
        engine.answer(**message, finish=finish, usage=used(10, 4))
        return
    engine.say(said(role="assistant", content=""))
    for made in calls:
        whole = made["function"]["arguments"]
        engine.say(said(tool_calls=[{**made, "function": {**made["function"], "arguments": ""}}]))
        step = max(1, -(-len(whole) // pieces))
        for at in range(0, len(whole), step):
            function = {"name": None, "arguments": whole[at : at + step]}
            engine.say(said(tool_calls=[{"id": None, "index": made["index"], "function": function}]))
    if not calls:
        engine.say(said(content="[{"))
    engine.say(said(finish), *tail(10, 4))


def counted(scene: Scene, outcome: str, pool: str = "deep", mode: str = "think") -> float:
    labels = {"model": "m", "mode": mode, "pool": pool, "outcome": outcome}
    return scene.metrics.counter(Metric.TOOL_ANSWERS, labels).value


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAULTY)
def test_a_call_at_fault_is_an_error_and_never_complete(scene: Scene, fault: str, *, stream: bool) -> None:
    asked, calls, finish, outcome = FAULTY[fault]
    exchange = scene.ask(THINK, source=Source.CLIENT, stream=stream, **TOOLS, **asked)
    give(scene.sent(), calls, finish, stream=stream)
    told = scene.told(exchange)
    assert told.error == ("tool_call_cut" if outcome == "cut" else "tool_call_invalid")
    assert told.status == (200 if stream else 502)
    ends = [
        choice["finish_reason"] for event in (told.events[:-2] if stream else ()) for choice in event["choices"]
    ]
    assert not any(ends)
    assert counted(scene, outcome) == 1
    assert exchange.cost is not None
    assert exchange.cost.total > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAULTY)
def test_a_call_at_fault_is_asked_for_once_more_with_thinking(scene: Scene, fault: str, *, stream: bool) -> None:
    asked, calls, finish, outcome = FAULTY[fault]
    exchange = scene.ask(NO_THINK, stream=stream, headers=BUFFERED, **TOOLS, **asked)
    give(scene.sent(), calls, finish, stream=stream)
    second = scene.sent()
    assert second.address == "deep"
    give(second, [call()], "tool_calls", stream=stream)
    told = scene.told(exchange)
    assert (told.status, told.error) == (200, None)
    assert told.headers[Header.ESCALATED] == "tool_call"
    assert counted(scene, outcome, "fast", "no_think") == counted(scene, "complete") == 1
    if not stream:
        assert told.message["tool_calls"] == [call()]
        told.check_bill()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_where_no_better_call_can_be_had_the_first_one_is_not_delivered(scene: Scene, *, stream: bool) -> None:
    exchange = scene.ask(NO_THINK, stream=stream, headers=BUFFERED, **TOOLS)
    give(scene.sent(), [call(arguments="{}")], "tool_calls", stream=stream)
    scene.sent().fail(400)
    assert (scene.told(exchange).status, scene.told(exchange).error) == (400, "engine_refused")


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_call_that_the_engine_could_not_read_is_no_text(scene: Scene, finish: str) -> None:
    exchange = scene.ask(THINK, **TOOLS)
    scene.sent().answer(content='Let me see.\n<tool_call>{"name": "weather", "argum', finish=finish)
    assert scene.told(exchange).error == ("tool_call_cut" if finish == "length" else "tool_call_invalid")
    for told in ({}, {"tool_choice": "none", **TOOLS}):
        exchange = scene.ask(THINK, **told)
        scene.sent().answer(content="<tool_call> is how a call begins.")
        assert scene.told(exchange).status == 200


CHOICES = ["auto", "required", NAMED]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("choice", CHOICES, ids=["auto", "required", "named"])
def test_good_calls_go_on_as_they_came(scene: Scene, choice: Any, *, stream: bool) -> None:
    other = "weather" if choice is NAMED else "strictly"
    made = [call(), call(other, '{"city": "Rom", "days": 2}', 1)]
    exchange = scene.ask(THINK, stream=stream, tool_choice=choice, **TOOLS)
    engine = scene.sent()
    assert engine.asked["tools"] == TOOLS["tools"]
    assert engine.asked["tool_choice"] == choice
    give(engine, made, "tool_calls", stream=stream)
    told = scene.told(exchange)
    assert (told.status, told.error) == (200, None)
    assert counted(scene, "complete") == 1
    if not stream:
        assert told.message["tool_calls"] == made
        assert told.body["choices"][0]["finish_reason"] == "tool_calls"
        return
    *_, last = [event for event in told.events[:-1] if event["choices"]]
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert said(tool_calls=[{**made[0], "function": {"name": "weather", "arguments": ""}}]) in told.raw


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_text_in_the_place_of_a_call_is_as_good_an_answer(scene: Scene, *, stream: bool) -> None:
    exchange = scene.ask(THINK, stream=stream, **TOOLS)
    give(scene.sent(), [], "stop", stream=stream)
    assert scene.told(exchange).message["content"] == "[{"
    assert not any(counted(scene, outcome) for outcome in ("complete", "missing"))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_wants_one_call_gets_one(scene: Scene, *, stream: bool) -> None:
    exchange = scene.ask(THINK, stream=stream, parallel_tool_calls=False, **TOOLS)
    give(scene.sent(), [call(), call("rm", "nonsense", 1)], "tool_calls", stream=stream)
    told = scene.told(exchange)
    assert (told.status, told.error) == (200, None)
    if not stream:
        assert told.message["tool_calls"] == [call()]
        return
    deltas = [choice["delta"] for event in told.events[:-1] for choice in event["choices"]]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls", ())]
    assert {piece["index"] for piece in pieces} == {0}
    assert "".join(piece["function"]["arguments"] for piece in pieces) == OSLO


def test_a_pool_may_warn_of_its_calls(tmp_path: Path) -> None:
    warned = {**DEEP, "capabilities": {"tools": True, "tools_warning": "too small to call tools well"}}
    scene = Scene(tmp_path, FAST, warned)
    with_tools, without = scene.ask(THINK, **TOOLS), None
    scene.sent().answer()
    assert scene.told(with_tools).headers[Header.WARNING] == "too small to call tools well"
    without = scene.ask(THINK)
    scene.sent().answer()
    assert Header.WARNING not in scene.told(without).headers
    labels = {"model": "m", "mode": "think", "pool": "deep"}
    assert scene.metrics.counter(Metric.TOOL_WARNINGS, labels).value == 1


def test_calls_that_never_end_are_too_large_and_garbage_is_no_call(scene: Scene) -> None:
    exchange = scene.ask(THINK, stream=True, **TOOLS)
    engine = scene.sent()
    for _ in range(1100):
        engine.say(said(tool_calls=[{"index": 0, "function": {"arguments": "x" * 1000}}]))
    assert engine.stopped
    assert scene.told(exchange).error == "engine_failed"
    for broken in (
        b'{"choices":[{"delta":{"tool_calls":[{}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":7}]}}]}',
    ):
        exchange = scene.ask(THINK, stream=True, **TOOLS)
        engine = scene.sent()
        engine.say(said(content="Well"), said(content=" then"), b"data: " + broken + b"\n\n")
        assert scene.told(exchange).error == "engine_failed"
        assert scene.told(exchange).ended


ARGUMENTS = st.dictionaries(
    st.sampled_from(["city", "days", 'äöü\n"']), st.text(max_size=8) | st.integers(), max_size=3
)


@given(
    calls=st.lists(st.tuples(st.sampled_from(["weather", "strictly", "rm"]), ARGUMENTS), min_size=1, max_size=3),
    pieces=st.integers(1, 9),
    cut=st.booleans(),
    merged=st.booleans(),
)
def test_a_stream_is_judged_as_the_whole_answer_is(
    scene_of_all: Scene, calls: list[tuple[str, dict[str, Any]]], pieces: int, *, cut: bool, merged: bool
) -> None:
    """However its arguments are cut into events, and events into reads."""
    made = [call(name, json.dumps(arguments), at) for at, (name, arguments) in enumerate(calls)]
    finish = "length" if cut else "tool_calls"
    errors = []
    for stream in (False, True):
        exchange = scene_of_all.ask(THINK, stream=stream, **TOOLS)
        engine = scene_of_all.sent()
        if stream and merged:
            events = _Kept()
            give(events, made, finish, stream=True, pieces=pieces)  # type: ignore[arg-type]
            engine.say(b"".join(events.said[:-1]), events.said[-1])
        else:
            give(engine, made, finish, stream=stream, pieces=pieces)
        errors.append(scene_of_all.told(exchange).error)
    assert errors[0] == errors[1]


class _Kept:
    """Keeps what an engine would say."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def say(self, *pieces: bytes) -> None:
        self.said += pieces


@pytest.fixture(scope="module")
def scene_of_all(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    assert CHUNK["model"] == "m"
    return Scene(tmp_path_factory.mktemp("metrics"))
