"""The events of a stream that has to be looked at one by one.

Stands beside `events.py`, which passes streams on as they came, and takes its place where that won't do: where the
router tells thinking from the answer, counts the thinking, goes on from an answer that was cut, puts a whole answer
together, or holds a stream back until it is known to stand. What is to happen then is decided in `relay.py`.
"""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from pointsman.contracts.errors import UpstreamFailed
from pointsman.contracts.modes import Mode
from pointsman.router.exchange import Exchange
from pointsman.router.pipeline.assembly import Assembly, is_sound
from pointsman.router.pipeline.event_bytes import is_error, parsed
from pointsman.router.pipeline.events import MOST_CHOICES, Stream
from pointsman.router.pipeline.lines import EventLines, EventTooLarge
from pointsman.router.pipeline.repetition import STRETCH, Repetition
from pointsman.router.pipeline.tool_calls import keep_first
from pointsman.router.wire import engine_errors, openai
from pointsman.router.wire.rewriting import MalformedOutput, StreamRewriter

_DONE = (b"data: [DONE]", b"data:[DONE]")
_KEEP_ALIVE = b":"


class Reader(Stream, Protocol):
    """What the events belong to, where they are looked at one by one."""

    def judged(self, judgement: Mode) -> None:
        """The model has judged by itself which mode is right."""

    def thought_enough(self) -> None:
        """The thinking has reached its budget."""


