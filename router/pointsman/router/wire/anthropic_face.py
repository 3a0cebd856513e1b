"""Anthropic's wire format from the client's side: answers, events, errors.

Stands beside `anthropic_request.py`, which reads what is asked. An answer is a list of blocks; in a stream each has
its beginning, its pieces and its end, and none begins before the one before it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from pointsman.contracts.config import Engine
from pointsman.contracts.errors import ApiError, InvalidRequest
from pointsman.contracts.names import Header
from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Answer, Client, Exchange
from pointsman.router.http.wire import header_lines
from pointsman.router.wire import anthropic_request, openai
from pointsman.router.wire.face import Face, Kind
from pointsman.router.wire.fields import wrong

ERROR_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""What an error calls itself, by its status. Others are `api_error` from 500 on, `invalid_request_error` below."""

STOP_REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""A chat's finish reasons, and what they are called here; any other is `end_turn`."""

VERSIONS = ("2023-06-01", "2026-10-21")
"""The versions of the format, which differ in nothing that is answered here."""

_COUNTING = frozenset({Engine.SGLANG, Engine.SIMULATED, Engine.VLLM})
_VERSION = Header.ANTHROPIC_VERSION.encode()
_REQUEST_ID = Header.ANTHROPIC_REQUEST_ID.encode()
_DELTA_END = b'"}}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_BLOCK_START = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":%%d,"content_block":%b}\n\n'
)
_BLOCK_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%%d,"delta":{"type":"%b","%b":"'
)
_TEXT = (_BLOCK_START % b'{"type":"text","text":""}', _BLOCK_DELTA % (b"text_delta", b"text"))
_THOUGHT = (
    _BLOCK_START % b'{"type":"thinking","thinking":"","signature":""}',
    _BLOCK_DELTA % (b"thinking_delta", b"thinking"),
)
"""How a block begins, and what a piece of it begins with, for the block's number."""
_THINKING, _ANSWER = Kind.THINKING, Kind.ANSWER


