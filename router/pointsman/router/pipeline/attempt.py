"""One sending of a request to a replica, and each way in which it can fail.

Stands below `relay.py`, which says what is asked and what becomes of the answer. Before the first byte a failed
replica costs the client nothing but time: the request goes back to `place`, at most once after it was really sent.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from time import perf_counter
from typing import TYPE_CHECKING

import orjson

from pointsman.contracts.errors import ApiError, InvalidRequest, UpstreamFailed, UpstreamTimeout
from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Endpoint, Exchange, Headers
from pointsman.router.http.call import Call
from pointsman.router.http.upstream import UpstreamConnection
from pointsman.router.pipeline.events import Events
from pointsman.router.pipeline.limits import context_of, prompts_and_choices
from pointsman.router.pipeline.place import Place
from pointsman.router.pipeline.reworked import Reworked
from pointsman.router.wire import engine_errors
from pointsman.router.wire.upstream_request import Ask, upstream_request

if TYPE_CHECKING:
    from pointsman.router.pipeline.relay import Relay

log = logging.getLogger(__name__)

_COUNT_TOKENS = Endpoint.COUNT_TOKENS  # which costs nothing

MAX_SENDS = 2
"""How often one request is sent to replicas at most: a request that kills engines must not kill them all."""

STALE = 1.0
"""
Seconds within which the end of a connection that was used before means that the other end had closed it already;
later, the request was being worked on.
"""

MAX_ERROR_BODY = 64 * 1024
"""Bytes of an engine's error that are read."""


