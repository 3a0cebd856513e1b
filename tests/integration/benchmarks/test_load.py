"""The benchmark's load generator and upstream: what they count is what was sent, right and wrong alike."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gateway.tools import Cell, Cores, Target, Tools

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b'data: {"usage":{"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"
UNARY = Cell("unary", 1, 512)
STREAM = Cell("stream", 1, 512)

Script = Callable[[socket.socket, bytes, bytes], None]
"""Answers one request on a connection, given its head and its body."""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    core = min(os.sched_getaffinity(0))
    built = Tools(tmp_path_factory.mktemp("bench"), Cores(core, core), tokens=4)
    built.build()
    return built


@contextmanager
def scripted(script: Script) -> Iterator[int]:
    """A server that answers each request by `script`, and closes the connection where that raises or closes it."""

    def connection(client: socket.socket) -> None:
        held = b""
        with client:
            try:
                while client.fileno() >= 0:
                    while b"\r\n\r\n" not in held:
                        held += _more(client)
                    head, held = held.split(b"\r\n\r\n", 1)
                    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    while len(held) < length:
                        held += _more(client)
                    body, held = held[:length], held[length:]
                    script(client, head, body)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=connection, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _more(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ConnectionResetError
    return data


def token(number: int) -> bytes:
    return b'data: {"choices":[{"delta":{"content":" tick%d %d"}}]}\n\n' % (number, time.monotonic_ns())


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def answering(*parts: bytes, close: bool = False) -> Script:
    def script(client: socket.socket, head: bytes, body: bytes) -> None:
        for part in parts:
            client.sendall(part)
        if close:
            client.close()

    return script


def long_enough(tools: Tools, target: Target, cell: Cell, *, answers: int = 4) -> dict[str, Any]:
    """What is measured in as much time as the machine needs for so many answers, or for a mistake."""
    for seconds in (0.2, 1.0, 5.0):
        result = tools.measure(target, cell, seconds=seconds, warm_up=0)
        if mistakes(result) or result["answers"] >= answers:
            break
    return result


def measure(
    tools: Tools, script: Script, cell: Cell = STREAM, *, answers: int = 4, **options: Any
) -> dict[str, Any]:
    with scripted(script) as port:
        return long_enough(tools, Target(port, **options), cell, answers=answers)


def mistakes(result: dict[str, Any]) -> set[str]:
    return {name for name, count in result["errors"].items() if count}


def test_a_stream_is_counted_by_token_chunk_and_read(tools: Tools) -> None:
    result = measure(
        tools, answering(HEAD, *(chunk(token(i)) for i in range(4)), chunk(END), chunk(DONE), b"0\r\n\r\n")
    )
    assert not mistakes(result)
    assert result["answers"] > 3
    assert result["chunks"] / result["tokens"] == pytest.approx(6 / 4, rel=0.1)


def test_merged_chunks_show_in_the_count_and_are_no_error(tools: Tools) -> None:
    result = measure(tools, answering(HEAD, chunk(b"".join(map(token, range(4))) + END + DONE), b"0\r\n\r\n"))
    assert not mistakes(result)
    assert result["chunks"] / result["tokens"] == pytest.approx(1 / 4, rel=0.1)


def test_tokens_cut_at_every_byte_are_the_same_tokens(tools: Tools) -> None:
    whole = HEAD + b"".join(chunk(token(i)) for i in range(4)) + chunk(END + DONE) + b"0\r\n\r\n"
    result = measure(tools, answering(*(whole[at : at + 1] for at in range(len(whole)))))
    assert not mistakes(result)
    assert result["answers"] > 3
    assert result["chunks"] / result["tokens"] == pytest.approx(5 / 4, rel=0.1)


def test_gaps_and_delays_are_the_time_between_tokens_and_since_they_were_written(tools: Tools) -> None:
    def script(client: socket.socket, head: bytes, body: bytes) -> None:
        client.sendall(HEAD + chunk(token(0)))
        late = token(1)
        time.sleep(0.02)
        client.sendall(chunk(late))
        client.sendall(chunk(token(2) + token(3) + END + DONE) + b"0\r\n\r\n")

    result = measure(tools, script)
    assert not mistakes(result)
    assert result["gap"]["p90"] >= 20_000
    assert result["gap"]["p50"] < 20_000
    assert result["delay"]["p90"] >= 20_000
    assert result["first_token"]["p50"] < result["latency"]["p50"]


WRONG: dict[str, tuple[str, Script]] = {
    "no end mark": ("truncated", answering(HEAD, *(chunk(token(i)) for i in range(4)), chunk(END), b"0\r\n\r\n")),
    "too few tokens": ("truncated", answering(HEAD, chunk(token(0)), chunk(END + DONE), b"0\r\n\r\n")),
    "cut within a token": ("truncated", answering(HEAD, chunk(token(0)), chunk(token(1))[:20], close=True)),
    "a token lost": (
        "content",
        answering(HEAD, *(chunk(token(i)) for i in (0, 2, 3)), chunk(END + DONE), b"0\r\n\r\n"),
    ),
    "a token doubled": ("content", answering(HEAD, *(chunk(token(i)) for i in (0, 1, 1)))),
    "too many tokens": (
        "content",
        answering(HEAD, *(chunk(token(i)) for i in range(5)), chunk(END + DONE), b"0\r\n\r\n"),
    ),
    "no usage": ("content", answering(HEAD, *(chunk(token(i)) for i in range(4)), chunk(DONE), b"0\r\n\r\n")),
    "no chunk size": ("framing", answering(HEAD, b"zz\r\n")),
    "a chunk without its end": ("framing", answering(HEAD, b"5\r\nhelloXX\r\n")),
    "two lengths": (
        "framing",
        answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n"),
    ),
    "not HTTP": ("framing", answering(b"220 mail.example.org ESMTP ready\r\n\r\n")),
    "an error": ("status", answering(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")),
    "no answer": ("reset", answering(close=True)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_stream_is_counted_and_named(tools: Tools, name: str) -> None:
    mistake, script = WRONG[name]
    result = measure(tools, script)
    assert mistakes(result) == {mistake}
    assert result["answers"] == 0
    assert mistake in result["complaint"]


def test_a_connection_without_a_byte_has_stalled(tools: Tools) -> None:
    for script in (answering(), answering(HEAD, chunk(token(0)))):
        with scripted(script) as port:
            result = tools.measure(Target(port), STREAM, seconds=0.1, warm_up=0, patience=0.2)
        assert mistakes(result) == {"stalled"}


def test_answers_that_are_on_their_way_at_the_end_are_awaited_and_not_counted(tools: Tools) -> None:
    asked = []

    def slow(client: socket.socket, head: bytes, body: bytes) -> None:
        asked.append(head)
        time.sleep(0.15)
        client.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n" tick0 1"')

    with scripted(slow) as port:
        result = tools.measure(Target(port), UNARY, seconds=0.2, warm_up=0)
    assert not mistakes(result)
    assert result["answers"] == len(asked) - 1


def test_an_answer_that_is_none_is_an_error(tools: Tools) -> None:
    good = b'{"content":" tick0 1"}'
    bad = b'{"error":"busy"}'
    for body, wanted in ((good, set()), (bad, {"content"})):
        result = measure(
            tools, answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)), UNARY
        )
        assert mistakes(result) == wanted
        assert bool(result["answers"]) is (not wanted)


def test_a_connection_that_the_server_closes_properly_is_opened_again(tools: Tools) -> None:
    answer = b'HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\n" tick0 1"'
    result = measure(tools, answering(answer, close=True), UNARY)
    assert not mistakes(result)
    assert result["reconnects"] >= result["answers"] > 1


def test_every_prompt_is_valid_different_and_about_as_large_as_asked(tools: Tools, tmp_path: Path) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def script(client: socket.socket, head: bytes, body: bytes) -> None:
        seen.append((head, body))
        client.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n" tick0 1"')

    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\nthree\n")
    measure(tools, script, Cell("unary", 1, 8192), answers=40, keys=keys, headers=("x-extra: yes",))
    prompts = [json.loads(body)["messages"][0]["content"] for _, body in seen]
    assert len(prompts) > 10
    assert len(set(prompts)) == len(prompts)
    assert all(8192 * 0.78 <= len(body) <= 8192 * 1.22 for _, body in seen)
    assert len({len(body) for _, body in seen}) > 5
    told = [head.split(b"authorization: Bearer ")[1].split(b"\r\n")[0] for head, _ in seen]
    assert told[:4] == [b"one", b"two", b"three", b"one"]
    assert all(b"\r\nx-extra: yes" in head for head, _ in seen)


def test_the_upstream_answers_right_and_merges_nothing(tools: Tools) -> None:
    with tools.upstream(ports=2, tokens=4) as upstream:
        for port in upstream.ports:
            unary = long_enough(tools, Target(port), Cell("unary", 4, 65536), answers=11)
            stream = long_enough(tools, Target(port), Cell("stream", 4, 512), answers=40)
            for result in (unary, stream):
                assert not mistakes(result)
                assert result["answers"] > 10
            assert stream["chunks"] / stream["tokens"] == pytest.approx(7 / 4, rel=0.1)


def test_a_paced_upstream_keeps_its_interval_for_each_of_many_streams(tools: Tools) -> None:
    with tools.upstream(tokens=4, interval=50, event_bytes=130) as upstream:
        result = tools.measure(Target(upstream.ports[0]), Cell("stream", 100, 512), seconds=0.6, ramp=1000)
    assert not mistakes(result)
    assert result["gap"]["p50"] == pytest.approx(50_000, rel=0.4)  # a hundred in a row would take far more
    assert result["tokens"] > 100


def test_cpu_of_the_gateway_is_that_of_its_processes(tools: Tools) -> None:
    with tools.upstream() as upstream:
        pid = upstream.pid
        result = tools.measure(
            Target(upstream.ports[0], gateway=(pid,)), Cell("unary", 8, 512), seconds=0.3, warm_up=0
        )
    assert 0.001 < result["cpu"] < result["seconds"]
    assert result["helper_cpu"] == 0
    assert result["waited"] > 0, "it shares its core with the load generator"
    assert result["rss"] > 100_000
