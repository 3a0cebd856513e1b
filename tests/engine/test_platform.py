"""`pointsman up` with real engines, as a user sees it: SGLang in Ray Serve behind the router."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from support.gateway import events
from support.instances import wait_until
from support.platform import Platform

EASY = "What is the capital of France?"
HARD = "Prove that the square root of 2 is irrational."
TRACKS = [(EASY, "no_think", "fast"), (HARD, "think", "deep")]
ENOUGH = 64
"""Tokens to think and to answer in, of which the engine says some ten a second."""

CLASSES = ("input", "cached_input", "reasoning", "answer")

pytestmark = pytest.mark.timeout(600)


def ask(platform: Platform, question: str, **fields: Any) -> tuple[httpx.Headers, Any]:
    """Headers and answer, not streamed, at temperature 0."""
    raw = platform.client().chat.completions.with_raw_response.create(
        model="smollm2", temperature=0, messages=[{"role": "user", "content": question}], **fields
    )
    return raw.headers, raw.parse()


def running(platform: Platform, pool: str) -> float:
    """SGLang's own gauge, which it renews after some steps of its scheduler."""
    return platform.engine_metric(pool, "sglang:num_running_reqs")


@pytest.mark.parametrize(("question", "mode", "pool"), TRACKS)
def test_each_question_goes_down_its_track_and_is_answered(
    platform: Platform, question: str, mode: str, pool: str
) -> None:
    headers, answer = ask(platform, question, max_tokens=ENOUGH)
    assert headers["x-pointsman-mode"] == mode
    assert headers["x-pointsman-mode-source"] == "predictor"
    assert headers["x-pointsman-pool"] == pool
    message = answer.choices[0].message
    assert message.content.strip()
    if mode == "no_think":
        assert "Paris" in message.content
        assert not getattr(message, "reasoning_content", None)
    else:
        assert message.reasoning_content.strip()
        assert "think>" not in message.content + message.reasoning_content


@pytest.mark.parametrize(("question", "mode", "pool"), TRACKS)
@pytest.mark.parametrize("stream", [False, True])
def test_usage_adds_up_to_the_engines_own_counts(
    platform: Platform, question: str, mode: str, pool: str, stream: bool
) -> None:
    names = ("sglang:prompt_tokens_total", "sglang:generation_tokens_total")
    before = [platform.engine_metric(pool, name) for name in names]
    if stream:
        chunks = list(
            platform.client().chat.completions.create(
                model="smollm2",
                temperature=0,
                max_tokens=ENOUGH,
                stream=True,
                stream_options={"include_usage": True},
                messages=[{"role": "user", "content": question}],
            )
        )
        usage = chunks[-1].usage
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
        said = "".join(delta.content or "" for delta in deltas)
        assert said.strip()
        assert bool(thought.strip()) == (mode == "think")
    else:
        usage = ask(platform, question, max_tokens=ENOUGH)[1].usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    reasoning = usage.completion_tokens_details.reasoning_tokens
    assert 0 <= reasoning < usage.completion_tokens
    assert (reasoning > 0) == (mode == "think")

    def counted() -> bool:
        after = [platform.engine_metric(pool, name) for name in names]
        return [new - old for new, old in zip(after, before, strict=True)] == [
            usage.prompt_tokens,
            usage.completion_tokens,
        ]

    wait_until(counted, seconds=10, what="the engine's own counters to show this answer")


def test_the_counters_equal_the_sums_of_the_answers(platform: Platform) -> None:
    for question, mode, pool in TRACKS:

        def counted(name: str, mode: str = mode, pool: str = pool) -> dict[str, Decimal]:
            labels = {"tenant": "demo", "model": "smollm2", "mode": mode, "pool": pool}
            return {
                part: Decimal(str(platform.metric(name, token_class=part, **labels))).quantize(Decimal("1e-9"))
                for part in CLASSES
            }

        tokens, cost = counted("pointsman_tokens_total"), counted("pointsman_cost_usd_total")
        told, paid = dict.fromkeys(CLASSES, 0), Decimal(0)
        for number in range(2):
            headers, answer = ask(platform, f"{question} ({number})", max_tokens=48)
            usage = answer.usage
            cached = usage.prompt_tokens_details.cached_tokens
            reasoning = usage.completion_tokens_details.reasoning_tokens
            told["input"] += usage.prompt_tokens - cached
            told["cached_input"] += cached
            told["reasoning"] += reasoning
            told["answer"] += usage.completion_tokens - reasoning
            paid += Decimal(headers["x-pointsman-cost-usd"])
        after = counted("pointsman_tokens_total")
        assert {part: after[part] - tokens[part] for part in CLASSES} == told
        after = counted("pointsman_cost_usd_total")
        assert sum(after[part] - cost[part] for part in CLASSES) == paid
        assert paid > 0