class Reworked:
    """
    Reads the stream that answers `exchange` into `assembly`, and passes it on while it does so, where it is `live`.

    `count` events were read, `reasoning` of them with thinking and `answers` with answer. `hold`: nothing is passed
    on before the first word of the answer. `alone`: of the tool calls only the first is taken. `thinking`: events
    of thinking after which there are to be no more.
    `continued`: the client has got what comes before. `spoke`: there is an answer. `events`: of a stream that is
    not live, what the client would get.
    """

    def __init__(
        self,
        stream: Reader,
        exchange: Exchange,
        *,
        assembly: Assembly,
        rewriter: StreamRewriter | None,
        live: bool,
        hold: bool,
        thinking: int | None,
        continued: bool,
        chunk_id: str | None,
        alone: bool,
        keeps_logprobs: bool,
        max_event: int,
    ) -> None:
        self._stream = stream
        self._exchange = exchange
        self._assembly = assembly
        self._rewriter = rewriter
        self._live = live
        self._hold = hold
        self._thinking = thinking
        self._continued = continued
        self._alone = alone
        self._keeps_logprobs = keeps_logprobs
        self._max_size = max_event
        self._lines = EventLines(max_event)
        self._ended = False
        self._repetition = None if exchange.payload.get("n", 1) != 1 else Repetition()
        self._stretch: list[str] = []
        self._stretched = 0
        self._last: list[dict[str, Any]] = []  # with the finish reasons: they wait for the verdict
        self._held: list[bytes] = []
        self._kept_bytes = 0
        self.id = chunk_id
        self.events: list[bytes] = []
        self.count = 0
        self.reasoning = 0
        self.answers = 0
        self.spoke = False

    def on_data(self, data: bytes) -> None:
        """A piece of the stream, cut anywhere."""
        try:
            events = self._lines.feed(data)
        except EventTooLarge:
            self._ended = True
            self._stream.fail(UpstreamFailed("The engine sent an event that is too large."))
            return
        try:
            for event in events:
                self._take(event)
                if self._ended:
                    return
        except MalformedOutput:
            self._ended = True
            self._stream.lost("garbage")

    def end(self) -> None:
        """The stream is complete."""
        self._ended = True
        try:
            if self._rewriter is not None:
                for piece in self._rewriter.finish():
                    self._pass(piece)
        except MalformedOutput:
            self._stream.lost("garbage")
            return
        self._stream.complete()

    @property
    def finished(self) -> bool:
        """Whether the stream may end here, though no end mark has come."""
        return bool(self._last) and self._exchange.usage is not None

    def cut(self) -> None:
        """End the answer here, for its length."""
        assert self._exchange.model is not None
        chunk = openai.finish_chunk(self.id, self._exchange.model.name, self._exchange.engine_endpoint)
        self._assembly.add(chunk)
        self._last.append(chunk)

    def release(self, remarks: dict[str, Any]) -> None:
        """The answer stands: pass on its end, with `remarks` on what happened to it."""
        for chunk in self._last[:-1]:
            self._give(chunk)
        for chunk in self._last[-1:]:
            self._give({**chunk, "pointsman": remarks} if remarks else chunk)
        self._last.clear()
        self._flush()

    @property
    def thought(self) -> int:
        """Tokens that were thought so far, as far as that can be told: one an event, or what the engine says."""
        usage = self._exchange.usage
        if usage is None or self.spoke:
            return self.reasoning
        return max(self.reasoning, usage.completion_tokens)

    def _take(self, event: bytes) -> None:
        if event.startswith(_KEEP_ALIVE):
            return
        if not self._live:
            self._kept_bytes += len(event)
        if event in _DONE:
            if self.count:
                self.end()
            else:
                self._ended = True
                self._stream.lost("garbage")
            return
        chunk = parsed(event)
        if chunk is None or not (self.count or isinstance(chunk.get("choices"), list) or is_error(chunk)):
            self._ended = True
            self._stream.lost("garbage")
            return
        if is_error(chunk):
            self._ended = True
            self._stream.refused(engine_errors.translate_event(chunk, endpoint=self._exchange.engine_endpoint))
            return
        usage = openai.usage_from(chunk.pop("usage", None))
        if usage is not None:
            self._exchange.usage = usage
        choices = chunk.get("choices")
        if choices:
            if not is_sound(choices, "delta"):
                raise MalformedOutput("choices")
            self._read(chunk)
        elif usage is not None:
            self._exchange.usage_chunk = chunk

    def _read(self, chunk: dict[str, Any]) -> None:
        exchange, rewriter = self._exchange, self._rewriter
        assert exchange.model is not None
        self.count += 1
        chunk["model"] = exchange.model.name
        if self.id is None:
            self.id = str(chunk.get("id"))
        chunk["id"] = self.id
        if rewriter is None:
            if speaks(chunk):
                self.answers += 1
            elif _has(chunk, "reasoning_content"):
                self.reasoning += 1
            self._pass(chunk)
        else:
            pieces = rewriter.feed(chunk)
            self.reasoning, self.answers = rewriter.reasoning, rewriter.answer
            if rewriter.judgement is not None and exchange.judgement is None:
                exchange.judgement = rewriter.judgement
                self._stream.judged(rewriter.judgement)
            for piece in pieces:
                if self._ended:
                    return
                self._pass(piece)
        if self._thinking is not None and not self.spoke and self.thought >= self._thinking and not self._ended:
            self.stop()
            self._stream.thought_enough()

    def stop(self) -> None:
        """Read nothing more."""
        self._ended = True

    def _pass(self, chunk: dict[str, Any]) -> None:
        """Take a chunk as the client may see it."""
        if self._alone:
            for choice in chunk["choices"]:
                keep_first(choice, "delta")
        self._assembly.add(chunk, logprobs=not self._live)  # they weigh more than all else
        for choice in chunk["choices"]:
            if not self._keeps_logprobs:
                choice["logprobs"] = None
            if self._continued and isinstance(choice.get("delta"), dict):
                choice["delta"].pop("role", None)
        if self._assembly.size + self._kept_bytes > self._max_size:
            self._ended = True
            self._stream.fail(UpstreamFailed("The engine's answer is too large."))
            return
        self.spoke = self.spoke or speaks(chunk)
        if any(choice.get("finish_reason") for choice in chunk["choices"]):
            self._last.append(chunk)
            if len(self._last) > 2 * MOST_CHOICES:
                raise MalformedOutput("choices[].finish_reason")
            return
        self._give(chunk)
        if self._repetition is not None and not self._ended and self._repeats(chunk):
            self._ended = True
            self._stream.repeats()

    def _give(self, chunk: dict[str, Any]) -> None:
        try:
            data = b"data: " + orjson.dumps(chunk) + b"\n\n"
        except orjson.JSONEncodeError:  # orjson reads four times as deep as it writes
            raise MalformedOutput("choices") from None
        if not self._live:
            if self._exchange.stream:
                self._kept_bytes += len(data)
                self.events.append(data)
        elif self._exchange.stream_started:
            self._exchange.client.send(data)
        else:
            self._kept_bytes += len(data)
            self._held.append(data)
            if self.spoke or not self._hold:
                self._flush()

    def _flush(self) -> None:
        if not self._live:
            return
        held = b"".join(self._held)
        self._held.clear()
        self._kept_bytes = 0
        if self._exchange.stream_started:
            self._exchange.client.send(held)
        else:
            self._stream.begin(held)

    def before_repetition(self) -> str:
        """The thinking without what repeated itself at its end."""
        assert self._repetition is not None
        thought = self._assembly.reasoning()
        return thought[: len(thought) - self._repetition.length]

    def _repeats(self, chunk: dict[str, Any]) -> bool:
        assert self._repetition is not None
        for choice in chunk["choices"]:
            delta = choice.get("delta")
            if isinstance(delta, dict):
                text = delta.get("content") or delta.get("reasoning_content")
                if isinstance(text, str):
                    self._stretch.append(text)
                    self._stretched += len(text)
        if self._stretched < STRETCH:
            return False
        stretch = "".join(self._stretch)
        self._stretch.clear()
        self._stretched = 0
        return self._repetition.look(stretch) is True


def speaks(chunk: dict[str, Any]) -> bool:
    """Whether a chunk holds any of the answer: text, a refusal or a part of a tool call."""
    return _has(chunk, "content") or _has(chunk, "tool_calls") or _has(chunk, "refusal")


def _has(chunk: dict[str, Any], field: str) -> bool:
    for choice in chunk["choices"]:
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict) and delta.get(field):
            return True
    return False
