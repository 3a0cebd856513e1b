"""What a wire format costs beyond a chat: `python -m benchmarks.wire_formats`, microseconds of one core's time.

Measured without sockets, from the body that came to the bytes that would leave: the steps between are the same for
all formats. Each figure is the best of many rounds, in processor time, so that what else the machine does matters
little; a chat is measured beside it, and what is told is the difference.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson

from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Answer, Endpoint, Exchange
from pointsman.router.wire import formats, openai, openai_request

QUESTION = "What is the capital of France, and since when? " * 3
SYSTEM = "You are a helpful assistant who answers in a few words. " * 4
CHUNKS = 64


class Sink:
    """A connection that drops what it is given."""

    peer = "127.0.0.1"

    def respond(self, status: int, headers: bytes, body: bytes) -> None: ...

    def start_stream(self, headers: bytes, status: int = 200, first: bytes = b"") -> None: ...

    def send(self, data: bytes) -> None: ...

    def send_chunks(self, chunks: bytes) -> None: ...

    def end_stream(self, data: bytes) -> None: ...


class Cost(NamedTuple):
    """Microseconds that a format costs beyond a chat: a whole answer, a stream but for its chunks, one chunk."""

    whole: float
    stream: float
    chunk: float
    chunk_of_several: float
    """A chunk where as many come in one write as a stream has here."""


def chat_body() -> bytes:
    turns = [("system", SYSTEM), ("user", QUESTION), ("assistant", "Paris."), ("user", QUESTION)]
    messages = [{"role": role, "content": text} for role, text in turns]
    return orjson.dumps({"model": "small", "max_tokens": 256, "stream": True, "messages": messages})


def messages_body() -> bytes:
    turns = [("user", QUESTION), ("assistant", "Paris."), ("user", QUESTION)]
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    body = {"model": "small", "max_tokens": 256, "stream": True, "system": SYSTEM, "messages": messages}
    return orjson.dumps(body)


def responses_body() -> bytes:
    kinds = {"user": "input_text", "assistant": "output_text"}
    turns = [("user", QUESTION), ("assistant", "Paris."), ("user", QUESTION)]
    items = [{"role": role, "content": [{"type": kinds[role], "text": text}]} for role, text in turns]
    body = {"model": "small", "max_output_tokens": 256, "stream": True, "instructions": SYSTEM, "input": items}
    return orjson.dumps(body)


BODIES = {Endpoint.MESSAGES: messages_body(), Endpoint.RESPONSES: responses_body()}
_CHAT_BODY = chat_body()
_ANSWER = orjson.dumps(
    {
        "id": "a",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "small",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris, since 987. " * 12, "tool_calls": None},
                "logprobs": None,
                "finish_reason": "stop",
                "matched_stop": 2,
            }
        ],
        "usage": {"prompt_tokens": 90, "completion_tokens": 60, "total_tokens": 150},
    }
)


def _event(reason: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, "matched_stop": None}
    head = {"id": "a", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "small"}
    return b"data: " + orjson.dumps({**head, "choices": [choice], "usage": None}) + b"\n\n"


_FIRST, _LAST = _event(role="assistant", content=""), _event("stop")
_FRAMED = [b"%x\r\n%b\r\n" % (len(event), event) for event in (_event(content=f" w{n}") for n in range(CHUNKS))]
_TOGETHER = b"".join(_FRAMED)
_MODEL = SimpleNamespace(name="small")
_USAGE = Usage(80, 10, 0, 60)
_SINK = Sink()


def _asked(endpoint: Endpoint) -> Exchange:
    """A request that was read."""
    exchange = Exchange(_SINK, endpoint, {}, BODIES.get(endpoint, _CHAT_BODY))
    if endpoint.engine is not endpoint:
        formats.wear(exchange)
    if exchange.face is None:
        openai_request.read(exchange)
    else:
        exchange.face.read(exchange)
    exchange.rid, exchange.request_id, exchange.usage = "r", "req-r", _USAGE
    exchange.model = _MODEL  # type: ignore[assignment]
    if exchange.face is not None:
        exchange.face.understood(exchange)
    return exchange


def _answer(endpoint: Endpoint) -> None:
    exchange = _asked(endpoint)
    exchange.answer = Answer(200, b"", _ANSWER)
    if exchange.face is None:
        exchange.client.respond(200, openai.response_headers(exchange), _ANSWER)
    else:
        exchange.face.finish(exchange)


def _stream(endpoint: Endpoint, chunks: list[bytes]) -> None:
    exchange = _asked(endpoint)
    client = exchange.client
    client.start_stream(openai.response_headers(exchange), first=_FIRST)
    exchange.stream_started = True
    for chunk in chunks:
        client.send_chunks(chunk)
    client.send(_LAST)
    if exchange.face is None:
        client.end_stream(openai.stream_tail(exchange))
    else:
        exchange.face.finish(exchange)


def _best(act: Callable[[], None], rounds: int, times: int = 20) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = time.thread_time_ns()
        for _ in range(times):
            act()
        best = min(best, (time.thread_time_ns() - began) / times)
    return best / 1000


def measured(endpoint: Endpoint, rounds: int) -> Cost:
    """What the format at `endpoint` costs beyond a chat."""

    def beyond(act: Callable[[Endpoint], None]) -> float:
        return _best(lambda: act(endpoint), rounds) - _best(lambda: act(Endpoint.CHAT), rounds)

    first = _FRAMED[:1]  # from which a stream's frame is learnt
    stream = beyond(lambda end: _stream(end, first))
    each = beyond(lambda end: _stream(end, [*first, *_FRAMED]))
    several = beyond(lambda end: _stream(end, [*first, _TOGETHER]))
    return Cost(beyond(_answer), stream, (each - stream) / CHUNKS, (several - stream) / CHUNKS)


def main(rounds: int = 100) -> None:
    print(f"{'beyond a chat, µs of CPU':28}{'whole':>8}{'stream':>8}{'chunk':>8}{'chunk, of several':>20}")
    for endpoint in BODIES:
        cost = measured(endpoint, rounds)
        figures = f"{cost.whole:8.1f}{cost.stream:8.1f}{cost.chunk:8.2f}{cost.chunk_of_several:20.2f}"
        print(f"{endpoint.value:28}{figures}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
