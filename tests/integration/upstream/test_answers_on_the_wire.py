"""Answers as engines may send them, whole and broken: what the client gets, and how often the engine is asked."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from support.gateway import events, wait_for
from support.scripted import DONE, STREAM_HEAD, USAGE, Bench, Step, body, chunk, event, streamed, whole

CHAT = "/v1/chat/completions"
SECRET = b"secret-of-the-engine"
TOLD = body("told")
PLAIN = whole(TOLD)
EVENTS = event("a") + event("b") + USAGE + DONE


def ask(bench: Bench, model: str = "one", *, stream: bool = False, path: str = CHAT, **more: Any) -> httpx.Response:
    hello = {"messages": [{"role": "user", "content": "hello"}]} if path == CHAT else {"prompt": "hello"}
    with bench.gateway.client() as client:
        return client.post(path, json={"model": model, "stream": stream, **hello, **more})


def text_of(answer: httpx.Response) -> str:
    """What the model said, in a whole answer or a stream."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return str(answer.json()["choices"][0]["message"]["content"])
    parts = events(answer.text)
    assert parts.pop() == "[DONE]"
    return "".join(part["choices"][0]["delta"]["content"] for part in parts)


@pytest.mark.parametrize(
    "steps",
    [
        (PLAIN,),
        tuple(PLAIN[at : at + 1] for at in range(len(PLAIN))),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN,),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", PLAIN),
        (b"HTTP/1.0 200 OK\r\n\r\n" + TOLD, "close"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + TOLD[:20], TOLD[20:], "close"),
        (whole(TOLD, headers=b"connection: close\r\n"), "close"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk(TOLD) + b"0\r\n\r\n"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n%X;a=b\r\n%b\r\n" % (len(TOLD), TOLD),
            b"000;end\r\nx-trailer: y\r\n\r\n",
        ),
        (PLAIN.replace(b"content-length", b"x-pad: " + b"p" * 50_000 + b"\r\nContent-Length"),),
        (PLAIN.replace(b"content-length", b"content-encoding: identity\r\ncontent-length"),),
    ],
    ids=["plain", "bytes", "100", "103", "1.0", "eof", "close", "chunked", "extended", "long-head", "identity"],
)
def test_a_proper_answer_arrives(bench: Bench, steps: tuple[Step, ...]) -> None:
    bench.one.script(*steps)
    for expected in ("told", "fine"):  # the one after it too, on the same connection or a new one
        answer = ask(bench)
        assert (answer.status_code, text_of(answer)) == (200, expected)
        assert answer.json()["model"] == "one"
    assert len(bench.one.requests) == 2


@pytest.mark.parametrize(
    "steps",
    [
        tuple(streamed("a", "b")),
        tuple(b"".join(streamed("a", "b"))[at : at + 3] for at in range(0, len(b"".join(streamed("a", "b"))), 3)),
        (STREAM_HEAD + chunk(EVENTS) + b"0\r\n\r\n",),
        (STREAM_HEAD + chunk(b": ping\n\n") + chunk(EVENTS.replace(b"\n", b"\r\n")), b"0\r\n\r\n"),
        (STREAM_HEAD + b"%X;x=y\r\n%b\r\n" % (len(EVENTS), EVENTS), b"0\r\nx: y\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + EVENTS, "close"),
        (STREAM_HEAD + chunk(event("a")) + chunk(event("b")) + chunk(USAGE) + b"0\r\n\r\n",),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + STREAM_HEAD, chunk(EVENTS), b"0\r\n\r\n"),
    ],
    ids=["events", "threes", "one-chunk", "crlf", "extended", "1.0", "no-done", "100"],
)
def test_a_proper_stream_arrives(bench: Bench, steps: tuple[Step, ...]) -> None:
    bench.one.script(*steps)
    for expected in ("ab", "fine"):
        answer = ask(bench, stream=True)
        assert (answer.status_code, text_of(answer)) == (200, expected)
        assert {part["model"] for part in events(answer.text)[:-1]} == {"one"}
    assert len(bench.one.requests) == 2