def test_the_thinking_budget_is_kept_by_the_engine(platform: Platform) -> None:
    _, answer = ask(platform, HARD, max_tokens=100)
    usage = answer.usage
    assert usage.completion_tokens <= 100
    # 64 of 100 tokens would leave 36 to think, but the answer never gets more than half
    assert usage.completion_tokens_details.reasoning_tokens <= 50 + 4  # the closing mark is a few tokens long
    assert answer.choices[0].message.content.strip()


@pytest.mark.parametrize("mode", ["no_think", "think"])
def test_a_client_that_leaves_mid_stream_stops_the_engine(platform: Platform, mode: str) -> None:
    pool = "fast" if mode == "no_think" else "deep"
    body = {
        "model": f"smollm2:{mode}",
        "stream": True,
        "max_tokens": 2000,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "Tell me a very long story."}],
    }
    headers = {"authorization": f"Bearer {platform.key}"}
    with httpx.stream(
        "POST", f"{platform.url}/v1/chat/completions", json=body, headers=headers, timeout=60
    ) as answer:
        lines = answer.iter_lines()
        for _ in range(6):
            next(lines)
        wait_until(lambda: running(platform, pool) == 1, seconds=10, what="the engine to show the request")
    wait_until(lambda: running(platform, pool) == 0, seconds=5, what="the engine to stop")


def test_bad_input_is_refused_in_openais_form(platform: Platform) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(platform, "word " * 20_000)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as refused:
        ask(platform, EASY, extra_body={"rid": "x"})
    assert refused.value.param == "rid"


def test_a_replica_answers_nobody_but_the_router(platform: Platform) -> None:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": EASY}]}
    for pool in ("fast", "deep"):
        answer = httpx.post(f"http://{platform.replica(pool).address}/v1/chat/completions", json=body)
        assert answer.status_code == 403


def test_the_whole_is_small_and_quiet_when_idle(platform: Platform) -> None:
    """
    Under 10 GiB in all, shared pages counted once; at most half of one core while nothing is asked.

    Whoever polls takes a whole core. What was asked before may keep it busy for a while, but not for a minute.
    """

    def measured() -> tuple[float, float]:
        seconds = memory = 0.0
        for process in platform.living():
            try:
                times = process.cpu_times()
                seconds += times.user + times.system
                memory += process.memory_full_info().pss
            except psutil.Error:
                continue
        return seconds, memory

    shares = []
    while not shares or (shares[-1] >= 0.50 and len(shares) < 4):
        (before, memory), began = measured(), time.monotonic()
        time.sleep(15)
        # Reading a process's shared memory is done at the reader's cost, not at the process's.
        after, elapsed = measured()[0], time.monotonic() - began
        assert memory < 10 * 1024**3
        shares.append((after - before) / elapsed)
    assert shares[-1] < 0.50, shares


def test_an_engine_of_one_process_keeps_one_thread_for_groups(platform: Platform) -> None:
    """Each of SGLang's groups of processes would have one that polls, ten in all."""
    schedulers = [process for process in platform.living() if process.name().startswith("sglang::sched")]
    assert len(schedulers) == 2
    for scheduler in schedulers:
        names = [path.read_text() for path in Path(f"/proc/{scheduler.pid}/task").glob("*/comm")]
        assert names.count("gloo_tcp_loop\n") == 1


