"""Clients that leave or only stop sending, and a router that leaves its clients: through real processes."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from support.gateway import FAST, Engine, Gateway, refuses, wait_for

SLOW = {**FAST, "engine_args": {"simulated": {"decode_speed": 20, "answer_tokens": 400, "keep_requests": 200}}}
NOTICED = 10.0
"""Seconds after which the engine has to have stopped working for a client that has gone; its answer takes 20."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=[SLOW]) as gateway:
        yield gateway


@pytest.fixture
def engine(gateway: Gateway) -> Engine:
    (engine,) = gateway.engines["fast"]
    engine.forget()
    return engine


def fields(**more: Any) -> dict[str, Any]:
    return {"model": "smollm2:no_think", "messages": [{"role": "user", "content": "hello"}], **more}


def request(gateway: Gateway, *, version: bytes = b"1.1", **more: Any) -> bytes:
    data = json.dumps(fields(**more)).encode()
    return (
        b"POST /v1/chat/completions HTTP/%b\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (version, gateway.key.encode(), len(data), data)
    )


def connect(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=60)


def everything(wire: socket.socket) -> bytes:
    """What arrives until the other end closes or breaks off."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := wire.recv(100_000):
            data += piece
    return data


def reached(engine: Engine) -> None:
    wait_for(lambda: len(engine.received()) == 1, "the request to arrive", engine.process)


def stopped(engine: Engine) -> None:
    wait_for(lambda: engine.received()[0]["outcome"] == "aborted", "its end", engine.process, seconds=NOTICED)


@pytest.mark.parametrize("stream", [False, True])
def test_who_stops_sending_is_still_answered(gateway: Gateway, engine: Engine, stream: bool) -> None:
    with connect(gateway) as wire:
        wire.sendall(request(gateway, max_tokens=40, stream=stream))
        wire.shutdown(socket.SHUT_WR)
        answer = everything(wire)
    interim, final = answer.count(b"HTTP/1.1 100 Continue\r\n\r\n"), answer.count(b"HTTP/1.1 200 OK\r\n")
    assert final == 1
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n") if not stream else interim <= 4
    assert interim <= 4
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") if stream else b'"finish_reason":"length"' in answer
    assert engine.received()[0]["outcome"] == "answered"


def test_pipelined_requests_before_the_end_are_all_answered(gateway: Gateway, engine: Engine) -> None:
    with connect(gateway) as wire:
        wire.sendall(request(gateway, max_tokens=2) * 3)
        wire.shutdown(socket.SHUT_WR)
        assert everything(wire).count(b"HTTP/1.1 200 OK\r\n") == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_who_leaves_is_noticed(gateway: Gateway, engine: Engine, stream: bool, version: bytes) -> None:
    wire = connect(gateway)
    wire.sendall(request(gateway, version=version, stream=stream))
    reached(engine)
    wire.close()
    stopped(engine)


def test_who_leaves_before_the_answer_is_billed_the_prompt_alone(gateway: Gateway, engine: Engine) -> None:
    """What the engine had written when it was stopped is known to nobody."""

    def billed(token_class: str) -> float:
        return gateway.total("pointsman_tokens_total", token_class=token_class)

    before = {name: billed(name) for name in ("input", "answer")}
    estimated = gateway.total("pointsman_estimated_usage_total")
    cost = gateway.total("pointsman_cost_usd_total")
    sent = request(gateway, max_tokens=300)
    with connect(gateway) as wire:
        wire.sendall(sent)
        reached(engine)
    stopped(engine)
    wait_for(lambda: gateway.total("pointsman_estimated_usage_total") == estimated + 1, "its bill", gateway.router)
    body = sent.partition(b"\r\n\r\n")[2]
    assert billed("input") - before["input"] == len(body) // 4
    assert billed("answer") == before["answer"]
    assert gateway.total("pointsman_cost_usd_total") > cost


def test_who_stops_sending_and_then_leaves_is_noticed(gateway: Gateway, engine: Engine) -> None:
    wire = connect(gateway)
    wire.sendall(request(gateway))
    wire.shutdown(socket.SHUT_WR)
    reached(engine)
    wire.close()
    stopped(engine)


def leave_httpx(gateway: Gateway) -> None:
    with pytest.raises(httpx.ReadTimeout), gateway.client() as client:
        client.post("/v1/chat/completions", json=fields(), timeout=1.0)


def leave_openai(gateway: Gateway) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=1.0)
    with client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(**fields())


def leave_openai_stream(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        stream = client.chat.completions.create(**fields(stream=True))
        next(iter(stream))
        stream.close()


@pytest.mark.parametrize("leave", [leave_httpx, leave_openai, leave_openai_stream])
def test_clients_that_give_up_are_noticed(
    gateway: Gateway, engine: Engine, leave: Callable[[Gateway], None]
) -> None:
    leave(gateway)
    reached(engine)
    stopped(engine)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/readyz", "/v1/models", "/nowhere"])
@pytest.mark.parametrize("key", [b"", b"authorization: Bearer pm-wrong\r\n"])
def test_no_body_is_awaited_from_who_shows_no_known_key(gateway: Gateway, path: str, key: bytes) -> None:
    with connect(gateway) as wire:
        head = b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: 5000000\r\nexpect: 100-continue\r\n\r\n"
        wire.sendall(head % (path.encode(), key))
        answer = everything(wire)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nwww-authenticate: Bearer\r\n" in answer
    assert b"\r\nconnection: close\r\n" in answer


def test_the_admin_key_makes_no_tenant(gateway: Gateway) -> None:
    """A body is awaited from its holder where an administrator has something to ask for, and nowhere else."""
    head = b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: 5\r\n"
    head += b"expect: 100-continue\r\n\r\n"
    with connect(gateway) as wire:
        wire.sendall(head % (b"/v1/chat/completions", gateway.admin_key.encode()))
        assert everything(wire).startswith(b"HTTP/1.1 401 ")
    with connect(gateway) as wire:
        wire.sendall(head % (b"/v1/models", gateway.admin_key.encode()))
        assert wire.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(b"abcde")
        assert wire.recv(1000).startswith(b"HTTP/1.1 405 ")


def test_a_stop_lets_answers_finish_and_a_deadline_breaks_them_off(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=[SLOW], router={"drain_timeout": 3.0}) as gateway:
        short, long, idle, half = (connect(gateway) for _ in range(4))
        idle.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle.recv(10_000).startswith(b"HTTP/1.1 200")
        short.sendall(request(gateway, max_tokens=20, stream=True))
        long.sendall(request(gateway, stream=True))
        whole = request(gateway, max_tokens=2)
        half.sendall(whole[:-10])
        for wire in (short, long):
            received = b""
            while b"data: " not in received:
                received += wire.recv(10_000)
        began = time.monotonic()
        gateway.router.popen.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(gateway)
        half.sendall(whole[-10:])  # what had begun to arrive is answered, and told that nothing more will be
        answer = everything(half)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close\r\n" in answer
        assert everything(short).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert not everything(long).endswith(b"0\r\n\r\n")
        assert gateway.router.popen.wait(60) == 0
        assert 2.5 < time.monotonic() - began < 18  # the long answer takes 20 s
        for wire in (short, long, idle, half):
            wire.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(tmp_path_factory: pytest.TempPathFactory, number: int) -> None:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=[SLOW]) as gateway, connect(gateway) as wire:
        wire.sendall(request(gateway, stream=True))
        wire.recv(10_000)
        gateway.router.popen.send_signal(number)
        wait_for(lambda: refuses(gateway.port), "the first one to be heeded", gateway.router)
        with pytest.raises(Exception, match="timed out"):
            gateway.router.popen.wait(0.5)
        gateway.router.popen.send_signal(number)
        assert gateway.router.popen.wait(15) == 0  # the answer takes 20 s


def test_connections_over_the_limit_are_told_and_closed(tmp_path_factory: pytest.TempPathFactory) -> None:
    ask = b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n"
    with Gateway(tmp_path_factory.mktemp("gw"), pools=[FAST], router={"max_connections": 5}) as gateway:
        kept = [connect(gateway) for _ in range(5)]
        for wire in kept:
            wire.sendall(ask)
            assert wire.recv(10_000).startswith(b"HTTP/1.1 200")
        answers: list[bytes] = []

        def one_more() -> None:
            with connect(gateway) as wire:
                wire.sendall(ask)
                answers.append(everything(wire))

        threads = [threading.Thread(target=one_more) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 5
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"\r\nretry-after: 1\r\n" in answer
            assert b"\r\nconnection: close\r\n" in answer
            assert b"too_many_connections" in answer
        kept.pop().close()
        wait_for(lambda: gateway.startupz() == 200, "room for another one", gateway.router)
        for wire in kept:
            wire.sendall(ask)
            assert wire.recv(10_000).startswith(b"HTTP/1.1 200")
            wire.close()
