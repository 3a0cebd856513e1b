"""A client of another wire format: what it asks for read as a chat, the answer to a chat written as it expects it.

Stands between the pipeline and the connection, for those formats alone that no engine speaks; each has a subclass.
The steps see a chat on either side, so that none of them knows of other formats, and the response cache keeps what
any of them may be given. An answer is translated as it passes: whole, or event by event. Most events are text in a
frame that is known from the one before, and of these the text alone is looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import Any

import orjson

from pointsman.contracts.errors import ApiError, InvalidRequest, UpstreamFailed
from pointsman.router.exchange import Answer, Client, Exchange
from pointsman.router.http.wire import header_lines, unframed
from pointsman.router.wire import openai, openai_request
from pointsman.router.wire.logprobs import AnswersTokens

_JSON = header_lines([("content-type", "application/json")])
_QUOTE = b'"'
_NEVER = b"\0"
"""What no event begins with."""
_EVENT_END = b"\n\n\r\n"
_END = len(_EVENT_END)
"""The end of a chunk that is one event, with the chunk's own line end."""
_LONGEST_SIZE = 10
"""Bytes of the line before a chunk that says how large it is, at most, in those that are looked at at once."""

_NO_ANSWER = UpstreamFailed("The engine's answer is not of a form in which it could be passed on.")


class Kind(Enum):
    """What a piece of text in an answer is."""

    ANSWER = "content"
    THINKING = "reasoning_content"
    REFUSAL = "refusal"


_KINDS = tuple((kind, kind.value) for kind in Kind)
_KEYS = {kind: tuple(f'"{kind.value}":{space}"'.encode() for space in ("", " ")) for kind in Kind}