class AnthropicFace(Face):
    """A client of Anthropic's Messages."""

    renamed = anthropic_request.RENAMED
    inner = anthropic_request.INNER

    __slots__ = ("_block", "_calls", "_delta", "_kind", "_open_call", "_shows_thinking", "_stop_sequences")

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._shows_thinking = True
        self._stop_sequences: list[str] = []
        self._block = -1  # the index of the last one
        self._kind: Kind | None = None  # of the open block, where it is text
        self._delta = b""  # what a further piece of it begins with
        self._calls: dict[int, int] = {}  # blocks by the number of their tool call
        self._open_call = False

    # -- what is asked

    def translated(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        _check_version(exchange)
        payload = anthropic_request.chat(body, self.places)
        self._shows_thinking = anthropic_request.shows_thinking(body)
        self._stop_sequences = payload.get("stop", [])
        return payload

    # -- whole answers

    def whole(self, exchange: Exchange, answer: dict[str, Any]) -> dict[str, Any]:
        choice = answer["choices"][0] if answer["choices"] else {}
        message = choice.get("message") or {}
        content: list[dict[str, Any]] = []
        if thought := message.get("reasoning_content"):
            shown = thought if self._shows_thinking else ""
            content.append({"type": "thinking", "thinking": shown, "signature": exchange.rid})
        said = (message.get("content"), message.get("refusal"))
        content += [{"type": "text", "text": text} for text in said if text]
        calls = message.get("tool_calls") or ()
        content += [self._whole_call(index, call) for index, call in enumerate(calls)]
        self.ended(choice)
        usage = exchange.told_usage
        assert usage is not None
        return {
            **self._message(),
            "content": content,
            **self._ending(calls=bool(calls), refused=bool(message.get("refusal"))),
            "usage": usage_object(usage),
        }

    def _whole_call(self, index: int, call: dict[str, Any]) -> dict[str, Any]:
        function = call.get("function") or {}
        written = function.get("arguments")
        arguments = {} if written in (None, "") else orjson.loads(written)
        if type(arguments) is not dict:
            raise TypeError("arguments")
        return {
            "type": "tool_use",
            "id": call.get("id") or self._call_id(index),
            "name": function.get("name"),
            "input": arguments,
        }

    def _message(self) -> dict[str, Any]:
        return {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "model": self.model}

    def _ending(self, *, calls: bool, refused: bool) -> dict[str, Any]:
        reason = STOP_REASONS.get(self.finish_reason or "", "end_turn")
        matched = None
        if calls and reason == "end_turn":
            reason = "tool_use"
        elif refused:
            reason = "refusal"
        elif reason == "end_turn" and self.matched_stop in self._stop_sequences:
            reason, matched = "stop_sequence", self.matched_stop
        return {"stop_reason": reason, "stop_sequence": matched}

    def _call_id(self, index: int) -> str:
        return f"toolu_{self.id}{index}"

    # -- streams

    def opening(self) -> bytes:
        before, after = _start_of(self.model)
        return before + self.id.encode("ascii") + after

    def said(self, kind: Kind, text: bytes) -> bytes:
        if kind is self._kind:
            return self.more(text)
        thinks = kind is _THINKING
        end = self._end_block()
        self._block += 1
        self._kind = kind
        start, delta = _THOUGHT if thinks else _TEXT
        self._delta = delta % self._block
        return end + start % self._block + self.more(text)

    def more(self, text: bytes) -> bytes:
        if self._kind is _THINKING and not self._shows_thinking:
            return b""
        return self._delta + text + _DELTA_END

    def called(self, index: int, call: dict[str, Any]) -> bytes:
        function = call.get("function")
        if type(function) is not dict:
            function = {}
        begun = b""
        block = self._calls.get(index)
        if block is None:
            begun = self._end_block()
            self._block += 1
            block = self._calls[index] = self._block
            self._open_call = True
            content: dict[str, Any] = {
                "type": "tool_use",
                "id": call.get("id") or self._call_id(index),
                "name": function.get("name") or "",
                "input": {},
            }
            begun += _event("content_block_start", index=block, content_block=content)
        arguments = function.get("arguments")
        if not arguments or type(arguments) is not str:
            return begun
        delta = {"type": "input_json_delta", "partial_json": arguments}
        return begun + _event("content_block_delta", index=block, delta=delta)

    def closing(self, exchange: Exchange) -> bytes:
        usage = exchange.told_usage
        assert usage is not None
        refused = self._kind is Kind.REFUSAL
        end = self._end_block()
        told: dict[str, Any] = {
            "delta": self._ending(calls=bool(self._calls), refused=refused),
            "usage": usage_object(usage),
        }
        if remarks := openai.told_at_end(exchange):
            told["pointsman"] = remarks
        return end + _event("message_delta", **told) + _STOP

    def _end_block(self) -> bytes:
        """End the block that is open, if one is."""
        kind, self._kind = self._kind, None
        if kind is None and not self._open_call:
            return b""
        self._open_call = False
        end = _BLOCK_STOP % self._block
        if kind is not _THINKING:
            return end
        signature = {"type": "signature_delta", "signature": self.id}
        return _event("content_block_delta", index=self._block, delta=signature) + end

    # -- errors, headers

    @classmethod
    def error_answer(cls, error: ApiError, request_id: str = "") -> Answer:
        body = orjson.dumps(_error_object(error, request_id))
        return Answer(error.status, header_lines(openai.error_headers(error)), body)

    def error_event(self, error: ApiError, exchange: Exchange) -> bytes:
        return b"event: error\ndata: %b\n\n" % orjson.dumps(_error_object(error, exchange.request_id))

    def head(self, exchange: Exchange) -> bytes:
        if not exchange.request_id:
            return b""
        return b"%b: %b\r\n" % (_REQUEST_ID, exchange.request_id.encode("ascii"))


class CountingFace(AnthropicFace):
    """A client that asks how many tokens a prompt has, which only an engine with a tokenizer knows."""

    __slots__ = ()

    def translated(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        _check_version(exchange)
        return anthropic_request.counted(body, self.places)

    def understood(self, exchange: Exchange) -> None:
        super().understood(exchange)
        assert exchange.model is not None
        if any(pool.engine not in _COUNTING for pools in exchange.model.pools.values() for pool in pools):
            raise InvalidRequest(
                "This model is served by an engine that does not tell how long a prompt is.",
                param="model",
                code="unsupported_parameter",
            )

    def whole(self, exchange: Exchange, answer: dict[str, Any]) -> dict[str, Any]:
        return {"input_tokens": answer["count"]}


def _check_version(exchange: Exchange) -> None:
    version = exchange.headers.get(_VERSION)
    if version is not None and version.decode("latin-1").strip() not in VERSIONS:
        raise wrong(Header.ANTHROPIC_VERSION, "one of " + ", ".join(VERSIONS))


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` as Anthropic's clients read it: the input that was not cached apart from that which was."""
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_creation,
        "cache_read_input_tokens": usage.cached_input,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def _error_object(error: ApiError, request_id: str) -> dict[str, Any]:
    kind = ERROR_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    told: dict[str, Any] = {"type": kind, "message": error.message, "param": error.param, "code": error.code}
    if error.code == "thread_unsupported_request":
        told["details"] = {"error_code": error.code, "unsupported": [error.param]}
    return {"type": "error", "error": told, "request_id": request_id or None}


@lru_cache(1024)
def _start_of(model: str) -> tuple[bytes, bytes]:
    """The event that streams of `model` begin with, but for the message's id."""
    message: dict[str, Any] = {
        "id": "msg_\0",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_object(Usage()),  # which nobody knows before the end
    }
    before, _, after = _event("message_start", message=message).partition(b"\\u0000")
    return before, after


def _event(name: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))
