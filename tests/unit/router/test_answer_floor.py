"""Whatever an engine thinks and says: there is an answer or an error, no token too many, and an honest bill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.modes import Mode
from support.scenes import DEEP, FAST, URLS, Scene, Sending, said, used

VLLM = {**DEEP, "engine": "vllm", "family": "qwen3", **URLS}
SILENT = {**DEEP, "engine": "openai", "family": "qwen3", "modes": ["think", "no_think"], **URLS}
ENGINES = {"closed": VLLM, "asked without thinking": SILENT, "enforced": DEEP}


@pytest.fixture(scope="module", params=ENGINES)
def pool(request: pytest.FixtureRequest) -> dict[str, Any]:
    return ENGINES[request.param]


@pytest.fixture(scope="module")
def scene(pool: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("metrics"), pool)


def play(engine: Sending, thoughts: int, words: int, *, counts: bool) -> None:
    """An engine that would think and say so much, and does as it is told with the limits that it is given."""
    asked = engine.asked
    limit = asked["max_tokens"]
    begun = asked["messages"][-1]["role"] == "assistant"
    silent = asked.get("chat_template_kwargs") == {"enable_thinking": False}
    thoughts = (
        0 if begun or silent else min(thoughts, asked.get("custom_params", {}).get("thinking_budget", thoughts))
    )
    thinking = min(thoughts, limit)
    answer = min(words, limit - thinking)
    finish = "length" if thinking + answer == limit else "stop"
    prompt = 10
    if not asked["stream"]:
        engine.answer(
            content="w" * answer or None,
            reasoning_content="t" * thinking or None,
            finish=finish,
            usage=used(prompt, thinking + answer, thinking),
        )
        return

    def events() -> Iterator[bytes]:
        yield said(role="assistant", content="")
        for number in range(1, thinking + answer + 1):
            usage = used(prompt, number, min(number, thinking)) if counts else None
            yield said(usage=usage, **({"reasoning_content": "t"} if number <= thinking else {"content": "w"}))
        yield said(finish)
        yield said(usage=used(prompt, thinking + answer, thinking)).replace(b'"delta": {}', b'"delta": null')
        yield b"data: [DONE]\n\n"

    for event in events():
        if engine.stopped:
            return
        engine.say(event)


@given(
    limit=st.integers(32, 160),
    budget=st.none() | st.integers(1, 200),
    thoughts=st.integers(0, 200),
    words=st.integers(0, 200),
    stream=st.booleans(),
    counts=st.booleans(),
)
def test_there_is_an_answer_within_the_limit_or_an_error(
    scene: Scene, limit: int, budget: int | None, thoughts: int, words: int, *, stream: bool, counts: bool
) -> None:
    asked: dict[str, Any] = {"max_tokens": limit, "stream": stream}
    if stream:
        asked["stream_options"] = {"include_usage": True}
    exchange = scene.ask(Mode.THINK, thinking_budget=budget, **asked)
    while not scene.idle():
        play(scene.sent(), thoughts, words, counts=counts)
    told = scene.told(exchange)
    assert told.ended
    if told.error is not None:
        assert told.error == "empty_answer"
        assert words == 0
        return
    message = told.message
    assert message["content"]
    usage = told.usage
    assert usage["completion_tokens"] <= limit
    thought = len(message.get("reasoning_content") or "")
    assert thought <= min(limit - 16, budget or limit)
    assert usage["completion_tokens"] >= thought + len(message["content"])
    told.check_bill()
    replica = scene.replicas[DEEP["name"]]
    assert replica.outstanding == replica.tokens == 0


def test_the_reserve_is_used_where_thinking_never_ends(scene: Scene, pool: dict[str, Any]) -> None:
    exchange = scene.ask(Mode.THINK, max_tokens=100)
    while not scene.idle():
        play(scene.sent(), 10_000, 10_000, counts=True)
    told = scene.told(exchange)
    assert told.usage["completion_tokens"] == 100
    assert len(told.message["content"]) == 50
    assert exchange.floored == (pool is not DEEP)
    assert FAST["name"] not in scene.replicas