class Attempt(Call):
    """
    `exchange.Work` towards the client, `Receiver` towards the engine. A subclass makes the `_ask`, reads streams by
    `_read_stream`, and takes whole answers in `_on_answer`.
    """

    __slots__ = ("_ask", "_body", "_events", "_exchange", "_pool", "_relay", "_replica", "_sent", "_status")

    _ask: Ask

    def __init__(self, relay: Relay, exchange: Exchange) -> None:
        pool, replica = exchange.pool, exchange.replica
        assert pool is not None
        assert replica is not None
        super().__init__(replica.site, connect_timeout=pool.connect_timeout)
        self._relay = relay
        self._exchange = exchange
        self._pool = pool
        self._replica = replica
        self._status = 0
        self._sent = 0.0
        self._events: Events | Reworked | None = None
        self._body: bytes | bytearray = b""

    @abstractmethod
    def _read_stream(self) -> Events | Reworked:
        """What reads the stream that has begun."""

    @abstractmethod
    def _on_answer(self, body: bytes | bytearray) -> None:
        """A whole answer has come."""

    @abstractmethod
    def _divided(self, usage: Usage) -> Usage:
        """`usage` with its output divided between thinking and answer, where the engine does not do so."""

    # -- exchange.Work

    def abort(self) -> None:
        """
        The client has gone: drop the connection, which stops the engine's work, and bill what is known of it.

        That is what was seen of the answer; where nothing was, the prompt that the engine had been given.
        """
        if self._ended:
            return
        given = self._sent > 0.0 and self._status in (0, 200)
        if self._begun:
            self._exchange.usage = self._divided(self._seen())
        elif given and self._exchange.endpoint is not _COUNT_TOKENS:
            self._exchange.usage = self._estimated(0, 0)
        self._end_attempt()

    # -- Receiver

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status
        if status == 200 and self._ask.stream:
            if not headers.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
                self.lost("garbage")
                return
            self._events = self._read_stream()

    def on_data(self, data: bytes) -> None:
        if self._ended:
            return
        events = self._events
        if events is not None:
            events.on_data(data)
            if type(events) is Events and events.count and not events.holds and self._connection is not None:
                self._connection.take_chunks(events)
            return
        if not self._body:
            self._body = data
        elif self._status != 200 and len(self._body) > MAX_ERROR_BODY:
            return
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)  # a list of tiny pieces would weigh twenty times their bytes
            self._body += data
        if len(self._body) > self._relay.max_response_bytes and self._status == 200:
            self.fail(UpstreamFailed("The engine's answer is too large."))

    def on_complete(self) -> None:
        if self._ended:
            return
        events = self._events
        if self._status != 200:
            error = engine_errors.translate(
                self._status, bytes(self._body), endpoint=self._exchange.engine_endpoint
            )
            self._refused(error, fault=self._status >= 500)
        elif events is None:
            try:
                self._on_answer(self._body)
            except orjson.JSONEncodeError:  # orjson reads four times as deep as it writes
                if self._ended:
                    raise
                self.lost("garbage")
        elif events.finished:
            events.end()
        else:
            self.lost("garbage")

    def on_lost(self, reason: str) -> None:
        if not self._ended:
            self.lost(reason)

    # -- Call

    def _unreachable(self) -> None:
        self._relay.fleet.failed(self._replica, "connect")
        self._place_again()

    def _end(self, *, keep: bool = False) -> None:
        super()._end(keep=keep)
        # They refer back here: a circle would keep the whole request until the collector comes by, and bring it on.
        self._events = None

    def _send(self, connection: UpstreamConnection) -> None:
        exchange, pool = self._exchange, self._pool
        exchange.attempts += 1
        self._sent = perf_counter()
        exchange.place_deadline = 0.0  # should this replica fail, the request is held anew
        try:
            request = upstream_request(exchange, self._replica, self._ask, secret=self._relay.fleet.secret)
        except orjson.JSONEncodeError:
            self.fail(InvalidRequest("The request is nested too deeply.", code="invalid_json"))
            return
        connection.send(
            request,
            self,
            first_byte_timeout=pool.first_byte_timeout if self._ask.stream else pool.answer_timeout,
            idle_timeout=pool.idle_timeout,
        )

    # -- failures: part of `events.Stream`

    def fail(self, error: ApiError) -> None:
        """End the exchange with `error`; what has come is billed."""
        if self._begun:
            self._exchange.usage = self._divided(self._seen())
        self._end_attempt()
        self._relay.pipeline.refuse(self._exchange, error)

    def refused(self, error: ApiError) -> None:
        self._refused(error, fault=error.status >= 500)

    def lost(self, reason: str) -> None:
        """The connection ended or made no sense."""
        if reason == "closed" and self._was_stale():
            # The other end may close an idle connection at any time: that is no fault, and nothing was answered.
            self.start(fresh=True)
            return
        log.warning("replica %s of pool %s: %s", self._replica.address, self._replica.pool, reason)
        self._relay.fleet.failed(self._replica, reason)
        if reason == "timeout":
            self.fail(UpstreamTimeout("The engine did not answer in time."))
        elif self._shown:
            self.fail(UpstreamFailed("The engine failed while it was answering; the answer is incomplete."))
        else:
            self._retry_or(UpstreamFailed("The engine failed before it could answer."))

    # -- ends

    @property
    def _begun(self) -> bool:
        """Whether a stream has begun to come."""
        return self._events is not None and self._events.count > 0

    @property
    def _shown(self) -> bool:
        """Whether what has come can't be taken back: a second try would say it once more."""
        course = self._exchange.course
        goes_on = course is not None and (course.closed or course.resort)
        return self._begun and (self._exchange.stream_started or goes_on)

    @property
    def _sends(self) -> int:
        """How often this part of the work was sent to a replica."""
        course = self._exchange.course
        return self._exchange.attempts - (0 if course is None else course.sends)

    def _was_stale(self) -> bool:
        return (
            self._reused and self._status == 0 and self._sends < MAX_SENDS and perf_counter() - self._sent < STALE
        )

    def _refused(self, error: ApiError, *, fault: bool) -> None:
        """The engine answered with an error of its own; `fault` where it says that it is to blame."""
        if error.status >= 500:
            log.warning("replica %s of pool %s: status %d", self._replica.address, self._replica.pool, self._status)
        if fault:
            self._relay.fleet.failed(self._replica, "refused")
        if error.status < 500 or self._shown or isinstance(error, UpstreamTimeout):
            self.fail(error)
        else:
            self._retry_or(error)

    def _retry_or(self, error: ApiError) -> None:
        if self._sends >= MAX_SENDS:
            self.fail(error)
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
        exchange = self._exchange
        exchange.work = None
        self._relay.fleet.released(self._replica, exchange.predicted_tokens)

    def _seen(self) -> Usage:
        """The usage so far: what the engine has told, or one token an event."""
        if self._exchange.usage is not None:
            return self._exchange.usage
        events = self._events
        reasoning, answer = (events.reasoning, events.answers) if events is not None else (0, 0)
        return self._estimated(reasoning, answer)

    def _estimated(self, reasoning: int, answer: int) -> Usage:
        """Usage that the engine has not told: never more than was asked for, since no more was set aside."""
        prompts, choices = prompts_and_choices(self._exchange)
        most = self._ask.max_tokens * prompts * choices
        prompt, context = max(1, len(self._exchange.body) // 4), context_of(self._pool)
        if context is not None:
            prompt = min(prompt, context * prompts)
        reasoning = min(reasoning, most)
        return Usage(input=prompt, reasoning=reasoning, answer=min(answer, most - reasoning), estimated=True)