class Face(ABC):
    """
    `exchange.Face` towards the pipeline's ends, `exchange.Client` towards the steps between.

    A subclass reads requests (`translated`) and writes answers: whole ones (`whole`), and streams by `opening`,
    `said`, `more`, `called` and `closing`. Texts that these get are JSON-escaped bytes, as an event holds them.

    `finish_reason` is the chat's; `matched_stop` what the engine says ended the output, where it says so.
    `places` are the caller's names for the places of the chat's messages, by their index. `tokens` gets those of
    the output, with their log-probabilities, before their text is told; None where the caller wants none.
    """

    renamed: Mapping[str, str] = {}
    """Fields of the chat that the caller knows by another name."""
    inner: Mapping[str, str] = {}
    """What stands behind such a field, or a message's place, in the chat, and how the caller names that."""

    __slots__ = (
        "_after",
        "_before",
        "_client",
        "_framed_after",
        "_start",
        "_stop",
        "finish_reason",
        "id",
        "matched_stop",
        "model",
        "peer",
        "places",
        "tokens",
    )

    def __init__(self, client: Client) -> None:
        self._client = client
        self.peer = client.peer
        self.tokens: AnswersTokens | None = None
        self._before = self._after = self._framed_after = _NEVER
        self._start = self._stop = 0
        self.finish_reason: str | None = None
        self.matched_stop: object = None
        self.places: list[str] = []
        self.model = ""
        self.id = ""

    # -- what a format is

    @abstractmethod
    def translated(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        """
        The chat that `body` asks for, and nothing in it that a chat may not hold but by the caller's own fault.

        Fills `places`. Raises `InvalidRequest` in the caller's words. What a chat is checked for need not
        be checked.
        """

    @abstractmethod
    def whole(self, exchange: Exchange, answer: dict[str, Any]) -> dict[str, Any]:
        """The whole `answer` to a chat as the caller expects it."""

    @abstractmethod
    def opening(self) -> bytes:
        """The events that a stream begins with."""

    @abstractmethod
    def said(self, kind: Kind, text: bytes) -> bytes:
        """The events that tell a first or a further `text` of a `kind`."""

    @abstractmethod
    def more(self, text: bytes) -> bytes:
        """The event that tells more `text` of the kind that was said last; nothing else was told since."""

    @abstractmethod
    def called(self, index: int, call: dict[str, Any]) -> bytes:
        """The events that tell a piece of the tool call number `index`, as the delta of a chat holds it."""

    @abstractmethod
    def closing(self, exchange: Exchange) -> bytes:
        """The events that a stream ends with."""

    @classmethod
    @abstractmethod
    def error_answer(cls, error: ApiError, request_id: str = "") -> Answer:
        """`error` as a whole answer."""

    @abstractmethod
    def error_event(self, error: ApiError, exchange: Exchange) -> bytes:
        """`error` as the last events of a stream that has already begun."""

    def head(self, exchange: Exchange) -> bytes:
        """Header lines of the caller's format, beside those that every answer has."""
        return b""

    # -- exchange.Face

    def read(self, exchange: Exchange) -> str:
        payload = self.translated(openai_request.json_object(exchange.body), exchange)
        try:
            return openai_request.take(exchange, payload)
        except InvalidRequest as error:
            raise _about(error, None if error.param is None else self.field(error.param)) from None

    def understood(self, exchange: Exchange) -> None:
        assert exchange.model is not None
        self.model, self.id = exchange.model.name, exchange.rid
        if exchange.signals:
            exchange.signals = tuple(signal._replace(field=self.field(signal.field)) for signal in exchange.signals)
        if exchange.needs:
            exchange.needs = {need: self.field(name) for need, name in exchange.needs.items()}

    def finish(self, exchange: Exchange) -> None:
        error, client = exchange.error, self._client
        if exchange.stream_started:
            end = self.closing(exchange) if error is None else self.error_event(self._told(error), exchange)
            client.end_stream(end)
            return
        if error is not None:
            answer = self.error_answer(self._told(error), exchange.request_id)
        else:
            assert exchange.answer is not None
            try:
                body = orjson.dumps(self.whole(exchange, orjson.loads(exchange.answer.body)))
                answer = Answer(exchange.answer.status, _JSON, body)
            except (KeyError, TypeError, ValueError):
                # What a chat's answer may hold, and this format can't: arguments that are no object, say.
                answer = self.error_answer(_NO_ANSWER, exchange.request_id)
        lines = openai.response_headers(exchange) + self.head(exchange) + answer.headers
        client.respond(answer.status, lines, answer.body)

    # -- exchange.Client

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        self._client.respond(status, headers, body)

    def start_stream(self, headers: bytes, status: int = 200, first: bytes = b"") -> None:
        self._client.start_stream(headers, status, self.opening() + self._events(first))

    def send(self, data: bytes) -> None:
        events = self._events(data)
        if events:
            self._client.send(events)

    def send_chunks(self, chunks: bytes) -> None:
        at = chunks.find(b"\r\n", 0, _LONGEST_SIZE) + 2
        if chunks.startswith(self._before, at) and chunks.endswith(self._framed_after):
            text = chunks[at + self._start : self._stop - _END]
            if text and _QUOTE not in text:  # which two chunks would have between them
                self._client.send(self.more(text))
                return
        self.send(unframed(chunks))

    def end_stream(self, data: bytes) -> None:
        self._client.end_stream(data)

    # -- names

    def field(self, name: str) -> str:
        """The caller's name for what a chat calls `name`."""
        known = self.renamed.get(name)
        if known is not None:
            return known
        end = min((at for mark in ".[" if (at := name.find(mark)) >= 0), default=len(name))
        place, rest = name[:end], name[end:]
        if place == "messages" and self.places:
            index, _, behind = rest[1:].partition("]")
            if index.isdigit() and int(index) < len(self.places):
                return self.places[int(index)] + self._inner(behind)
        return self.renamed.get(place, place) + self._inner(rest)

    def _told(self, error: ApiError) -> ApiError:
        """`error` of a later step; those of the request itself were told in the caller's words at once."""
        return (
            error
            if error.param is None or not self.model
            else _about(error, self.renamed.get(error.param, error.param))
        )

    def _inner(self, rest: str) -> str:
        for ours, theirs in self.inner.items():
            if ours in rest:
                return rest.replace(ours, theirs, 1)
        return rest

    # -- events

    def _events(self, data: bytes) -> bytes:
        """Whole events of a chat's stream, as those of the caller's format."""
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        pieces = []
        before, after, more = self._before, self._after, self.more
        for event in data.split(b"\n\n"):
            if event.startswith(before) and event.endswith(after):
                text = event[self._start : self._stop]
                if text and _QUOTE not in text:
                    pieces.append(more(text))
                    continue
            if event:
                pieces.append(self._read(event.strip()))
                before, after = self._before, self._after
        return b"".join(pieces)

    def _read(self, event: bytes) -> bytes:
        """An event in a frame that is not known, or with more in it than text."""
        self._before = _NEVER
        if not event.startswith(b"data:"):
            return b""
        try:
            chunk = orjson.loads(event[5:])
        except orjson.JSONDecodeError:
            return b""  # what has no known shape is left out, here and below
        pieces, texts, plain = [], 0, True
        for choice in _dicts(chunk, "choices"):
            if self.tokens is not None:
                self.tokens.add(choice.get("logprobs"))
                plain = False
            delta = choice.get("delta")
            if delta and type(delta) is dict:
                for kind, name in _KINDS:
                    text = delta.get(name)
                    if text and type(text) is str:
                        texts += 1
                        last, escaped = kind, orjson.dumps(text)[1:-1]
                        pieces.append(self.said(kind, escaped))
                if "tool_calls" in delta:
                    for place, call in enumerate(_dicts(delta, "tool_calls")):
                        index = call.get("index")
                        pieces.append(self.called(index if type(index) is int else place, call))
                        plain = False
            reason = choice.get("finish_reason")
            if reason and type(reason) is str:
                self.ended(choice)
                plain = False
        if texts == 1 and plain:
            self._learn_frame(event, _KEYS[last], escaped)
        return b"".join(pieces)

    def ended(self, choice: dict[str, Any]) -> None:
        """Note why the output of `choice` ended."""
        self.finish_reason = choice.get("finish_reason")
        self.matched_stop = choice.get("matched_stop", choice.get("stop_reason"))  # SGLang's name, vLLM's

    def _learn_frame(self, event: bytes, keys: tuple[bytes, ...], text: bytes) -> None:
        """
        Keep what stands around the one `text` of an event that is nothing else.

        Another event with the same around it, and no quote in its text, can hold nothing else either.
        """
        for key in keys:
            at = event.find(key + text + _QUOTE)
            if at >= 0 and _QUOTE not in text:
                self._start = at + len(key)
                self._stop = self._start + len(text) - len(event)
                self._before, self._after = event[: self._start], event[self._stop :]
                self._framed_after = self._after + _EVENT_END
                return


def _about(error: ApiError, name: str | None) -> ApiError:
    """`error`, or one that says the same of the field `name`."""
    if name == error.param:
        return error
    renamed = type(error).__new__(type(error))
    renamed.__dict__.update(error.__dict__)  # it may be told to others too, in their words
    renamed.param = name
    renamed.message = error.message.replace(f"'{error.param}'", f"'{name}'")
    renamed.args = (renamed.message,)
    return renamed


def _dicts(holder: Any, name: str) -> list[dict[str, Any]]:
    """The objects in the list `name` of `holder`."""
    items = holder.get(name) if type(holder) is dict else None
    if type(items) is not list:
        return []
    if len(items) == 1 and type(items[0]) is dict:
        return items
    return [item for item in items if type(item) is dict]
