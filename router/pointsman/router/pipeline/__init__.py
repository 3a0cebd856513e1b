"""The life of a request: an ordered list of steps, and the loop that takes an exchange through them.

The loop knows no step. A step is a callable with a name that takes the exchange, fills its own part of it and
returns `NEXT`, or `WAIT` where it will call `resume` (or `again`) itself once something has happened; a
refusal is raised as `ApiError`. Whatever happens, the last step runs exactly once, because it accounts for the
request, and only then does the client get the end of its answer.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from time import perf_counter
from typing import Protocol

from pointsman.contracts.errors import ApiError, InternalError
from pointsman.router.exchange import Exchange
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline.delivery import fall_back
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.wire import openai

log = logging.getLogger(__name__)

WAIT = Outcome.WAIT


class Step(Protocol):
    """One step of the pipeline."""

    @property
    def name(self) -> str:
        """A word; labels the step's time."""

    def __call__(self, exchange: Exchange) -> Outcome:
        """Do the step's work on `exchange`."""


class Pipeline:
    """Runs exchanges through `steps`, in order, timing each."""

    def __init__(self, steps: Sequence[Step], metrics: Metrics) -> None:
        self._steps = tuple(steps)
        self._last = len(self._steps) - 1
        self._timers = [metrics.step_time(step.name) for step in steps]
        self._index = {step.name: index for index, step in enumerate(steps)}

    def start(self, exchange: Exchange) -> None:
        """Run `exchange` from the first step until one waits, or to its end."""
        self._advance(exchange)

    def resume(self, exchange: Exchange) -> None:
        """The step that waited is done: go on with the one after it."""
        exchange.position += 1
        self._advance(exchange)

    def again(self, exchange: Exchange, name: str) -> None:
        """Go back to the step called `name` and go on from there."""
        exchange.position = self._index[name]
        self._advance(exchange)

    def answered(self, exchange: Exchange) -> None:
        """The step that runs or waited has found the answer: only the last step is left."""
        exchange.position = self._last
        self._advance(exchange)

    def refuse(self, exchange: Exchange, error: ApiError) -> None:
        """End `exchange` with `error`, or with an answer that was kept for this case, by way of the last step."""
        _fail(exchange, error)
        exchange.position = self._last
        self._advance(exchange)

    def abandon(self, exchange: Exchange) -> None:
        """
        The client has gone: stop what runs for it and account for it. Harmless once it has ended.

        What others wait for too goes on, and is accounted for when it ends.
        """
        if exchange.position > self._last:
            return
        exchange.abandoned = True
        if exchange.flight is not None and exchange.flight.outlives(exchange):
            return
        work, exchange.work = exchange.work, None
        if work is not None:
            work.abort()
        exchange.position = self._last
        self._advance(exchange)

    def _advance(self, exchange: Exchange) -> None:
        steps, timers, last = self._steps, self._timers, self._last
        position = exchange.position
        began = perf_counter()
        while position <= last:
            following = position + 1
            try:
                outcome = steps[position](exchange)
            except ApiError as error:
                if position == last:
                    raise AssertionError("the last step refuses nothing") from error
                _fail(exchange, error)
                outcome, following = Outcome.NEXT, last
            except Exception as error:
                # Only the kind of the failure is logged: its text may quote the request.
                frames = "".join(traceback.format_tb(error.__traceback__))
                log.error("step %s failed: %s\n%s", steps[position].name, type(error).__name__, frames)
                exchange.error = InternalError("Pointsman failed to handle this request.")
                outcome, following = Outcome.NEXT, max(last, following)
            now = perf_counter()
            timers[position].add(now - began)
            if outcome is WAIT:
                return
            began = now
            position = exchange.position = following
        if not exchange.abandoned:
            _finish(exchange)
        if exchange.flight is not None:
            exchange.flight.ended(exchange)


def _fail(exchange: Exchange, error: ApiError) -> None:
    if not fall_back(exchange):
        exchange.error = error


def _finish(exchange: Exchange) -> None:
    """Write the end of the answer: what the client waits for, now that the request is accounted for."""
    if exchange.face is not None:
        exchange.face.finish(exchange)
        return
    error = exchange.error
    if exchange.stream_started:
        exchange.client.end_stream(openai.stream_tail(exchange) if error is None else openai.error_event(error))
        return
    answer = exchange.answer if error is None else openai.error_answer(error)
    assert answer is not None
    exchange.client.respond(answer.status, openai.response_headers(exchange) + answer.headers, answer.body)