def test_an_answer_that_breaks_its_schema_is_asked_for_once_more_with_thinking(platform: Platform) -> None:
    """No model can name ten cities in 40 tokens: both answers are cut, and both are on the bill."""
    cities = {"type": "array", "minItems": 10, "items": {"type": "string", "minLength": 20}}
    schema = {"type": "object", "required": ["cities"], "properties": {"cities": cities}}
    wanted = {"type": "json_schema", "json_schema": {"name": "cities", "schema": schema}}
    before = [platform.engine_metric(pool, "sglang:generation_tokens_total") for pool in ("fast", "deep")]
    headers, answer = ask(platform, EASY, max_tokens=40, response_format=wanted)
    assert headers["x-pointsman-escalated"] == "schema"
    assert headers["x-pointsman-mode"] == "think"
    assert headers["x-pointsman-mode-source"] == "predictor"

    def counted() -> bool:
        after = [platform.engine_metric(pool, "sglang:generation_tokens_total") for pool in ("fast", "deep")]
        spent = [new - old for new, old in zip(after, before, strict=True)]
        return min(spent) > 0 and sum(spent) == answer.usage.completion_tokens

    wait_until(counted, seconds=10, what="the engines' own counters to show both answers")
    record = httpx.get(
        f"{platform.url}/v1/decisions/{headers['x-pointsman-decision-id']}",
        headers={"authorization": f"Bearer {platform.key}"},
        timeout=10,
    ).json()
    assert (record["mode"], record["source"], record["escalated"]) == ("think", "predictor", "schema")
    assert record["cost"] == Decimal(headers["x-pointsman-cost-usd"]) * 10**9
    assert f"{record['probability']:.4f}" == headers["x-pointsman-think-probability"]


def test_sglang_goes_on_from_a_message_that_was_begun(platform: Platform) -> None:
    """What the router counts on where it closes a model's thinking, or begins its turn in KAT's way."""
    begun = {"role": "assistant", "content": "The capital of France is"}
    answer = httpx.post(
        f"http://{platform.replica('fast').address}/v1/chat/completions",
        headers={"x-pointsman-replica-secret": platform.secret},
        json={
            "model": "smollm2",
            "messages": [{"role": "user", "content": EASY}, begun],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "separate_reasoning": False,
            "skip_special_tokens": False,
            "temperature": 0,
            "max_tokens": 8,
        },
        timeout=60,
    ).json()
    said = answer["choices"][0]["message"]["content"]
    assert said.lstrip().startswith("Paris")


def test_a_killed_replica_is_replaced_and_its_requests_never_change_the_mode(platform: Platform) -> None:
    """Eight requests run on one replica, four of them streaming, when it is killed."""
    victim = platform.replica("deep")
    streams_started = threading.Barrier(5)
    headers = {"authorization": f"Bearer {platform.key}"}
    url = f"{platform.url}/v1/chat/completions"

    def body(number: int, *, stream: bool) -> dict[str, Any]:
        # The whole answers are long, so that none is finished before the kill.
        message = {"role": "user", "content": f"Count from {number} to a thousand."}
        limit = {"max_tokens": 500} if stream else {"max_tokens": 120, "min_tokens": 100}
        return {"model": "smollm2:think", "stream": stream, "temperature": 0, "messages": [message], **limit}

    def whole(number: int) -> httpx.Response:
        return httpx.post(url, json=body(number, stream=False), headers=headers, timeout=400)

    def streamed(number: int) -> tuple[httpx.Headers, str]:
        with httpx.stream("POST", url, json=body(number, stream=True), headers=headers, timeout=400) as answer:
            pieces = answer.iter_text()
            first = next(pieces)
            streams_started.wait(60)
            return answer.headers, first + "".join(pieces)

    with ThreadPoolExecutor(8) as runners:
        wholes = [runners.submit(whole, number) for number in range(4)]
        streams = [runners.submit(streamed, number) for number in range(4, 8)]
        streams_started.wait(60)
        wait_until(lambda: running(platform, "deep") == 8, seconds=60, what="all eight to run")
        platform.replica_process("deep").kill()
        killed = time.monotonic()
        for future in streams:
            answered, text = future.result(30)
            assert answered["x-pointsman-mode"] == "think"
            parts = events(text)
            assert parts[-1] == "[DONE]"
            assert parts[-2]["error"]["code"] == "engine_failed"
        wait_until(lambda: platform.readyz()["status"] == "degraded", seconds=5, what="the loss to be noticed")
        for future in wholes:
            answer = future.result(400)
            assert answer.headers["x-pointsman-mode"] == "think"
            assert answer.headers["x-pointsman-pool"] == "deep"
            if answer.status_code == 200:
                assert answer.json()["choices"][0]["message"]["reasoning_content"]
            else:
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["retry-after"]) > 0
                assert time.monotonic() - killed > 85
    wait_until(lambda: platform.readyz()["status"] == "ready", seconds=120, what="the platform is ready again")
    assert platform.replica("deep").instance != victim.instance
    assert "Paris" in ask(platform, EASY)[1].choices[0].message.content
    assert platform.readyz()["missing"] == []
