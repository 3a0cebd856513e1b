"""Fetch the answer from the chosen replica and pass it on.

Stands after `place`. A stream's events go to the client as they come, untouched; they are looked at only for
the usage, for errors and for their end. Events are passed on whole, so that a stream that breaks can always be
ended by a well-formed error event. Before the first byte a failed replica costs the client nothing but time: the
request goes back to `place`, at most once after it was really sent.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson

from pointsman.contracts.errors import ApiError, InvalidRequest, UpstreamFailed, UpstreamTimeout
from pointsman.contracts.names import Metric
from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Answer, Exchange, Headers
from pointsman.router.fleet import Fleet
from pointsman.router.http.call import Call
from pointsman.router.http.upstream import UpstreamConnection
from pointsman.router.http.wire import header_lines
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.place import Place
from pointsman.router.wire import engine_errors, openai
from pointsman.router.wire.upstream_request import upstream_request

if TYPE_CHECKING:
    from pointsman.router.pipeline import Pipeline

log = logging.getLogger(__name__)

MAX_SENDS = 2
"""How often one request is sent to replicas at most: a request that kills engines must not kill them all."""

MAX_ERROR_BODY = 64 * 1024
"""Bytes of an engine's error that are read."""

_USAGE_MARKS = (b'"usage":{', b'"usage": {')
_ERROR_MARKS = (b'data: {"error"', b'data:{"error"')
_OBJECT_STARTS = (b"data: {", b"data:{")
_KEEP_ALIVE = b":"
_STREAM_HEADERS = header_lines(
    [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
    ]
)
_JSON = header_lines([("content-type", "application/json")])


class Relay:
    """Fills `usage`, and `answer` or the stream. `pipeline` is set once the pipeline exists."""

    name = "relay"
    pipeline: Pipeline

    def __init__(self, fleet: Fleet, metrics: Metrics, *, max_response_bytes: int) -> None:
        self.fleet = fleet
        self.retries = metrics.counter(Metric.RETRIES, {})
        self.max_response_bytes = max_response_bytes

    def __call__(self, exchange: Exchange) -> Outcome:
        exchange.work = Relaying(self, exchange)
        exchange.work.start(fresh=False)
        return Outcome.WAIT


