"""What clients see of models that write tags: nothing of the tags, and all of the text, whole and streamed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from pointsman.contracts.names import Header
from support.gateway import Gateway, events
from support.scripted import CHUNK, DONE, STREAM_HEAD, ScriptedEngine, Step, chunk, whole

PROOF = (
    "<judge>\nA proof: it has to be thought through.\n</judge>\n\n<think_on>\n<think>\nIf n = 2k, n² = 4k² < 5k².\n"
    "</think>\n\n<answer>\nn² is even.\n</answer>"
)
GREETING = "<judge>\nA greeting.\n</judge>\n\n<think_off>\n<answer>\nHello!\n</answer>"
USAGE = {"prompt_tokens": 5, "completion_tokens": 40, "total_tokens": 45}
SECRET = "what-the-model-wrote"


class Site(NamedTuple):
    gateway: Gateway
    kat: ScriptedEngine
    qwen: ScriptedEngine
    oss: ScriptedEngine


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    judging = {"model_decides": True, "abstain": [0.0, 1.0], "default_mode": "think"}
    tenants = [
        {"name": "demo"},
        {"name": "judging", "policy": judging},
        {"name": "fast", "policy": {**judging, "default_mode": "no_think", "escalation": {"triggers": []}}},
    ]
    with ScriptedEngine() as kat, ScriptedEngine() as qwen, ScriptedEngine() as oss:
        shared = {"modes": ["think", "no_think"], "prices": {"input": 1, "output": 2, "reasoning": 3}}
        pools = [
            {"name": "kat", "model": "kat", "family": "kat", "engine": "sglang", "urls": [kat.url], **shared},
            {"name": "qwen", "model": "qwen", "family": "qwen3", "engine": "vllm", "urls": [qwen.url], **shared},
            {"name": "oss", "model": "oss", "family": "gpt_oss", "engine": "openai", "urls": [oss.url], **shared},
        ]
        with Gateway(tmp_path_factory.mktemp("families"), pools=pools, tenants=tenants) as gateway:
            yield Site(gateway, kat, qwen, oss)


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.kat.forget()
    shared_site.qwen.forget()
    shared_site.oss.forget()
    return shared_site


def ask(site: Site, model: str, tenant: str = "demo", **more: Any) -> httpx.Response:
    with site.gateway.client(headers={"authorization": f"Bearer {site.gateway.keys[tenant]}"}) as client:
        hello = [{"role": "user", "content": "hello"}]
        return client.post("/v1/chat/completions", json={"model": model, "messages": hello, **more})


def stream_of(*deltas: dict[str, Any]) -> list[Step]:
    """As SGLang and vLLM stream: a role, `deltas` (`logprobs` beside them), a finish reason, the usage."""

    def sent(delta: dict[str, Any], finish: str | None = None) -> bytes:
        logprobs = delta.pop("logprobs", None)
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return b"data: " + json.dumps({**CHUNK, "choices": [choice]}).encode() + b"\n\n"

    usage = b"data: " + json.dumps({**CHUNK, "choices": [], "usage": USAGE}).encode() + b"\n\n"
    body = [sent({"role": "assistant", "content": ""}), *map(sent, deltas), sent({}, "stop"), usage, DONE]
    return [STREAM_HEAD, b"".join(map(chunk, body)) + b"0\r\n\r\n"]


def texts(raw: str, size: int) -> list[dict[str, Any]]:
    return [{"content": raw[at : at + size]} for at in range(0, len(raw), size)]


def answer_of(*messages: dict[str, Any]) -> bytes:
    choices = [{"index": i, "message": message, "finish_reason": "stop"} for i, message in enumerate(messages)]
    return whole(json.dumps({**CHUNK, "object": "chat.completion", "choices": choices, "usage": USAGE}).encode())


class Told(NamedTuple):
    """What a client learns from an answer."""

    reasoning: str
    answer: str
    judgement: str | None
    usage: dict[str, Any]


def told(answer: httpx.Response) -> Told:
    assert answer.status_code == 200, answer.text
    for tag in ("judge>", "<think", "think>", "answer>", "<|", "|>"):
        assert tag not in answer.text
    if not answer.headers["content-type"].startswith("text/event-stream"):
        message, usage = answer.json()["choices"][0]["message"], answer.json()["usage"]
        judgement = answer.headers.get(Header.JUDGEMENT)
        return Told(message.get("reasoning_content") or "", message["content"], judgement, usage)
    *parts, usage, done = events(answer.text)
    assert done == "[DONE]"
    said = {"reasoning_content": "", "content": ""}
    for part in parts:
        for field in said:
            said[field] += part["choices"][0]["delta"].get(field) or ""
    assert parts[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any(part["choices"][0]["finish_reason"] for part in parts[:-1])
    judgement = parts[-1].get("pointsman", {}).get("judgement")
    return Told(said["reasoning_content"], said["content"], judgement, usage["usage"])


HARMONY = (
    "<|channel|>analysis<|message|>If n = 2k.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>n² is even: a < b.<|return|>"
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("effort", ["high", "none"])
def test_channels_that_come_as_text(site: Site, stream: bool, size: int, effort: str) -> None:
    # In mode think the tokens of thinking are counted: the engine is asked to stream either way.
    streams = stream or effort == "high"
    site.oss.script(*(stream_of(*texts(HARMONY, size)) if streams else [answer_of({"content": HARMONY})]))
    found = told(ask(site, "oss", reasoning_effort=effort, **options(stream)))
    assert found[:3] == ("If n = 2k.", "n² is even: a < b.", None)
    assert 0 < found.usage["completion_tokens_details"]["reasoning_tokens"] < 40
    (asked,) = site.oss.requests
    assert asked["reasoning_effort"] == ("high" if effort == "high" else "low")


@pytest.mark.parametrize("stream", [False, True])
def test_no_tag_is_among_the_log_probabilities(site: Site, stream: bool) -> None:
    tokens = re.split(r"(<[^>]+>|\s+)", PROOF)
    others = [
        {"token": "<think_off>", "bytes": None, "logprob": -3.0},
        {"token": "I", "bytes": None, "logprob": -4.0},
    ]
    entries = [{"token": each, "bytes": None, "logprob": -0.1, "top_logprobs": others} for each in tokens if each]
    steps = stream_of(*({"content": entry["token"], "logprobs": {"content": [entry]}} for entry in entries))
    site.kat.script(*steps)
    answer = ask(site, "kat", "judging", logprobs=True, top_logprobs=2, **options(stream))
    assert told(answer).answer == "n² is even."
    parts = events(answer.text)[:-2] if stream else [answer.json()]
    shown = [part["choices"][0]["logprobs"] for part in parts]
    seen = [entry for logprobs in shown if logprobs for entry in logprobs["content"]]
    assert "".join(entry["token"] for entry in seen) == re.sub(r"<[^>]+>", "", PROOF)
    assert {other["token"] for entry in seen for other in entry["top_logprobs"]} == {"I"}


def options(stream: bool) -> dict[str, Any]:
    return {"stream": True, "stream_options": {"include_usage": True}} if stream else {}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_kat_judges_by_itself(site: Site, stream: bool, size: int) -> None:
    # In mode think the tokens of thinking are counted: the engine is asked to stream either way.
    site.kat.script(*stream_of(*texts(PROOF, size)))
    found = told(ask(site, "kat", "judging", **options(stream)))
    assert found.reasoning == "A proof: it has to be thought through.\n\nIf n = 2k, n² = 4k² < 5k²."
    assert (found.answer, found.judgement) == ("n² is even.", "think")
    assert found.usage["completion_tokens"] == 40
    assert 0 < found.usage["completion_tokens_details"]["reasoning_tokens"] < 40
    (asked,) = site.kat.requests
    assert (asked["skip_special_tokens"], len(asked["messages"])) == (False, 1)
    assert "continue_final_message" not in asked


@pytest.mark.parametrize("stream", [False, True])
def test_kat_judges_against_the_router(site: Site, stream: bool) -> None:
    site.kat.script(*stream_of(*texts(GREETING, 3)))
    assert told(ask(site, "kat", "judging", **options(stream)))[:3] == ("A greeting.", "Hello!", "no_think")
    site.kat.script(*(stream_of(*texts(PROOF, 3)) if stream else [answer_of({"content": PROOF})]))
    found = told(ask(site, "kat", "fast", **options(stream)))
    assert (found.answer, found.judgement) == ("n² is even.", "think")


@pytest.mark.parametrize("stream", [False, True])
def test_a_mode_is_forced_upon_kat(site: Site, stream: bool) -> None:
    site.kat.script(*stream_of(*texts("\nIf n = 2k.\n</think>\n\n<answer>\nn² is even.\n</answer>", 2)))
    found = told(ask(site, "kat", reasoning_effort="high", **options(stream)))
    assert found[:3] == ("If n = 2k.", "n² is even.", None)
    raw = "\nHello <b>!\n</answer>"
    site.kat.script(*(stream_of(*texts(raw, 2)) if stream else [answer_of({"content": raw})]))
    found = told(ask(site, "kat", reasoning_effort="none", **options(stream)))
    assert found[:3] == ("", "Hello <b>!", None)
    assert found.usage["completion_tokens_details"]["reasoning_tokens"] == 0
    begun = [asked["messages"][-1]["content"] for asked in site.kat.requests]
    assert begun == ["<judge></judge><think_on><think>", "<judge></judge><think_off><answer>"]
    assert all(asked["continue_final_message"] for asked in site.kat.requests)


def test_several_whole_answers(site: Site) -> None:
    site.kat.script(answer_of({"content": "a</think><answer>b"}, {"content": "c d</think><answer>e f\n</answer>"}))
    answer = ask(site, "kat", reasoning_effort="high", n=2)
    assert told(answer)[:2] == ("a", "b")
    second = answer.json()["choices"][1]["message"]
    assert (second["reasoning_content"], second["content"]) == ("c d", "e f")
    assert answer.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] == 20  # four characters of eight


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["kat", "qwen"])
def test_what_is_held_to_a_schema_is_answer_from_the_start(site: Site, model: str, stream: bool) -> None:
    engine = site.kat if model == "kat" else site.qwen
    engine.script(*stream_of(*texts('{"even": true}', 4)))
    found = told(
        ask(site, model, reasoning_effort="high", response_format={"type": "json_object"}, **options(stream))
    )
    assert found[:3] == ("", '{"even": true}', None)


@pytest.mark.parametrize("stream", [False, True])
def test_vllms_own_name_for_thinking(site: Site, stream: bool) -> None:
    site.qwen.script(
        *stream_of({"reasoning": "If n "}, {"reasoning": "= 2k."}, {"content": "It is "}, {"content": "even."})
    )
    found = told(ask(site, "qwen", reasoning_effort="high", **options(stream)))
    assert found[:2] == ("If n = 2k.", "It is even.")
    assert found.usage["completion_tokens_details"]["reasoning_tokens"] == 20  # two events of four


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_that_nobody_asked_for(site: Site, stream: bool) -> None:
    raw = "<think>\nhm\n</think>\n\nEven: a < b"
    site.qwen.script(*(stream_of(*texts(raw, 4)) if stream else [answer_of({"content": raw})]))
    assert told(ask(site, "qwen", reasoning_effort="none", **options(stream)))[:2] == ("hm", "Even: a < b")


@pytest.mark.parametrize("stream", [False, True])
def test_output_that_makes_no_sense_is_an_error_and_in_no_log(site: Site, stream: bool) -> None:
    delta = {"content": [SECRET]}
    site.qwen.script(*(stream_of(delta) if stream else [answer_of(delta)]), times=4)
    answer = ask(site, "qwen", reasoning_effort="none", **options(stream))
    error = events(answer.text)[-2]["error"] if answer.status_code == 200 else answer.json()["error"]
    assert answer.status_code in (200, 502)
    assert error["type"] == "server_error"
    assert SECRET not in answer.text
    assert SECRET not in site.gateway.logs()