BROKEN: dict[str, tuple[Step, ...]] = {
    "silent": ("close",),
    "reset": ("reset",),
    "in-status": (b"HTTP/1.1 2", "close"),
    "in-head": (b"HTTP/1.1 200 OK\r\ncontent-le", "close"),
    "in-body": (PLAIN[:-5], "close"),
    "in-body-reset": (PLAIN[:-5], "reset"),
    "in-eof-body": (b"HTTP/1.1 200 OK\r\n\r\n" + body()[:-5], "close"),
    "in-chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk(body())[:-9], "close"),
    "no-last-chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk(body()), "close"),
    "noise": (b"\x16\x03\x01 " + SECRET + b"\r\n\r\n",),
    "not-http": (b"HTTP/2 200 OK\r\n\r\n",),
    "bare-lf": (PLAIN.replace(b"\r\n", b"\n"), "close"),
    "folded": (PLAIN.replace(b"content-length", b"x: y\r\n folded\r\ncontent-length"),),
    "two-lengths": (PLAIN.replace(b"content-length", b"content-length: 3\r\ncontent-length"),),
    "length-and-chunks": (PLAIN.replace(b"content-length", b"transfer-encoding: chunked\r\ncontent-length"),),
    "no-length": (b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",),
    "gzip": (whole(body(), headers=b"content-encoding: gzip\r\n"),),
    "unasked-encoding": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",),
    "chunk-size": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"x" * 300),
    "chunk-end": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}!!", b"x" * 300),
    "huge-chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffff\r\n",),
    "huge-head": (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000,),
    "switch": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",),
    "endless-interim": (b"HTTP/1.1 103 Hints\r\nx: y\r\n\r\n" * 3000,),
    "empty": (whole(b""),),
    "no-json": (whole(SECRET),),
    "no-answer": (whole(b'{"detail":"' + SECRET + b'"}'),),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_answer_costs_a_second_try_and_then_502(bench: Bench, kind: str, stream: bool) -> None:
    bench.one.script(*BROKEN[kind])
    assert text_of(ask(bench, stream=stream)) == "fine"
    assert len(bench.one.requests) == 2
    bench.one.script(*BROKEN[kind], times=2)
    answer = ask(bench, stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")
    assert len(bench.one.requests) == 4
    assert SECRET.decode() not in answer.text + bench.gateway.logs()


STREAM_BREAKS: dict[str, tuple[Step, ...]] = {
    "close": ("close",),
    "reset": ("reset",),
    "in-event": (chunk(event("b")[:-9]), "close"),
    "in-chunk": (chunk(event("b"))[:-9], "close"),
    "no-usage": (b"0\r\n\r\n",),
    "chunk-size": (b"-5\r\n", b"x" * 300),
    "noise": (chunk(SECRET + b"\n\n"),),
    "no-json": (chunk(b'data: {"usage":{' + SECRET + b"\n\n"),),
    "error": (chunk(b'data: {"error":{"message":"%b","code":500}}\n\n' % SECRET),),
    "other-error": (chunk(b'data: {"message":"%b","object":"error","code":500}\n\n' % SECRET),),
    "big-event": (chunk(b"data: {" + b"x" * 200_000), chunk(b"x" * 200_000)),
}


@pytest.mark.parametrize("kind", STREAM_BREAKS)
def test_a_stream_that_breaks_ends_with_an_error_and_is_never_asked_for_again(bench: Bench, kind: str) -> None:
    bench.one.script(STREAM_HEAD, chunk(event("a")), *STREAM_BREAKS[kind])
    answer = ask(bench, stream=True)
    assert answer.status_code == 200
    parts = events(answer.text)
    assert parts[-1] == "[DONE]"
    assert parts[-2]["error"]["code"] == "engine_failed"
    assert parts[0]["choices"][0]["delta"]["content"] == "a"
    assert len(bench.one.requests) == 1
    assert SECRET.decode() not in answer.text + bench.gateway.logs()
    assert text_of(ask(bench, stream=True)) == "fine"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "expected", "code", "sent"),
    [
        ("301 Moved", 502, "engine_failed", 2),
        ("307 Temporary Redirect", 502, "engine_failed", 2),
        ("204 No Content", 502, "engine_failed", 2),
        ("304 Not Modified", 502, "engine_failed", 2),
        ("401 Unauthorized", 502, "engine_failed", 2),
        ("403 Forbidden", 502, "engine_failed", 2),
        ("404 Not Found", 502, "engine_failed", 2),
        ("413 Too Large", 413, "request_too_large", 1),
        ("400 Bad Request", 400, "engine_refused", 1),
        ("429 Too Many", 503, "pool_unavailable", 2),
        ("500 Oops", 502, "engine_failed", 2),
        ("503 Busy", 503, "pool_unavailable", 2),
        ("504 Late", 504, "engine_timeout", 1),
    ],
)
def test_a_refusal_is_told_in_our_words(
    bench: Bench, status: str, expected: int, code: str, sent: int, stream: bool
) -> None:
    reason = b'{"detail":"%b"}' % SECRET
    location = b"location: http://127.0.0.1:1/%b\r\n" % SECRET
    data = b"" if status[:3] in ("204", "304") else reason
    bench.one.script(whole(data, status=status, headers=location), times=2)
    answer = ask(bench, stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (expected, code)
    assert len(bench.one.requests) == sent
    assert SECRET.decode() not in answer.text + str(answer.headers) + bench.gateway.logs()
    if status.startswith("3") and status[:3] != "304":
        assert "redirect" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("path", "field"), [(CHAT, "messages"), ("/v1/completions", "prompt")])
def test_a_prompt_that_is_too_long_names_its_field(bench: Bench, path: str, field: str) -> None:
    bench.one.script(whole(b'{"message":"longer than the model\'s context length"}', status="400 Bad Request"))
    error = ask(bench, path=path).json()["error"]
    assert (error["param"], error["code"]) == (field, "context_length_exceeded")