class Relaying(Call):
    """One attempt to get an answer: `exchange.Work` towards the client, `Receiver` towards the engine."""

    __slots__ = (
        "_body",
        "_carry",
        "_events",
        "_exchange",
        "_mark",
        "_pool",
        "_reasoning_events",
        "_relay",
        "_replica",
        "_size",
        "_status",
        "_streaming",
    )

    def __init__(self, relay: Relay, exchange: Exchange) -> None:
        assert exchange.pool is not None
        assert exchange.replica is not None
        super().__init__(exchange.replica.site, connect_timeout=exchange.pool.connect_timeout)
        self._relay = relay
        self._exchange = exchange
        self._pool = exchange.pool
        self._replica = exchange.replica
        self._status = 0
        self._streaming = False
        self._body: list[bytes] = []
        self._size = 0
        self._carry = b""
        self._mark = b"\n\n"  # what ends an event
        self._events = 0
        self._reasoning_events = 0

    # -- exchange.Work

    def abort(self) -> None:
        """The client has gone: drop the connection, which stops the engine's work, and bill what was seen."""
        if self._ended:
            return
        self._end_attempt()
        if self._exchange.stream_started:
            self._exchange.usage = self._estimate()

    # -- Receiver

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status
        kind = headers.get(b"content-type", b"").lower()
        self._streaming = status == 200 and kind.startswith(b"text/event-stream")

    def on_data(self, data: bytes) -> None:
        if self._ended:
            return
        if self._streaming:
            self._on_events(data)
            return
        self._size += len(data)
        if self._size > (self._relay.max_response_bytes if self._status == 200 else MAX_ERROR_BODY):
            if self._status == 200:
                self._fail(UpstreamFailed("The engine's answer is too large."))
            return
        self._body.append(data)

    def on_complete(self) -> None:
        if self._ended:
            return
        exchange = self._exchange
        if self._status != 200:
            self._on_refusal(engine_errors.translate(self._status, b"".join(self._body)))
        elif self._streaming and exchange.stream_started and exchange.usage is not None:
            self._succeed()  # an engine that counts its tokens and ends without [DONE]
        elif self._streaming or exchange.stream:
            self._lost("garbage")
        else:
            self._on_answer(b"".join(self._body))

    def on_lost(self, reason: str) -> None:
        if not self._ended:
            self._lost(reason)

    # -- Call

    def _unreachable(self) -> None:
        self._relay.fleet.failed(self._replica, "connect")
        self._place_again()

    def _send(self, connection: UpstreamConnection) -> None:
        exchange, pool = self._exchange, self._pool
        exchange.attempts += 1
        exchange.place_deadline = 0.0  # should this replica fail, the request is held anew
        try:
            request = upstream_request(exchange, self._replica, secret=self._relay.fleet.secret)
        except orjson.JSONEncodeError:  # orjson reads four times as deep as it writes
            self._fail(InvalidRequest("The request is nested too deeply.", code="invalid_json"))
            return
        connection.send(
            request,
            self,
            first_byte_timeout=pool.first_byte_timeout if exchange.stream else pool.answer_timeout,
            idle_timeout=pool.idle_timeout,
        )

    # -- answers

    def _on_answer(self, body: bytes) -> None:
        """A whole answer: put our reading of its usage into it, so that bill and answer agree."""
        exchange = self._exchange
        assert exchange.model is not None
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
            self._lost("garbage")
            return
        usage = openai.usage_from(answer.get("usage"))
        if usage is None:
            usage = Usage(input=self._prompt_estimate(), answer=max(1, len(body) // 4), estimated=True)
        exchange.usage = usage
        exchange.first_byte_at = perf_counter()
        answer["model"] = exchange.model.name
        answer["usage"] = openai.usage_object(usage)
        exchange.answer = Answer(200, _JSON, orjson.dumps(answer))
        self._relay.fleet.succeeded(self._replica)
        self._succeed()

    def _on_events(self, data: bytes) -> None:
        """A piece of a stream: pass on what is whole, keep the rest."""
        if self._carry:
            data = self._carry + data
            self._carry = b""
        if not data.endswith(self._mark):
            if self._mark == b"\n\n" and b"\r\n\r\n" in data:
                self._mark = b"\r\n\r\n"
            cut = data.rfind(self._mark)
            cut = 0 if cut < 0 else cut + len(self._mark)
            self._carry = data[cut:]
            if len(self._carry) > self._relay.max_response_bytes:
                self._fail(UpstreamFailed("The engine sent an event that is too large."))
                return
            if cut == 0:
                return
            data = data[:cut]
        if (
            b"[DONE]" in data
            or _USAGE_MARKS[0] in data
            or _USAGE_MARKS[1] in data
            or b'"error"' in data
            or not data.startswith(_OBJECT_STARTS)
        ):
            self._on_marked_events(data)
        else:
            self._pass(data)

    def _on_marked_events(self, data: bytes) -> None:
        """Events one of which may be more than text: look at each."""
        for event in data.split(self._mark):
            if not event:
                continue
            if event == b"data: [DONE]" or event == b"data:[DONE]":
                if self._exchange.stream_started:
                    self._succeed()
                else:
                    self._lost("garbage")
                return
            if event.startswith(_KEEP_ALIVE):
                continue  # a comment, by which some engines keep the connection warm
            if not event.startswith(_OBJECT_STARTS):
                self._lost("garbage")
                return
            if event.startswith(_ERROR_MARKS):
                self._on_refusal(engine_errors.translate_event(event[5:]))
                return
            if (_USAGE_MARKS[0] in event or _USAGE_MARKS[1] in event) and self._on_usage(event):
                continue
            self._pass(event + self._mark)
            if self._ended:
                return

    def _on_usage(self, event: bytes) -> bool:
        """Take the usage out of `event`; True where the event holds nothing else, and is ours to send."""
        try:
            chunk: Any = orjson.loads(event[5:])
        except orjson.JSONDecodeError:
            return False
        usage = openai.usage_from(chunk.get("usage")) if isinstance(chunk, dict) else None
        if usage is None:
            return False
        self._exchange.usage = usage
        if chunk.get("choices"):
            return False
        self._exchange.usage_chunk = chunk
        return True

    def _pass(self, data: bytes) -> None:
        exchange = self._exchange
        if not exchange.stream_started:
            exchange.first_byte_at = perf_counter()
            exchange.stream_started = True
            self._relay.fleet.succeeded(self._replica)
            exchange.client.start_stream(openai.response_headers(exchange) + _STREAM_HEADERS)
        self._events += data.count(b"data:")
        self._reasoning_events += data.count(b'"reasoning_content":"')
        exchange.client.send(data)

    # -- ends

    def _succeed(self) -> None:
        if self._exchange.usage is None:
            self._exchange.usage = self._estimate()
        self._end_attempt(keep=True)
        self._relay.pipeline.resume(self._exchange)

    def _fail(self, error: ApiError) -> None:
        """End the exchange with `error`; what had been streamed is billed."""
        if self._exchange.stream_started and self._exchange.usage is None:
            self._exchange.usage = self._estimate()
        self._end_attempt()
        self._relay.pipeline.refuse(self._exchange, error)

    def _on_refusal(self, error: ApiError) -> None:
        """The engine answered with an error of its own."""
        if not isinstance(error, InvalidRequest):
            self._relay.fleet.failed(self._replica, "refused")
        if isinstance(error, InvalidRequest) or self._exchange.stream_started:
            self._fail(error)
        else:
            self._retry_or(error)

    def _lost(self, reason: str) -> None:
        """The connection ended or made no sense."""
        exchange = self._exchange
        log.warning("replica %s of pool %s: %s", self._replica.address, self._replica.pool, reason)
        if reason == "closed" and self._reused and self._status == 0:
            # The other end may close an idle connection at any time: that is no fault, and nothing was answered.
            exchange.attempts -= 1
            self.start(fresh=True)
            return
        self._relay.fleet.failed(self._replica, reason)
        if reason == "timeout":
            self._fail(UpstreamTimeout("The engine did not answer in time."))
        elif exchange.stream_started:
            self._fail(UpstreamFailed("The engine failed while it was answering; the answer is incomplete."))
        else:
            self._retry_or(UpstreamFailed("The engine failed before it could answer."))

    def _retry_or(self, error: ApiError) -> None:
        if self._exchange.attempts >= MAX_SENDS:
            self._fail(error)
        else:
            self._relay.retries.add(1)
            self._place_again()

    def _place_again(self) -> None:
        self._end_attempt()
        self._exchange.usage = None
        self._relay.pipeline.again(self._exchange, Place.name)

    def _end_attempt(self, *, keep: bool = False) -> None:
        """Be done with the replica."""
        self._end(keep=keep)
        self._exchange.work = None
        self._relay.fleet.released(self._replica, self._exchange.predicted_tokens)

    def _estimate(self) -> Usage:
        """The usage as far as it can be told from what was passed on: one token an event."""
        if self._exchange.usage is not None:
            return self._exchange.usage
        reasoning = min(self._reasoning_events, self._events)
        return Usage(
            input=self._prompt_estimate(),
            reasoning=reasoning,
            answer=self._events - reasoning,
            estimated=True,
        )

    def _prompt_estimate(self) -> int:
        return max(1, len(self._exchange.body) // 4)
