"""Replicas that fail: what the client sees, what is billed, and that the mode never changes."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.gateway import DEEP, FAST, Gateway, events, refuses, wait_for

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "smollm2:no_think", "messages": [{"role": "user", "content": "hello"}]}


def pool(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A pool with some fields changed; those of the simulated engine under `simulated`."""
    simulated = {**base["engine_args"]["simulated"], **changes.pop("simulated", {})}
    return {**base, **changes, "engine_args": {"simulated": simulated}}


@pytest.mark.parametrize("kind", ["error", "die", "garbage", "garbage_body"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_byte_is_answered_by_a_second_try(
    gateway: Gateway, kind: str, stream: bool
) -> None:
    gateway.engines["fast"][0].faults({"kind": kind, "times": 1})
    with gateway.client() as client:
        answer = client.post(CHAT, json={**HELLO, "stream": stream})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-pointsman-mode"] == "no_think"
    assert answer.headers["x-pointsman-pool"] == "fast"
    assert len(gateway.engines["fast"][0].received()) == 2
    assert gateway.engines["deep"][0].received() == []


def test_a_request_that_fails_everywhere_is_sent_twice_and_no_more(gateway: Gateway) -> None:
    gateway.engines["fast"][0].faults({"kind": "error", "times": 5})
    with gateway.client() as client:
        answer = client.post(CHAT, json=HELLO)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "engine_failed"
    assert len(gateway.engines["fast"][0].received()) == 2


@pytest.mark.parametrize("kind", ["die_midstream", "garbage_midstream", "truncate", "error_midstream"])
def test_a_failure_mid_stream_ends_with_a_well_formed_error_event(gateway: Gateway, kind: str) -> None:
    gateway.engines["fast"][0].faults({"kind": kind, "times": 1, "after_tokens": 5})
    before = gateway.total("pointsman_estimated_usage_total", mode="no_think")
    with gateway.client() as client:
        answer = client.post(CHAT, json={**HELLO, "stream": True})
    assert answer.status_code == 200
    parts = events(answer.text)
    assert parts[-1] == "[DONE]"
    assert parts[-2]["error"]["code"] == "engine_failed"
    assert all("choices" in part for part in parts[:-2])
    words = [part for part in parts[:-2] if part["choices"][0]["delta"].get("content")]
    assert 1 <= len(words) <= 6
    assert len(gateway.engines["fast"][0].received()) == 1
    assert gateway.total("pointsman_estimated_usage_total", mode="no_think") == before + 1


def test_a_silent_engine_times_out(folder: Path) -> None:
    quick = pool(FAST, first_byte_timeout=1, answer_timeout=1, idle_timeout=1)
    with Gateway(folder, pools=[quick]) as gateway, gateway.client() as client:
        gateway.engines["fast"][0].faults({"kind": "hang", "times": 1})
        answer = client.post(CHAT, json=HELLO)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "engine_timeout"
        wait_for(lambda: gateway.readyz()["status"] == "ready", "the replica to be taken back")
        gateway.engines["fast"][0].faults({"kind": "hang_midstream", "times": 1, "after_tokens": 3})
        parts = events(client.post(CHAT, json={**HELLO, "stream": True}).text)
        assert parts[-2]["error"]["code"] == "engine_timeout"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_stops_the_engine(folder: Path, stream: bool) -> None:
    slow = pool(FAST, simulated={"decode_speed": 20, "answer_tokens": 2000})
    with Gateway(folder, pools=[slow]) as gateway:
        engine = gateway.engines["fast"][0]
        body = json.dumps({**HELLO, "stream": stream, "max_tokens": 2000}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            client.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            wait_for(lambda: engine.running() == 1, "the engine to start")
            if stream:
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
        wait_for(lambda: engine.running() == 0, "the engine to stop")
        assert engine.received()[0]["outcome"] == "aborted"
        wait_for(lambda: gateway.total("pointsman_requests_total", status="499") == 1, "the request to be counted")
        assert gateway.total("pointsman_requests_in_flight") == 0


def test_requests_wait_for_a_killed_replica_and_never_change_the_mode(folder: Path) -> None:
    """Eight requests run, four of them streaming; their replica is killed, and a successor starts."""
    slow = pool(DEEP, simulated={"decode_speed": 3}, place_timeout=90)
    with Gateway(folder, pools=[FAST, slow]) as gateway:
        victim = gateway.engines["deep"][0]
        streams_started = threading.Barrier(5)

        def whole(number: int) -> tuple[int, str, str]:
            with gateway.client() as client:
                body = {"model": "smollm2:think", "messages": [{"role": "user", "content": f"q{number}"}]}
                answer = client.post(CHAT, json=body)
                return answer.status_code, answer.headers["x-pointsman-pool"], answer.text

        def streamed(number: int) -> tuple[int, str, str]:
            body = {
                "model": "smollm2:think",
                "stream": True,
                "messages": [{"role": "user", "content": f"s{number}"}],
            }
            with gateway.client() as client, client.stream("POST", CHAT, json=body) as answer:
                pieces = answer.iter_text()
                first = next(pieces)
                streams_started.wait(60)
                return answer.status_code, answer.headers["x-pointsman-pool"], first + "".join(pieces)

        with ThreadPoolExecutor(8) as runners:
            wholes = [runners.submit(whole, number) for number in range(4)]
            streams = [runners.submit(streamed, number) for number in range(4)]
            streams_started.wait(60)
            wait_for(lambda: victim.running() == 8, "all eight to run")
            victim.process.stop(signal.SIGKILL)
            wait_for(lambda: gateway.readyz()["status"] == "degraded", "the loss to be noticed")
            assert gateway.readyz()["missing"] == ["pool deep"]
            assert gateway.readyz()["http"] == 200
            gateway.start_engine("deep", "--decode-speed", "400")
            for future in wholes:
                status, name, text = future.result(100)
                assert (status, name) == (200, "deep")
                assert json.loads(text)["choices"][0]["message"]["reasoning_content"]
            for future in streams:
                status, name, text = future.result(100)
                assert (status, name) == (200, "deep")
                parts = events(text)
                assert parts[-1] == "[DONE]"
                assert parts[-2]["error"]["code"] == "engine_failed"
        wait_for(lambda: gateway.readyz()["status"] == "ready", "the platform to be ready again")
        assert gateway.engines["fast"][0].received() == []


def test_a_pool_that_stays_away_is_503_with_retry_after(folder: Path) -> None:
    with Gateway(folder, pools=[FAST, pool(DEEP, place_timeout=1)]) as gateway, gateway.client() as client:
        gateway.engines["deep"][0].process.stop()
        wait_for(lambda: gateway.readyz()["status"] == "degraded", "the loss to be noticed")
        began = time.monotonic()
        answer = client.post(CHAT, json={**HELLO, "model": "smollm2:think"})
        assert answer.status_code == 503
        assert 0.8 < time.monotonic() - began < 20
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["x-pointsman-pool"] == "deep"
        assert answer.json()["error"]["code"] == "pool_unavailable"
        assert client.post(CHAT, json=HELLO).status_code == 200


def test_a_killed_replicas_conversations_go_to_another_one(folder: Path) -> None:
    slow = pool(FAST, simulated={"decode_speed": 50})
    with Gateway(folder, pools=[slow], copies={"fast": 2}) as gateway:

        def ask(number: int) -> int:
            with gateway.client() as client:
                return client.post(CHAT, json=HELLO).status_code

        with ThreadPoolExecutor(8) as runners:
            assert set(runners.map(ask, range(8))) == {200}
        other, preferred = sorted(gateway.engines["fast"], key=lambda engine: len(engine.received()))
        before = len(other.received())
        preferred.process.stop(signal.SIGKILL)
        with ThreadPoolExecutor(8) as runners:
            assert set(runners.map(ask, range(8))) == {200}
        assert len(other.received()) == before + 8


def test_redis_may_go_and_come_back(folder: Path) -> None:
    with Gateway(folder) as gateway, gateway.client() as client:
        gateway.valkey.stop(signal.SIGKILL)
        wait_for(lambda: "redis" in gateway.readyz()["missing"], "the loss to be noticed")
        assert gateway.readyz()["http"] == 200
        assert client.post(CHAT, json=HELLO).status_code == 200
        gateway.start_valkey()
        wait_for(lambda: gateway.readyz()["status"] == "ready", "Redis to be seen again")
        assert client.post(CHAT, json=HELLO).status_code == 200


def test_the_admin_process_may_die_and_queries_go_on(folder: Path) -> None:
    with Gateway(folder) as gateway, gateway.client() as client:
        gateway.admin.stop(signal.SIGKILL)
        assert client.post(CHAT, json=HELLO).status_code == 200
        answer = client.get("/v1/models")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "admin_unavailable"
        gateway.start_admin()
        wait_for(lambda: client.get("/v1/models").status_code == 200, "the admin process")


def test_a_terminated_router_finishes_its_streams_and_takes_no_more(folder: Path) -> None:
    slow = pool(FAST, simulated={"decode_speed": 20, "answer_tokens": 100})  # five seconds
    with Gateway(folder, pools=[slow]) as gateway, gateway.client() as client:
        with client.stream("POST", CHAT, json={**HELLO, "stream": True}) as answer:
            pieces = answer.iter_text()
            text = next(pieces)
            gateway.router.popen.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(gateway.port), "new connections to be refused", seconds=30)
            assert gateway.router.popen.poll() is None, "while it finishes its stream"
            text += "".join(pieces)
        assert events(text)[-1] == "[DONE]"
        assert gateway.router.popen.wait(60) == 0


def test_a_replica_that_vanishes_without_a_word_times_out(folder: Path) -> None:
    """Its registration expires first: what still runs on it must end all the same."""
    quick = pool(FAST, answer_timeout=8, idle_timeout=8)
    with Gateway(folder, pools=[quick]) as gateway, gateway.client() as client:
        engine = gateway.engines["fast"][0]
        engine.faults({"kind": "hang", "times": 1})
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(client.post, CHAT, json=HELLO)
            wait_for(lambda: len(engine.received()) == 1, "the request to arrive")
            engine.process.popen.send_signal(signal.SIGSTOP)
            answer = waiting.result(60)
        assert answer.status_code == 504
        assert gateway.readyz()["pools"]["fast"]["can_answer"] is False


def test_a_pool_that_sleeps_on_purpose_does_not_hold_up_the_start(folder: Path) -> None:
    with Gateway(folder, pools=[FAST, {**DEEP, "replicas": 0}], copies={"deep": 0}) as gateway:
        state = gateway.readyz()
        assert (state["http"], state["status"], state["missing"]) == (200, "degraded", ["pool deep"])