@pytest.mark.parametrize("poison", [whole(body("poison")), b"noise", b"HTTP/1.1 200 OK\r\n"])
def test_nothing_that_an_engine_sends_too_much_reaches_the_next_request(bench: Bench, poison: bytes) -> None:
    bench.one.script(PLAIN + poison)
    assert text_of(ask(bench)) == "told"
    assert text_of(ask(bench)) == "fine"
    bench.one.script(PLAIN, 0.1, poison)
    assert text_of(ask(bench)) == "told"
    time.sleep(0.3)
    assert text_of(ask(bench)) == "fine"
    bench.one.script(b"".join(streamed("told")) + poison)
    assert text_of(ask(bench, stream=True)) == "told"
    assert text_of(ask(bench, stream=True)) == "fine"
    assert len(bench.one.requests) == 6


def test_a_connection_that_was_closed_between_two_requests_is_no_fault(bench: Bench) -> None:
    before = bench.gateway.total("pointsman_retries_total")
    bench.one.script(PLAIN, "close")
    assert text_of(ask(bench)) == "told"
    time.sleep(0.1)
    assert text_of(ask(bench)) == "fine"
    assert len(bench.one.requests) == 2
    # Closed at the very moment when the next request was on its way:
    bench.one.script("close")
    assert text_of(ask(bench)) == "fine"
    assert bench.gateway.total("pointsman_retries_total") == before


@pytest.mark.parametrize("warm", [False, True])
def test_a_request_that_kills_engines_kills_two_at_most(bench: Bench, warm: bool) -> None:
    left, right = bench.two
    if warm:
        for number in range(8):
            assert text_of(ask(bench, "two", messages=[{"role": "user", "content": f"warm {number}"}])) == "fine"
    asked = len(left.requests) + len(right.requests)
    for engine in bench.two:
        engine.script("close", times=10)
    answer = ask(bench, "two")
    assert answer.status_code == 502
    assert len(left.requests) + len(right.requests) == asked + 2


def test_the_second_try_goes_to_the_other_replica(bench: Bench) -> None:
    spoken = iter(range(1000))

    def both_take_requests() -> bool:
        """A replica that rests after what other tests did to it comes back by a request that succeeds."""
        assert text_of(ask(bench, "two", messages=[{"role": "user", "content": f"well {next(spoken)}"}])) == "fine"
        return bench.gateway.total("pointsman_resting_replicas", pool="two") == 0

    wait_for(both_take_requests, "both replicas to be back")
    for number in range(4):
        for engine in bench.two:
            engine.forget()
        question = [{"role": "user", "content": f"question {number}"}]
        assert text_of(ask(bench, "two", messages=question)) == "fine"
        first, other = sorted(bench.two, key=lambda engine: -len(engine.requests))
        first.script(whole(SECRET, status="500 Oops"), times=5)
        assert text_of(ask(bench, "two", messages=question)) == "fine"
        assert (len(first.requests), len(other.requests)) == (2, 1)


def test_an_answer_that_is_too_large_is_given_up(bench: Bench) -> None:
    bench.one.script(whole(body("t" * 400_000)))
    bench.one.script(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 200_000, b"x" * 200_000)
    for _ in range(2):
        answer = ask(bench)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")


@pytest.mark.parametrize("steps", [(), (PLAIN[:-200],), (PLAIN[:-5],)], ids=["nothing", "head", "most"])
def test_a_silent_engine_is_late(bench: Bench, steps: tuple[Step, ...]) -> None:
    bench.quick.script(*steps, 30.0, "close")
    began = time.monotonic()
    answer = ask(bench, "quick")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "engine_timeout")
    assert time.monotonic() - began > 0.9
    assert len(bench.quick.requests) == 1


def test_a_stream_that_falls_silent_is_late(bench: Bench) -> None:
    bench.quick.script(STREAM_HEAD, 30.0, "close")
    assert ask(bench, "quick", stream=True).status_code == 504
    slow = (chunk(event("a")), 0.4, chunk(event("b")), 0.4, chunk(event("c"))[:9], 30.0)
    bench.quick.script(STREAM_HEAD, *slow, "close")
    parts = events(ask(bench, "quick", stream=True).text)
    assert [part["choices"][0]["delta"]["content"] for part in parts[:-2]] == ["a", "b"]
    assert parts[-2]["error"]["code"] == "engine_timeout"
    assert len(bench.quick.requests) == 2


def test_the_end_of_the_framing_may_be_late(bench: Bench) -> None:
    bench.one.script(STREAM_HEAD, chunk(EVENTS), 30.0, b"0\r\n\r\n")
    began = time.monotonic()
    assert text_of(ask(bench, stream=True)) == "ab"
    assert time.monotonic() - began < 20
    assert text_of(ask(bench, stream=True)) == "fine"
