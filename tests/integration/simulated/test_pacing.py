"""Speeds, the queue, and a token a chunk."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from behaviour.engine import CHAT, EngineUnderTest, eventually
from behaviour.simulated_replica import SimulatedReplica, flags
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header


def engine_of(replica: SimulatedReplica, mode: Mode = Mode.NO_THINK) -> EngineUnderTest:
    return EngineUnderTest(replica.base_url, replica.secret, "simulated", mode)


@pytest.mark.parametrize("mode", Mode)
def test_each_token_is_a_chunk_of_its_own(mode: Mode) -> None:
    """The rule of the simulation: all tokens are shown but the marks that close the thinking and the turn."""
    with SimulatedReplica(*flags(mode=mode, decode_speed="inf", answer_tokens=20, thinking_tokens=30)) as replica:
        stream = engine_of(replica, mode).chat_stream("Hello", stream_options={"include_usage": True})
    deltas = [chunk["choices"][0]["delta"] for chunk in stream.chunks][1:-1]
    thinking = sum(delta["reasoning_content"] is not None for delta in deltas)
    answer = sum("content" in delta for delta in deltas)
    assert (thinking, answer) == ((30, 20) if mode is Mode.THINK else (0, 20))
    assert stream.usage["reasoning_tokens"] == (thinking + 1 if thinking else 0)
    assert stream.usage["completion_tokens"] == stream.usage["reasoning_tokens"] + answer + 1


def test_tokens_come_at_the_decode_speed() -> None:
    with SimulatedReplica(*flags(decode_speed=20, answer_tokens=10)) as replica:
        engine = engine_of(replica)
        with engine.open_stream(CHAT, engine.chat_body("Hello")) as lines:
            arrivals = [time.monotonic() for line in lines if '"content":"' in line]
        gaps, count = (engine.metric(f"sglang:inter_token_latency_seconds_{part}") for part in ("sum", "count"))
    assert len(arrivals) == 11, "the role and ten tokens"
    assert count == 10, "the mark that ends the turn takes its time too"
    assert 0.95 / 20 <= gaps / count < 3 / 20
    assert len({round(arrival, 2) for arrival in arrivals}) > 3, "not all at once"


def test_a_prompt_takes_its_time_unless_it_is_known() -> None:
    with SimulatedReplica(*flags(decode_speed="inf", prefill_speed=250)) as replica:
        engine = engine_of(replica)
        times = []
        for _ in range(2):
            began = time.monotonic()
            usage = engine.chat("word " * 500, max_tokens=1)["usage"]
            times.append(time.monotonic() - began)
    assert times[0] >= 500 / 250
    assert times[1] < times[0] - 1
    assert usage["prompt_tokens_details"]["cached_tokens"] > 490


def test_more_than_max_running_wait_in_the_queue() -> None:
    with SimulatedReplica(*flags(max_running=2, decode_speed=20, answer_tokens=24)) as replica:
        engine = engine_of(replica)
        gauges = ("sglang:num_running_reqs", "sglang:num_queue_reqs")
        endless = engine.chat_body("Hello", max_tokens=4000, ignore_eos=True)
        with ThreadPoolExecutor(3) as pool:
            with engine.open_stream(CHAT, endless) as one, engine.open_stream(CHAT, endless) as other:
                next(one)
                next(other)
                answers = [pool.submit(engine.chat, f"Hello {number}") for number in range(3)]
                assert eventually(lambda: [engine.metric(name) for name in gauges] == [2, 3], within=60)
            assert [answer.result()["choices"][0]["finish_reason"] for answer in answers] == ["stop"] * 3
        assert eventually(lambda: [engine.metric(name) for name in gauges] == [0, 0], within=60)
        assert engine.metric("sglang:num_used_tokens") == 0


def test_a_client_that_leaves_the_queue_frees_its_place() -> None:
    with SimulatedReplica(*flags(max_running=1, decode_speed=50)) as replica:
        engine = engine_of(replica)
        with engine.open_stream(CHAT, engine.chat_body("Hello", max_tokens=4000, ignore_eos=True)) as lines:
            next(lines)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(engine.base_url + CHAT, json=engine.chat_body("Hi"), headers=engine.headers, timeout=1)
            assert eventually(lambda: engine.metric("sglang:num_queue_reqs") == 0, within=60)
        assert engine.chat("Hello", max_tokens=2)["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(("told", "thinks"), [({}, True), ({"enable_thinking": False}, False)])
def test_an_engine_of_both_modes_does_as_its_template_is_told(told: dict[str, Any], thinks: bool) -> None:
    with SimulatedReplica("--mode", "think", "--mode", "no_think", *flags(decode_speed="inf")) as replica:
        usage = engine_of(replica).chat("Hello", chat_template_kwargs=told)["usage"]
    assert (usage["reasoning_tokens"] > 0) is thinks


def test_a_thousand_streams_at_a_time() -> None:
    with SimulatedReplica(*flags(decode_speed=8, answer_tokens=16)) as replica:
        usages = asyncio.run(_many(replica, 1000))
    assert [usage["completion_tokens"] for usage in usages] == [17] * 1000


async def _many(replica: SimulatedReplica, count: int) -> list[dict[str, Any]]:
    host, _, port = replica.address.rpartition(":")
    body = json.dumps(
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    request = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"{Header.REPLICA_SECRET}: {replica.secret}\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()

    async def one() -> dict[str, Any]:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        lines = (await reader.read(-1)).splitlines()
        writer.close()
        events = [line for line in lines if line.startswith(b"data: ")]
        assert events[-1] == b"data: [DONE]"
        assert len(events) == 1 + 16 + 1 + 1 + 1, "role, tokens, finish, usage, end"
        usage: dict[str, Any] = json.loads(events[-2].removeprefix(b"data: "))["usage"]
        return usage

    return await asyncio.gather(*(one() for _ in range(count)))
