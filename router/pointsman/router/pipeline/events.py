"""The events of one stream on their way from the engine to the client.

Stands beside `relay.py`, which has the request and its ends; here are the bytes between. An event that is text and
nothing more goes on as it came, and where it came as one chunk even its framing does. Events are looked at only
for the usage, for errors, for the end mark, and for the model's name where the client knows the model by
another one. They are passed on whole, so that a stream that breaks can always be ended by a well-formed event.
"""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from pointsman.contracts.errors import ApiError, UpstreamFailed
from pointsman.router.exchange import Exchange
from pointsman.router.http.chunks import SIZES
from pointsman.router.pipeline.assembly import Assembly, is_sound
from pointsman.router.pipeline.event_bytes import (
    REASONING,
    calls_tool,
    finish_reason,
    is_error,
    is_text,
    is_text_chunk,
    parsed,
    speaks,
)
from pointsman.router.pipeline.lines import end_of_event
from pointsman.router.pipeline.watch import Send, Watch
from pointsman.router.wire import engine_errors, openai
from pointsman.router.wire.tools import demands_call

_DONE = (b"data: [DONE]", b"data:[DONE]")
_KEEP_ALIVE = b":"
_TEXT_KEYS = (b'"content":"', REASONING, b'"text":"')
_QUOTE, _LF = b'"\n'
_WINDOW = 16 * 1024
"""Bytes of chunks that are searched at once for those in the known frame."""
_NEVER = 1 << 60
MOST_CHOICES = 16
"""Choices of one answer, of which each has an end."""
_LESSONS = 4
"""How often a stream's frame is learnt: thinking has one, the answer another; some have a new one each time."""


FIRST_LOOK, LOOK_EVERY = 512, 3072
"""Events before the first stretch of text that is looked at for repetition, and between two of them."""

STRETCH_EVENTS = 64
"""Events that are kept at a time while such a stretch is watched."""


class Stream(Protocol):
    """What the events belong to. One of the last five is called, once, and ends it."""

    def begin(self, first: bytes) -> None:
        """The `first` events are passed on: the client gets them with its head."""

    def complete(self) -> None:
        """The stream is complete: is it an answer?"""

    def repeats(self) -> None:
        """The output does nothing but repeat itself."""

    def fail(self, error: ApiError) -> None:
        """The stream can't go on; the engine is not to blame."""

    def refused(self, error: ApiError) -> None:
        """The engine reports `error`."""

    def lost(self, reason: str) -> None:
        """The engine sends what is no stream of events."""


