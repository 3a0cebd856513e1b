"""Fetch the answer from the chosen replica, see that it is one, and pass it on.

Stands after `place`. What is asked is worked out in `plans.py`; what a stream consists of is the business of
`events.py` and `reworked.py`, what an answer lacks that of `judging.py`, and how a sending fails that of
`attempt.py`; here is what is done where the answer does not do: thinking is closed so that there is one, or the
question is asked once more, with thinking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from pointsman.contracts.errors import EmptyAnswer
from pointsman.contracts.modes import Mode, thinking_allowance
from pointsman.contracts.names import Metric
from pointsman.contracts.policies import Trigger
from pointsman.contracts.pricing import Usage
from pointsman.router import families
from pointsman.router.exchange import Endpoint, Exchange, Leg
from pointsman.router.fleet import Fleet
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline import delivery, judging, tool_calls
from pointsman.router.pipeline.assembly import Assembly, is_sound
from pointsman.router.pipeline.attempt import Attempt
from pointsman.router.pipeline.course import Kept, course_of
from pointsman.router.pipeline.events import Events
from pointsman.router.pipeline.limits import FLOOR
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.place import Place
from pointsman.router.pipeline.plans import Plans
from pointsman.router.pipeline.reworked import Reworked
from pointsman.router.pipeline.tool_calls import Fault, ToolAnswers
from pointsman.router.wire import openai, rewriting
from pointsman.router.wire.upstream_request import is_constrained

if TYPE_CHECKING:
    from pointsman.router.pipeline import Pipeline

_CHAT, _COUNT_TOKENS = Endpoint.CHAT, Endpoint.COUNT_TOKENS
_THINK, _NO_THINK = Mode.THINK, Mode.NO_THINK
_REPETITION = "repetition"


class Relay:
    """Fills `usage`, and `answer` or the stream. `pipeline` is set once the pipeline exists."""

    name = "relay"
    pipeline: Pipeline

    def __init__(self, fleet: Fleet, metrics: Metrics, *, max_response_bytes: int) -> None:
        self.fleet = fleet
        self.retries = metrics.counter(Metric.RETRIES, {})
        self.max_response_bytes = max_response_bytes
        self.plans = Plans()
        self.tool_answers = ToolAnswers(metrics)

    def __call__(self, exchange: Exchange) -> Outcome:
        exchange.work = relaying = Relaying(self, exchange)
        # A second try must not be spent on a connection that the engine may have closed meanwhile.
        relaying.start(fresh=relaying._sends > 0)
        if exchange.paused and exchange.work is relaying:
            exchange.pace()  # the client was told so once, while something else was at work for it
        return Outcome.WAIT


class Relaying(Attempt):
    """One attempt to get an answer, or to go on with one."""

    __slots__ = ("_assembly", "_plan")

    def __init__(self, relay: Relay, exchange: Exchange) -> None:
        super().__init__(relay, exchange)
        self._plan = plan = relay.plans.of(exchange, self._pool)
        self._ask = plan.ask
        if exchange.toolbox is not None:
            relay.tool_answers.asked(self._pool, plan.mode)
        course = exchange.course
        self._assembly: Assembly | None = course.assembly if course is not None and plan.continued else None

    # -- Attempt

    @property
    def _may_wait(self) -> bool:
        """Whether the client gets nothing before the whole answer is known."""
        return self._plan.holds or not self._exchange.stream

    def _read_stream(self) -> Events | Reworked:
        exchange, plan, most = self._exchange, self._plan, self._relay.max_response_bytes
        waits = bool(plan.triggers)
        if plan.verbatim:
            return Events(self, exchange, max_event=most, hold=waits)
        if self._assembly is None:
            self._assembly = Assembly()
        rewriter = None
        if plan.limits.rewritten or plan.continued:
            rewriter = rewriting.StreamRewriter(
                self._pool,
                plan.mode,
                forced=plan.ask.forced,
                constrained=is_constrained(exchange),
                continued=plan.ask.continuation is not None,
            )
        course = exchange.course
        return Reworked(
            self,
            exchange,
            assembly=self._assembly,
            rewriter=rewriter,
            live=not self._may_wait,
            hold=waits,
            thinking=plan.limits.thinking if plan.counted else None,
            continued=plan.continued,
            chunk_id=None if course is None else course.id,
            alone=plan.alone,
            keeps_logprobs=not plan.ask.logprobs or bool(exchange.payload.get("logprobs")),
            max_event=most,
        )

    def _on_answer(self, body: bytes | bytearray) -> None:
        exchange, plan = self._exchange, self._plan
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if exchange.endpoint is _COUNT_TOKENS:
            self._deliver_count(answer)
            return
        if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
            self.lost("garbage")
            return
        usage = openai.usage_from(answer.get("usage"))
        if usage is None:
            usage = self._estimated(0, max(1, len(body) // 4))
        if exchange.engine_endpoint is not _CHAT:
            exchange.usage = usage
            self._deliver(answer)
            return
        plain = judging.is_plain(answer)
        if not plain and not is_sound(answer["choices"], "message"):
            self.lost("garbage")
            return
        if plan.alone:
            for choice in answer["choices"]:
                tool_calls.keep_first(choice, "message")
        if plan.limits.rewritten:
            try:
                told = rewriting.rewrite_answer(
                    answer,
                    self._pool,
                    plan.mode,
                    forced=plan.ask.forced,
                    constrained=is_constrained(exchange),
                )
            except rewriting.MalformedOutput:
                self.lost("garbage")
                return
            usage = rewriting.split_output(usage, told.reasoning, told.answer)
            if told.judgement is not None:
                exchange.judgement = told.judgement
                course_of(exchange)
        exchange.usage = usage
        if plain and plan.unseen and (not plan.triggers or "response_format" not in exchange.payload):
            self._deliver(answer)
            return
        if judging.runs_on(answer):
            exchange.stopped = _REPETITION
            course_of(exchange)
        self._weigh(answer)

    # -- a stream: `reworked.Reader`

    def begin(self, first: bytes) -> None:
        self._relay.fleet.succeeded(self._replica)
        delivery.start_stream(self._exchange, first)
        self._replica.tally.began(self._exchange.first_byte_at - self._sent)

    def complete(self) -> None:
        if self._ended:
            return  # by what was still held back
        exchange, events = self._exchange, self._events
        assert events is not None
        if isinstance(events, Reworked):
            assert self._assembly is not None
            if exchange.usage is None:
                exchange.usage = self._seen()
            exchange.usage = self._divided(exchange.usage)
            self._weigh(self._assembly.answer())
            return
        if exchange.engine_endpoint is not _CHAT:
            self._deliver()
            return
        fault = self._fault_in(events.called()) if events.spoke else None
        if events.spoke and fault is None:
            self._deliver()
            return
        wanted = Trigger.EMPTY if fault is None else Trigger.TOOL_CALL
        if wanted in self._plan.triggers and not exchange.stream_started:
            self._escalate(wanted, None)
        elif fault is not None:
            self.fail(tool_calls.error_of(fault))
        elif self._plan.limits.max_tokens >= FLOOR:
            self._fill()
        else:
            self._deliver()

    def judged(self, judgement: Mode) -> None:
        course_of(self._exchange)
        if judgement is _THINK and Trigger.JUDGE in self._plan.triggers and not self._exchange.stream_started:
            assert self._events is not None
            self._events.stop()
            self._escalate(Trigger.JUDGE, None, keep=False)

    def thought_enough(self) -> None:
        limits = self._plan.limits
        assert limits.thinking is not None
        starved = limits.thinking == thinking_allowance(limits.max_tokens, limits.max_tokens)
        if not self._close_thinking(starved=starved, keep=False):
            self.fail(_empty_answer())

    def repeats(self) -> None:
        exchange, events = self._exchange, self._events
        assert events is not None
        exchange.stopped = _REPETITION
        course = course_of(exchange)
        if not events.spoke and exchange.engine_endpoint is _CHAT and self._plan.limits.max_tokens >= FLOOR:
            course.thought = events.before_repetition() if isinstance(events, Reworked) else ""
            if not self._close_thinking(starved=True, keep=False):
                self.fail(_empty_answer())
            return
        exchange.usage = self._divided(self._seen())
        events.cut()
        if self._assembly is not None:
            self._weigh(self._assembly.answer(), keep=False)
        elif isinstance(events, Events) and (fault := self._fault_in(events.called(cut=True))) is not None:
            self.fail(tool_calls.error_of(fault))
        else:
            self._deliver(keep=False)

    # -- what becomes of it

    def _weigh(self, answer: dict[str, Any], *, keep: bool = True) -> None:
        """Deliver `answer`, unless it is none, or worth a second try."""
        exchange = self._exchange
        empty = judging.is_empty(answer)
        fault = self._fault_in(answer, empty=empty)
        if self._plan.triggers and not exchange.stream_started:
            trigger = judging.trigger_of(exchange, answer, self._plan.triggers, exchange.judgement, fault)
            if trigger is not None:
                self._escalate(trigger, None if empty or fault is not None else answer, keep=keep)
                return
        if empty and self._plan.limits.max_tokens >= FLOOR:
            self._fill(answer, keep=keep)
        elif fault is not None:
            self.fail(tool_calls.error_of(fault))
        else:
            self._deliver(answer, keep=keep)

    def _fault_in(self, answer: dict[str, Any], *, empty: bool = False) -> Fault | None:
        """What is wrong with the tool calls of `answer`; counted, unless the answer is `empty` and has none."""
        exchange = self._exchange
        fault = tool_calls.fault_of(exchange, answer)
        if not empty and (fault is not None or tool_calls.calls_in(answer)):
            self._relay.tool_answers.judged(self._pool, self._plan.mode, fault)
        return fault

    def _fill(self, answer: dict[str, Any] | None = None, *, keep: bool = True) -> None:
        """There was no answer: go on to one, or end with an error."""
        if answer is not None and self._assembly is None and self._plan.single and answer["choices"]:
            self._assembly = Assembly()
            choice = answer["choices"][0]
            if isinstance(choice, dict) and isinstance(choice.get("message"), dict):
                self._assembly.add({**answer, "choices": [{"index": 0, "delta": choice["message"]}]})
        if not self._close_thinking(starved=True, keep=keep):
            self.fail(_empty_answer())

    def _close_thinking(self, *, starved: bool, keep: bool) -> bool:
        """
        Go on at the same replica with the thinking closed, or else without thinking, within what is left of the
        output; False where neither can be done. `starved`: else there would be no answer.
        """
        exchange, pool = self._exchange, self._pool
        usage = self._divided(self._seen())
        course = course_of(exchange)
        left = self._plan.limits.max_tokens - course.spent - usage.completion_tokens
        if self._plan.mode is not _THINK or self._plan.continued or not self._plan.single or left <= 0:
            return False
        closes = families.closing(pool, "") is not None
        if not closes and _NO_THINK not in pool.modes:
            return False
        self._relay.fleet.succeeded(self._replica)
        exchange.legs = (*exchange.legs, Leg(pool, self._plan.mode, usage))
        exchange.usage = exchange.usage_chunk = None
        exchange.floored = exchange.floored or starved
        course.spent += usage.completion_tokens
        course.closed, course.resort = closes, not closes
        course.assembly = self._assembly or Assembly()
        course.id = None if self._events is None else self._events.id
        course.sends = exchange.attempts
        exchange.place_deadline = 0.0
        self._end(keep=keep)
        self._relay(exchange)  # the place at the replica is kept
        return True

    def _escalate(self, trigger: Trigger, answer: dict[str, Any] | None, *, keep: bool = True) -> None:
        """Throw the answer away and ask once more, with thinking; `answer`, if any, is kept in case that fails."""
        exchange, decision, events = self._exchange, self._exchange.decision, self._events
        assert decision is not None
        self._relay.fleet.succeeded(self._replica)
        course = course_of(exchange)
        leg = Leg(self._pool, self._plan.mode, self._divided(self._seen()))
        if answer is not None:
            self._strip(answer)
            data = b""
            if isinstance(events, Reworked) and exchange.stream:
                events.release({})
                data = b"".join(events.events)
            course.kept = Kept(answer, data, leg, decision)
        exchange.legs = (*exchange.legs, leg)
        exchange.usage = exchange.usage_chunk = None
        exchange.escalated = trigger
        exchange.decision = decision._replace(mode=_THINK)
        exchange.stopped = ""
        course.sends = exchange.attempts
        exchange.place_deadline = 0.0
        self._end_attempt(keep=keep)
        exchange.replica = None
        self._relay.pipeline.again(exchange, Place.name)

    def _deliver(self, answer: dict[str, Any] | None = None, *, keep: bool = True) -> None:
        """The answer stands."""
        exchange, events = self._exchange, self._events
        if exchange.usage is None:
            exchange.usage = self._seen()
        if events is not None and exchange.stream:
            events.release({} if exchange.course is None else openai.remarks(exchange))
            if isinstance(events, Reworked) and self._plan.holds:
                self.begin(b"".join(events.events))
        else:
            assert answer is not None
            self._strip(answer)
            self._relay.fleet.succeeded(self._replica)
            delivery.whole(exchange, answer)
        self._end_attempt(keep=keep)
        self._relay.pipeline.resume(exchange)

    def _deliver_count(self, answer: Any) -> None:
        """The engine has counted the prompt's tokens, which costs nothing."""
        count = answer.get("count") if isinstance(answer, dict) else None
        if type(count) is not int:
            self.lost("garbage")
            return
        self._relay.fleet.succeeded(self._replica)
        delivery.count(self._exchange, count)
        self._end_attempt(keep=True)
        self._relay.pipeline.resume(self._exchange)

    def _strip(self, answer: dict[str, Any]) -> None:
        """Take out the log-probabilities that were asked for here alone."""
        if self._ask.logprobs and not self._exchange.payload.get("logprobs"):
            for choice in answer["choices"]:
                if isinstance(choice, dict):
                    choice["logprobs"] = None

    def _divided(self, usage: Usage) -> Usage:
        """`usage` with its output divided between thinking and answer, where the engine does not do so."""
        if self._ask.continuation is not None:
            return usage._replace(reasoning=0, answer=usage.completion_tokens)
        events = self._events
        if isinstance(events, Reworked) and self._plan.limits.rewritten:
            return rewriting.split_output(usage, events.reasoning, events.answers)
        return usage


def _empty_answer() -> EmptyAnswer:
    return EmptyAnswer("The model gave no answer within its output tokens.", param="max_tokens")
