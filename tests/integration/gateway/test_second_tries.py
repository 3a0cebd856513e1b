"""Answers that do not stand, through a real gateway: what a client, the bill and the counters then say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from pointsman.contracts.names import Header, Metric
from support.gateway import DEEP, FAST, Gateway, events, wait_for
from support.scenes import said, tail, used
from support.scripted import DONE, STREAM_HEAD, ScriptedEngine, chunk, whole

EASY = "What is the capital of France?"


class Stage(NamedTuple):
    """A gateway, and the engines behind its model `played`, which the test plays, and its model `kat`."""

    gateway: Gateway
    fast: ScriptedEngine
    deep: ScriptedEngine
    kat: ScriptedEngine


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ScriptedEngine() as fast, ScriptedEngine() as deep, ScriptedEngine() as kat:
        prices = {"input": 1, "output": 3}
        played = {"model": "played", "prices": prices, "capabilities": {"tools": True}}
        pools = [
            FAST,
            DEEP,
            {**played, "name": "p-fast", "modes": ["no_think"], "engine": "openai", "urls": [fast.url]},
            {
                **played,
                "name": "p-deep",
                "modes": ["think"],
                "engine": "vllm",
                "family": "qwen3",
                "urls": [deep.url],
                "prices": {"input": 2, "output": 5, "reasoning": 7},
            },
            {
                "name": "kat",
                "model": "kat",
                "modes": ["think"],
                "engine": "vllm",
                "family": "kat",
                "urls": [kat.url],
                "prices": prices,
            },
        ]
        tenants = [{"name": "demo", "policy": {"threshold": 0.5}}]
        with Gateway(tmp_path_factory.mktemp("gw"), pools=pools, tenants=tenants) as gateway:
            wait_for(lambda: httpx.get(f"{gateway.url}/metrics").status_code == 200, "metrics", gateway.admin)
            yield Stage(gateway, fast, deep, kat)


def answer(content: str | None, usage: dict[str, int], finish: str = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return whole(
        json.dumps({"id": "e1", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    )


def stream(*pieces: bytes) -> list[bytes]:
    return [STREAM_HEAD, *(chunk(piece) for piece in pieces), b"0\r\n\r\n"]


def ask(stage: Stage, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    asked = {"model": "played", "messages": [{"role": "user", "content": EASY}], **body}
    with stage.gateway.client(headers=headers or {}) as client:
        return client.post("/v1/chat/completions", json=asked)


def test_an_empty_answer_is_escalated_billed_twice_and_counted(stage: Stage) -> None:
    before = stage.gateway.metrics()
    stage.fast.script(answer("", used(10, 1)))
    stage.deep.script(
        *stream(
            said(reasoning_content="Hm."), said(content="Par"), said(content="is"), said("stop"), *tail(12, 4, 1)
        )
    )
    response = ask(stage)
    assert response.status_code == 200
    headers = response.headers
    assert (headers[Header.MODE], headers[Header.MODE_SOURCE]) == ("think", "predictor")
    assert headers[Header.ESCALATED] == "empty"
    assert headers[Header.DECISION_ID].startswith("dec-")
    assert response.json()["choices"][0]["message"]["content"] == "Paris"
    assert response.json()["choices"][0]["message"]["reasoning_content"] == "Hm."
    usage = response.json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["reasoning_tokens"]) == (22, 5, 1)
    nano = 10 * 1000 + 1 * 3000 + 12 * 2000 + 3 * 5000 + 1 * 7000
    assert headers[Header.COST_USD] == f"0.{nano:09d}"
    after = stage.gateway.metrics()

    def grown(name: str, **labels: str) -> float:
        return _sum(after, name, labels) - _sum(before, name, labels)

    assert grown(Metric.ESCALATIONS, tenant="demo", model="played", reason="empty") == 1
    assert grown(Metric.TOKENS, pool="p-fast", mode="no_think") == 11
    assert grown(Metric.TOKENS, pool="p-deep", mode="think") == 16
    assert grown(Metric.COST, model="played") == pytest.approx(nano / 1e9)
    assert grown(Metric.REQUESTS, model="played") == 1


def _sum(page: str, name: str, labels: dict[str, str]) -> float:
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in page.splitlines() if line.startswith(name + "{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(text in line for text in wanted))


def test_an_empty_stream_becomes_one_that_thought(stage: Stage) -> None:
    stage.fast.script(*stream(said(role="assistant", content=""), said("stop"), *tail(10, 1)))
    stage.deep.script(*stream(said(reasoning="Hm."), said(content="Paris"), said("stop"), *tail(12, 4, 1)))
    response = ask(stage, {Header.INCLUDE_COST: "true"}, stream=True, stream_options={"include_usage": True})
    assert response.headers[Header.ESCALATED] == "empty"
    told = events(response.text)
    assert told[-1] == "[DONE]"
    deltas = [choice["delta"] for event in told[:-1] for choice in event["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Paris"
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Hm."
    assert told[-2]["usage"]["total_tokens"] == 11 + 16
    assert told[-2]["pointsman"]["escalated"] == "empty"
    assert float(told[-2]["pointsman"]["cost_usd"]) > 0


def test_a_wish_of_the_client_is_never_escalated_and_bad_words_are_refused(stage: Stage) -> None:
    stage.fast.script(answer("", used(10, 1)))
    refused = ask(stage, {Header.MODE: "no_think"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "empty_answer")
    assert Header.ESCALATED not in refused.headers
    wrong = ask(stage, {Header.ESCALATION: "always"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, Header.ESCALATION)


@pytest.mark.parametrize("streamed", [False, True])
def test_thinking_is_closed_at_the_client_s_budget(stage: Stage, *, streamed: bool) -> None:
    stage.deep.forget()
    thinking = [chunk(said(reasoning_content="w ", usage=used(9, i + 1))) for i in range(8)]
    stage.deep.script(STREAM_HEAD, *thinking, 5.0)
    stage.deep.script(*stream(said(role="assistant"), said(content="So."), said("stop"), *tail(15, 2)))
    response = ask(
        stage,
        {Header.MODE: "think", Header.THINKING_BUDGET: "5"},
        max_tokens=200,
        stream=streamed,
        **({"stream_options": {"include_usage": True}} if streamed else {}),
    )
    assert response.headers[Header.THINKING_BUDGET] == "5"
    first, second = stage.deep.requests
    assert first["stream_options"]["continuous_usage_stats"] is True
    assert second["max_tokens"] == 195
    assert second["continue_final_message"] is True
    usage = events(response.text)[-2]["usage"] if streamed else response.json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["reasoning_tokens"]) == (24, 7, 5)
    if not streamed:
        message = response.json()["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("w w w w w ", "So.")


def test_a_tool_call_that_was_cut_ends_a_stream_with_an_error(stage: Stage) -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
    stage.deep.script(*stream(said(tool_calls=[call]), said("length"), *tail(10, 40)))
    tools = [{"type": "function", "function": {"name": "f"}}]
    response = ask(stage, {Header.MODE: "think"}, stream=True, tools=tools)
    told = events(response.text)
    assert told[-2]["error"]["code"] == "tool_call_cut"
    assert "finish_reason" not in response.text or all(
        choice.get("finish_reason") is None for event in told[:-2] for choice in event["choices"]
    )


def test_kat_is_read_by_its_tags_whoever_serves_it(stage: Stage) -> None:
    stage.kat.forget()
    text = "2 and 2\n</think>\n<answer>\n4</answer>"
    pieces = [said(content=text[at : at + 3]) for at in range(0, len(text), 3)]
    stage.kat.script(*stream(said(role="assistant"), *pieces, said("stop"), *tail(10, 14)))
    response = ask(stage, model="kat", stream=True, stream_options={"include_usage": True})
    (asked,) = stage.kat.requests
    assert asked["skip_special_tokens"] is False
    told = events(response.text)
    deltas = [choice["delta"] for event in told[:-1] for choice in event["choices"]]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "2 and 2"
    assert "".join(delta.get("content") or "" for delta in deltas).strip() == "4"
    assert "<" not in response.text
    usage = told[-2]["usage"]
    assert 0 < usage["reasoning_tokens"] < usage["completion_tokens"] == 14


def test_nothing_of_an_answer_that_makes_no_sense_reaches_client_or_logs(stage: Stage) -> None:
    garbled = {"choices": [{"index": 0, "message": {"content": ["the secret"]}}], "usage": used(1, 1)}
    stage.kat.script(
        STREAM_HEAD, chunk(b'data: {"choices":[{"delta":{"content":["the secret"]}}]}\n\n'), chunk(DONE), times=2
    )
    response = ask(stage, model="kat", stream=True)
    assert "engine_failed" in response.text
    stage.fast.script(whole(json.dumps(garbled).encode()[:-5]), times=2)
    broken = ask(stage, {Header.MODE: "no_think"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (502, "engine_failed")
    assert "secret" not in response.text + broken.text + stage.gateway.logs()


@pytest.mark.parametrize("limit", [32, 33, 40, 64, 200])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_engine_that_thinks_leaves_room_for_an_answer(stage: Stage, limit: int, *, streamed: bool) -> None:
    response = ask(
        stage,
        {Header.MODE: "think"},
        model="smollm2",
        max_tokens=limit,
        stream=streamed,
        **({"stream_options": {"include_usage": True}} if streamed else {}),
    )
    assert response.status_code == 200
    if streamed:
        told = events(response.text)[:-1]
        content = "".join(choice["delta"].get("content") or "" for event in told for choice in event["choices"])
        usage = told[-1]["usage"]
    else:
        content = response.json()["choices"][0]["message"]["content"]
        usage = response.json()["usage"]
    assert content
    assert usage["completion_tokens"] <= limit