class Events:
    """
    Passes on the events of the stream that answers `exchange`; none may be longer than `max_event` bytes.

    `holds`: nothing is passed on before the first word of the answer, and no chunks may be given as such. `count`
    events have been passed on or held, `reasoning` of them with reasoning. `spoke`: some of them are an answer.
    `last` are the chunks with finish reasons, where they have to wait for the
    verdict, and `finish` is the last reason.
    """

    __slots__ = (
        "_after",
        "_before",
        "_calls",
        "_demands",
        "_ended",
        "_exchange",
        "_framing",
        "_held",
        "_held_back",
        "_lessons",
        "_max_event",
        "_named",
        "_next_look",
        "_opening",
        "_prelude",
        "_reasons",
        "_renamed",
        "_send",
        "_send_chunks",
        "_start",
        "_stop",
        "_stream",
        "_watch",
        "count",
        "finish",
        "holds",
        "id",
        "last",
        "reasoning",
        "spoke",
    )

    def __init__(self, stream: Stream, exchange: Exchange, *, max_event: int, hold: bool = False) -> None:
        self._stream = stream
        self._exchange = exchange
        self._max_event = max_event
        self._named = b""  # the engine's name of the model, as it stands in its events; empty where it is ours
        self._renamed = b""
        self._before = self._after = b"\0"  # what stands around the text of a chunk; as yet what none has
        self._opening = b"\0"  # the end of the size line, and `_before`
        self._framing = 0  # bytes of a chunk besides its text
        self._start = self._stop = self._reasons = 0
        self._lessons = _LESSONS
        self._held = bytearray()  # of an event that has not arrived whole
        self._ended = False
        self._send: Send = exchange.client.send
        self._send_chunks: Send = exchange.client.send_chunks
        self.holds = hold
        self._prelude: list[bytes] = []
        self._held_back = 0
        self._watch: Watch | None = None
        self._next_look = FIRST_LOOK
        self.count = 0
        self.reasoning = 0
        self.spoke = False
        self._calls: Assembly | None = None  # what the events with tool calls say
        self._demands = exchange.toolbox is not None and demands_call(exchange.payload)
        self.finish = ""
        self.last: list[dict[str, Any]] = []
        self.id: str | None = None

    def on_chunk(self, framed: bytes, rest: bytes) -> bool:
        """
        Take one chunk of a stream of which an event has been passed on, or leave it (False) to `on_data`.

        `framed` is all of it, `rest` what follows its size line: as many bytes as that says, and two more.
        """
        if self._held:
            return False
        if rest.startswith(self._before) and rest.endswith(self._after):
            text = rest[self._start : self._stop]
            if _QUOTE not in text and _LF not in text:
                self.count = count = self.count + 1
                self.reasoning += self._reasons
                self._send_chunks(framed)
                if count >= self._next_look:
                    self._look_for_repetition()
                return True
        if not is_text_chunk(rest):
            return False
        if self._named and rest.count(self._named) != 1:
            return False
        self._counted(rest)
        if self._ended:
            return True
        if self._named:
            self._send(rest[:-2].replace(self._named, self._renamed))
        else:
            self._send_chunks(framed)
            if self._lessons:
                self._learn_frame(rest)
        if self.count >= self._next_look:
            self._look_for_repetition()
        return True

    def on_chunks(self, data: bytes, at: int) -> int:
        """
        Take the whole small chunks that `data` holds from `at` on, and return where the first one begins that needs
        a closer look: all before it are text in the frame that is known, and go on together as they came.
        """
        after, opening, framing = self._after, self._opening, self._framing
        if self._held or not data.startswith(opening, data.find(b"\r\n", at, at + 8)):
            return at
        end, count = at, 0
        while True:
            # So much at a time, since what is behind a chunk that needs a closer look is searched once more.
            pieces = data[end : end + _WINDOW].split(after)
            pieces.pop()
            for piece in pieces:
                line, _, text = piece.partition(opening)
                if SIZES.get(line) != len(text) + framing or _QUOTE in text or _LF in text:
                    break
                end += len(piece) + len(after)
                count += 1
            else:
                if pieces:
                    continue
            break
        if count:
            self.count += count
            self.reasoning += count * self._reasons
            self._send_chunks(data[at:end])
            if self.count >= self._next_look:
                self._look_for_repetition()
        return end

    def on_data(self, data: bytes) -> None:
        """A piece of the stream, cut anywhere: pass on what is whole, keep the rest."""
        look = 0
        held = self._held
        if held:
            look = max(0, len(held) - 2)  # the line end before an empty line may be there already
            held += data
            if end_of_event(held, look)[0] < 0:
                self._check_size()
                return
            data = bytes(held)
            held.clear()
        begin = at = 0  # of what goes on as it is, and of the event that is looked at
        while True:
            end, following = end_of_event(data, max(at, look))
            if end < 0:
                break
            event = data[at:end].strip(b"\r\n")
            if self.count and not self._named and not self.holds and is_text(event):
                self._counted(event)
                if self._ended:
                    return
            else:
                if begin < at:
                    self._send(data[begin:at])
                self._look_at(event)
                if self._ended:
                    return
                begin = following
            at = following
        if begin < at:
            self._send(data[begin:at])
        if at < len(data):
            held += data[at:]
            self._check_size()
        if self.count >= self._next_look and not self._ended:
            self._look_for_repetition()

    def _look_at(self, event: bytes) -> None:
        """One event that is more than text, or must be changed, or is the first."""
        if not event or event.startswith(_KEEP_ALIVE):
            return  # a comment is how some engines keep the connection warm
        if event in _DONE:
            if self.count:
                self.end()
            else:
                self.stop()
                self._stream.lost("garbage")
            return
        if self._named and not self.holds and event.count(self._named) == 1 and is_text(event):
            self._counted(event)
            if not self._ended:
                self._send(event.replace(self._named, self._renamed) + b"\n\n")
            return
        chunk = parsed(event)
        if chunk is None or not (self.count or isinstance(chunk.get("choices"), list) or is_error(chunk)):
            self.stop()
            self._stream.lost("garbage")
        elif is_error(chunk):
            self.stop()
            self._stream.refused(engine_errors.translate_event(chunk, endpoint=self._exchange.engine_endpoint))
        elif not self._take_usage(chunk):
            if not self.count:
                self.id = str(chunk.get("id"))
                self._learn_name(chunk, event)
            if self._named and isinstance(chunk.get("model"), str):
                assert self._exchange.model is not None
                chunk["model"] = self._exchange.model.name
                event = b"data: " + orjson.dumps(chunk)
            self._counted(event)
            if self._ended:
                return
            if self._calls is not None and is_sound(chunk.get("choices"), "delta"):
                self._calls.add({"choices": [{**choice, "delta": None} for choice in chunk["choices"]]})
            if (reason := finish_reason(chunk)) and self._must_wait(reason):
                self.last = [*self.last[-MOST_CHOICES:], chunk]
            else:
                self._pass(event)

    def _must_wait(self, reason: str) -> bool:
        """Whether a chunk that ends the answer for `reason` may be the end of something that is no answer."""
        self.finish = reason
        return not self.spoke or self._demands or self._calls is not None

    def called(self, *, cut: bool = False) -> dict[str, Any]:
        """The tool calls of the stream, and how each choice with any ended, as an answer. `cut`: here and now."""
        calls = self._calls
        if calls is None:
            finish = "length" if cut else self.finish
            return {"choices": [{"index": 0, "message": {}, "finish_reason": finish}] if self._demands else []}
        if cut:
            calls.add(self.last[-1])
        return calls.answer()

    def release(self, remarks: dict[str, Any]) -> None:
        """The answer stands: pass on what had to wait, with `remarks` on what happened to it."""
        last, self.last = self.last, []
        self.holds = False
        if remarks and last:
            last[-1] = {**last[-1], "pointsman": remarks}
        for chunk in last:
            self._pass(b"data: " + orjson.dumps(chunk))
        if not last:
            self._pass(b"")

    @property
    def answers(self) -> int:
        """Events passed on or held that held no reasoning."""
        return self.count - self.reasoning

    @property
    def finished(self) -> bool:
        """Whether the stream may end here, though no end mark has come: the engine has counted its tokens."""
        return self.count > 0 and self._exchange.usage is not None

    def end(self) -> None:
        """The stream is complete."""
        self.stop()
        self._stream.complete()

    def cut(self) -> None:
        """End the answer here, for its length."""
        self.finish = "length"
        assert self._exchange.model is not None
        self.last = [openai.finish_chunk(self.id, self._exchange.model.name, self._exchange.engine_endpoint)]

    def stop(self) -> None:
        """Take nothing more."""
        self._ended = True
        self._held += b"\0"  # so that no chunk is taken either

    def _look_for_repetition(self) -> None:
        """Begin to watch what is passed on, or end it and see whether it is repetition."""
        watch = self._watch
        if watch is None:
            if self._exchange.payload.get("n", 1) != 1:
                self._next_look = _NEVER
                return
            watch = self._watch = Watch(self._send, self._send_chunks)
        if not watch.on:
            watch.begin()
            self._send, self._send_chunks = watch.send, watch.send_chunks
            self._next_look = self.count + STRETCH_EVENTS
            return
        verdict = watch.look()
        if verdict is None:
            self._next_look = self.count + STRETCH_EVENTS  # more of the same has to be seen
        elif verdict:
            self.stop()
            self._stream.repeats()
        else:
            watch.on = False
            self._send, self._send_chunks = watch.to_client, watch.chunks_to_client
            self._next_look = self.count + LOOK_EVERY

    def _learn_frame(self, rest: bytes) -> None:
        """
        Keep what stands around the text of a chunk that is text.

        One that has other text there, and no quote in it, can hold no other key: it need not be searched for one.
        (Before and after may share one quote, where a chunk has nothing between them: still no key is added.)
        """
        for key in _TEXT_KEYS:
            at = rest.find(key)
            if at >= 0:
                start = at + len(key)
                stop = rest.index(b'"', start)
                if start == stop:
                    return  # it says nothing, and a frame is known by what was said in it
                self._lessons -= 1
                self._before, self._after = rest[:start], rest[stop:]
                self._opening = b"\r\n" + self._before
                self._framing = len(self._before) + len(self._after) - 2
                self._start, self._stop = start, stop - len(rest)
                self._reasons = int(REASONING in rest)
                return

    def _take_usage(self, chunk: dict[str, Any]) -> bool:
        """Keep the usage that `chunk` tells; True where it tells nothing else, and is ours to send."""
        usage = openai.usage_from(chunk.get("usage"))
        if usage is None:
            return False
        self._exchange.usage = usage
        if chunk.get("choices"):
            return False
        self._exchange.usage_chunk = chunk
        return True

    def _learn_name(self, chunk: dict[str, Any], event: bytes) -> None:
        """See whether the engine calls the model by another name than the client does."""
        assert self._exchange.model is not None
        name, ours = chunk.get("model"), self._exchange.model.name
        if isinstance(name, str) and name != ours:
            key = b'"model": ' if b'"model": ' in event else b'"model":'
            self._named = key + orjson.dumps(name)
            self._renamed = key + orjson.dumps(ours)

    def _pass(self, event: bytes) -> None:
        """Pass on `event`, or hold it as long as nothing of the answer has come."""
        if event:
            self._prelude.append(event + b"\n\n")
            if self.holds and not self.spoke:
                self._held_back += len(event)
                if self._held_back > self._max_event:
                    self.stop()
                    self._stream.fail(UpstreamFailed("The engine's answer does not begin."))
                return
        self.holds = False
        data = b"".join(self._prelude)
        self._prelude.clear()
        if self._exchange.stream_started:
            self._send(data)
        else:
            self._stream.begin(data)

    def _counted(self, event: bytes) -> None:
        self.count += 1
        if REASONING in event:
            self.reasoning += 1
        if not self.spoke:
            self.spoke = speaks(event)
        if calls_tool(event):
            self._keep_calls(event)

    def _keep_calls(self, event: bytes) -> None:
        """Note what an event says of tool calls: they are judged once they are whole."""
        chunk = parsed(event)
        if chunk is None or not is_sound(chunk.get("choices"), "delta"):
            self.stop()
            self._stream.lost("garbage")
            return
        if self._calls is None:
            self._calls = Assembly()
        self._calls.add(chunk)
        if self._calls.size > self._max_event:
            self.stop()
            self._stream.fail(UpstreamFailed("The engine's answer is too large."))

    def _check_size(self) -> None:
        if len(self._held) > self._max_event:
            self.stop()
            self._stream.fail(UpstreamFailed("The engine sent an event that is too large."))
