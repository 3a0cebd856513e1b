"""Answers of no sense: whatever an engine sends as JSON, its client gets an end, and the replica its place back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.contracts.modes import Mode
from pointsman.router.pipeline import attempt
from support.scenes import BUFFERED, CHUNK, DEEP, FAST, URLS, Scene, used

KAT = {**DEEP, "engine": "vllm", "family": "kat", **URLS}
QWEN = {**DEEP, "engine": "vllm", "family": "qwen3", **URLS}
ODD = st.sampled_from(
    [None, True, 0, 7, -1.5, "", "text", '{"a": 1}', [], [0], ["x"], [[]], [{}], {}, {"a": 1}, [None]]
)
CALL = st.fixed_dictionaries(
    {},
    optional={
        "index": ODD,
        "id": ODD,
        "type": ODD,
        "function": ODD | st.fixed_dictionaries({"arguments": ODD, "name": ODD}),
    },
)
SAID = st.fixed_dictionaries(
    {},
    optional={
        "role": ODD,
        "content": ODD,
        "reasoning_content": ODD,
        "reasoning": ODD,
        "refusal": ODD,
        "tool_calls": ODD | st.lists(CALL, max_size=2),
    },
)
LOGPROBS = ODD | st.fixed_dictionaries({"content": ODD | st.lists(ODD | st.fixed_dictionaries({"logprob": ODD}))})
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "index": ODD,
        "message": ODD | SAID,
        "delta": ODD | SAID,
        "finish_reason": ODD | st.sampled_from(["stop", "length", "tool_calls"]),
        "logprobs": LOGPROBS,
    },
)
CHOICES = st.lists(CHOICE | ODD, max_size=3) | ODD
POLICY = {
    "escalation": {
        "triggers": ["empty", "tool_call", "schema", "judge", "confidence"],
        "min_mean_logprob": -1.0,
    }
}


@pytest.fixture(scope="module", params=[(FAST, DEEP), (FAST, KAT), (FAST, QWEN)], ids=["plain", "kat", "counted"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("metrics"), *request.param)


@pytest.fixture(scope="module", autouse=True)
def once() -> Iterator[None]:
    """No request is placed a second time, which takes a clock."""
    with patch.object(attempt, "MAX_SENDS", 1):
        yield


@given(
    choices=CHOICES,
    more=st.lists(CHOICES, max_size=3),
    usage=ODD | st.just(used(5, 3, 1)),
    mode=st.sampled_from(Mode),
    stream=st.booleans(),
    buffered=st.booleans(),
    schema=st.booleans(),
)
@example(  # a stream's choice with a message, which only whole answers have
    choices=[{"message": True}],
    more=[],
    usage=used(5, 3, 1),
    mode=Mode.NO_THINK,
    stream=True,
    buffered=True,
    schema=False,
)
def test_a_client_always_gets_an_end(
    scene: Scene,
    choices: Any,
    more: list[Any],
    usage: Any,
    mode: Mode,
    *,
    stream: bool,
    buffered: bool,
    schema: bool,
) -> None:
    asked: dict[str, Any] = {"response_format": {"type": "json_object"}} if schema else {}
    headers = BUFFERED if buffered else {}
    exchange = scene.ask(mode, stream=stream, policy=POLICY, headers=headers, **asked)
    for _ in range(6):
        if scene.idle():
            break
        engine = scene.sent()
        if engine.asked["stream"]:
            for part in (choices, *more):
                engine.say(b"data: " + json.dumps({**CHUNK, "choices": part, "usage": usage}).encode() + b"\n\n")
            engine.say(b"data: [DONE]\n\n")
        else:
            engine.whole({"id": "e1", "choices": choices, "usage": usage})
    assert scene.told(exchange).ended
    assert all(replica.outstanding == 0 for replica in scene.replicas.values())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", Mode)
def test_what_can_be_read_but_not_written_is_no_answer(scene: Scene, mode: Mode, *, stream: bool) -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    exchange = scene.ask(mode, stream=stream, headers=BUFFERED)
    engine = scene.sent()
    text = {"role": "assistant", "content": "</think>fine"}
    if engine.asked["stream"]:
        choice = {"index": 0, "delta": text, "more": deep, "finish_reason": None}
        engine.say(b"data: " + json.dumps({**CHUNK, "choices": [choice]}).encode() + b"\n\n", b"data: [DONE]\n\n")
    else:
        choice = {"index": 0, "message": text, "more": deep, "finish_reason": "stop"}
        engine.whole({"id": "e1", "choices": [choice], "usage": used(5, 3)})
    told = scene.told(exchange)
    assert told.ended
    # what is passed on unread is not written anew
    assert told.error == "engine_failed" or deep in told.events[0]["choices"][0].values()
    assert all(replica.outstanding == 0 for replica in scene.replicas.values())
