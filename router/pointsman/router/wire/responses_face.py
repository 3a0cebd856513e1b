"""OpenAI's Responses from the client's side: answers, events, errors.

Stands beside `responses_request.py`, which reads what is asked. An answer is a list of items: what was thought, the
message, the calls of tools. In a stream each has its beginning, its pieces and its end, at which it is told once
more as a whole, as is the answer at the very end: so its texts are kept, escaped as they came.
"""

from __future__ import annotations

from time import time
from typing import Any

import orjson

from pointsman.contracts.errors import ApiError
from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Answer, Client, Exchange
from pointsman.router.wire import openai, responses_request
from pointsman.router.wire.face import Face, Kind
from pointsman.router.wire.logprobs import AnswersTokens

_ECHOED = (
    *("instructions", "max_output_tokens", "metadata", "temperature", "top_p", "user", "service_tier"),
    *("safety_identifier", "prompt_cache_key", "prompt_cache_retention", "top_logprobs", "max_tool_calls"),
)
"""Fields of a request that its answer repeats as they were; None where they were left out."""

_REWRITTEN = ("parallel_tool_calls", "reasoning", "text", "tool_choice", "tools")
"""Those that it repeats with their defaults filled in."""

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""A chat's finish reasons that mean that the answer lacks something, and what they are called here."""

_NO_LOGPROBS = b'"logprobs":[],'
_THINKING, _REFUSAL = Kind.THINKING, Kind.REFUSAL


class _Call:
    """A call of a tool, on its way."""

    __slots__ = ("arguments", "call_id", "index", "item_id", "name")

    def __init__(self, index: int, item_id: str, call_id: str, name: str) -> None:
        self.index = index
        self.item_id = item_id
        self.call_id = call_id
        self.name = name
        self.arguments: list[str] = []

    def item(self, status: str, *, begun: bool = False) -> dict[str, Any]:
        arguments = "" if begun else "".join(self.arguments)
        return _call_item(self.item_id, self.call_id, self.name, arguments, status)


class ResponsesFace(Face):
    """A client of OpenAI's Responses."""

    renamed = responses_request.RENAMED
    inner = responses_request.INNER

    __slots__ = (
        "_body",
        "_calls",
        "_created",
        "_delta",
        "_delta_end",
        "_item",
        "_kind",
        "_number",
        "_output",
        "_parts",
        "_summarizes",
        "_texts",
    )

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._body: dict[str, Any] = {}
        self._summarizes = False
        self._created = int(time())
        self._number = 0  # of the next event
        self._output: list[dict[str, Any] | None] = []  # items, None for those that have not ended
        self._kind: Kind | None = None  # of the open part
        self._item = ""  # the id of the open item that has parts
        self._parts: list[dict[str, Any]] = []  # those of it that have ended
        self._texts: list[bytes] = []  # of the open part
        self._delta = self._delta_end = b""  # what stands around a further piece of it
        self._calls: dict[int, _Call] = {}

    # -- what is asked

    def translated(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        payload = responses_request.chat(body, self.places)
        self._body = {name: body.get(name) for name in (*_ECHOED, *_REWRITTEN)}
        self._summarizes = responses_request.summarizes(body)
        if payload.get("logprobs"):
            self.tokens = AnswersTokens()
        return payload

    # -- whole answers

    def whole(self, exchange: Exchange, answer: dict[str, Any]) -> dict[str, Any]:
        choice = answer["choices"][0] if answer["choices"] else {}
        self.ended(choice)
        message = choice.get("message") or {}
        status = self._status
        tokens = self.tokens
        if tokens is not None:
            tokens.add(choice.get("logprobs"))
        if thought := message.get("reasoning_content"):
            self._output.append(self._reasoning_item(self._new_id("rs"), thought, "completed"))
            if tokens is not None:
                tokens.skip(thought)
        if tokens is not None and message.get("content"):
            tokens.take(message["content"])
        said = [
            self._shown(kind, message[kind.value]) for kind in (Kind.ANSWER, _REFUSAL) if message.get(kind.value)
        ]
        if said:
            self._output.append(_message_item(self._new_id("msg"), said, status))
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            arguments = function.get("arguments") or "{}"
            if type(orjson.loads(arguments)) is not dict:
                raise TypeError("arguments")
            item_id = self._new_id("fc")
            call_id = call.get("id") or f"call_{item_id}"
            self._output.append(_call_item(item_id, call_id, function.get("name"), arguments, status))
        return self._response(exchange, status)

    # -- streams

    def opening(self) -> bytes:
        response = self._object("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def said(self, kind: Kind, text: bytes) -> bytes:
        if kind is self._kind:
            return self.more(text)
        end = self._end_part()
        if self._item and (kind is _THINKING) is not self._item.startswith("rs"):
            end += self._end_item()
        return end + self._begin_part(kind) + self.more(text)

    def more(self, text: bytes) -> bytes:
        self._texts.append(text)
        self._number += 1
        if self.tokens is not None:
            return self._scored(text, self.tokens)
        return b"%b%b%b%d}\n\n" % (self._delta, text, self._delta_end, self._number - 1)

    def _scored(self, text: bytes, tokens: AnswersTokens) -> bytes:
        """`more` with the log-probabilities of the text's tokens, where it is the answer's."""
        plainly: str = orjson.loads(b'"%b"' % text)
        end = self._delta_end
        if self._kind is Kind.ANSWER:
            end = end.replace(_NO_LOGPROBS, b'"logprobs":%b,' % orjson.dumps(tokens.take(plainly)))
        elif self._kind is _THINKING:
            tokens.skip(plainly)
        return b"%b%b%b%d}\n\n" % (self._delta, text, end, self._number - 1)

    def called(self, index: int, call: dict[str, Any]) -> bytes:
        function = call.get("function")
        if type(function) is not dict:
            function = {}
        begun = b""
        known = self._calls.get(index)
        if known is None:
            begun = self._end_part() + self._end_item()
            item_id = self._new_id("fc")
            call_id = call.get("id") or f"call_{item_id}"
            known = self._calls[index] = _Call(len(self._output), item_id, call_id, function.get("name") or "")
            self._output.append(None)
            item = known.item("in_progress", begun=True)
            begun += self._event("response.output_item.added", output_index=known.index, item=item)
        arguments = function.get("arguments")
        if not arguments or type(arguments) is not str:
            return begun
        known.arguments.append(arguments)
        return begun + self._event(
            "response.function_call_arguments.delta",
            item_id=known.item_id,
            output_index=known.index,
            delta=arguments,
        )

    def closing(self, exchange: Exchange) -> bytes:
        status = self._status
        end = self._end_part() + self._end_item(status)
        for call in self._calls.values():
            item = self._output[call.index] = call.item(status)
            place = {"item_id": call.item_id, "output_index": call.index}
            end += self._event(
                "response.function_call_arguments.done", **place, name=call.name, arguments=item["arguments"]
            )
            end += self._event("response.output_item.done", output_index=call.index, item=item)
        return end + self._event(f"response.{status}", response=self._response(exchange, status))

    # -- the parts of a stream

    def _begin_part(self, kind: Kind) -> bytes:
        thinks, begun = kind is _THINKING, b""
        if not self._item:
            self._item = self._new_id("rs" if thinks else "msg")
            self._parts = []
            item_id = self._item
            item = (
                self._reasoning_item(item_id, None, "in_progress")
                if thinks
                else _message_item(item_id, [], "in_progress")
            )
            begun = self._event("response.output_item.added", output_index=len(self._output), item=item)
            self._output.append(None)
        self._kind, self._texts = kind, []
        if self.tokens is not None:
            self.tokens.taken = []
        name = self._delta_name(kind)
        place = self._place()
        head = b"".join(b'"%b":%b,' % (key.encode(), orjson.dumps(value)) for key, value in place.items())
        self._delta = b'event: %b\ndata: {"type":"%b",%b"delta":"' % (name, name, head)
        # A message's text may come with log-probabilities; clients read the list even where it is empty.
        logprobs = _NO_LOGPROBS if kind is Kind.ANSWER else b""
        self._delta_end = b'",%b"sequence_number":' % logprobs
        if thinks and not self._summarizes:
            return begun
        added = "response.reasoning_summary_part.added" if thinks else "response.content_part.added"
        return begun + self._event(added, **place, part=self._shown(kind, ""))

    def _end_part(self) -> bytes:
        """End the part that is open, if one is."""
        kind, self._kind = self._kind, None
        if kind is None:
            return b""
        text = orjson.Fragment(b'"%b"' % b"".join(self._texts))
        self._texts = []
        place = self._place()
        part = self._shown(kind, text)
        name = self._delta_name(kind).decode().removesuffix("delta") + "done"
        told: dict[str, Any] = {"refusal" if kind is _REFUSAL else "text": text}
        if kind is Kind.ANSWER:
            told["logprobs"] = part["logprobs"]
        self._parts.append(part)
        end = self._event(name, **place, **told)
        if kind is _THINKING and not self._summarizes:
            return end
        done = "response.reasoning_summary_part.done" if kind is _THINKING else "response.content_part.done"
        return end + self._event(done, **place, part=part)

    def _end_item(self, status: str = "completed") -> bytes:
        """End the item that has parts, if one is open; its parts have ended."""
        item_id, self._item = self._item, ""
        if not item_id:
            return b""
        index = len(self._output) - 1
        if item_id.startswith("rs"):
            item = self._reasoning_item(item_id, self._parts[0]["text"], status)
        else:
            item = _message_item(item_id, self._parts, status)
        self._output[index] = item
        return self._event("response.output_item.done", output_index=index, item=item)

    def _place(self) -> dict[str, Any]:
        """Where the open part is."""
        which = "summary_index" if self._summarizes and self._item.startswith("rs") else "content_index"
        return {"item_id": self._item, "output_index": len(self._output) - 1, which: len(self._parts)}

    def _delta_name(self, kind: Kind) -> bytes:
        if kind is _THINKING:
            return (
                b"response.reasoning_summary_text.delta" if self._summarizes else b"response.reasoning_text.delta"
            )
        return b"response.refusal.delta" if kind is _REFUSAL else b"response.output_text.delta"

    def _shown(self, kind: Kind, text: Any) -> dict[str, Any]:
        if kind is _THINKING:
            return {"type": "summary_text" if self._summarizes else "reasoning_text", "text": text}
        if kind is _REFUSAL:
            return {"type": "refusal", "refusal": text}
        logprobs = self.tokens.taken if self.tokens is not None and text else []
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def _event(self, name: str, /, **fields: Any) -> bytes:
        number = self._number
        self._number += 1
        body = orjson.dumps({"type": name, "sequence_number": number, **fields})
        return b"event: %b\ndata: %b\n\n" % (name.encode(), body)

    # -- objects

    @property
    def _status(self) -> str:
        return "incomplete" if self.finish_reason in INCOMPLETE else "completed"

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self.id}{len(self._output)}"

    def _reasoning_item(self, item_id: str, text: Any, status: str) -> dict[str, Any]:
        """What was thought; `text` is None while nothing was."""
        told = [] if text is None else [self._shown(_THINKING, text)]
        item: dict[str, Any] = {"type": "reasoning", "id": item_id, "status": status}
        return {**item, "summary": told} if self._summarizes else {**item, "summary": [], "content": told}

    def _response(self, exchange: Exchange, status: str) -> dict[str, Any]:
        """The answer with all its items, at its end."""
        usage = exchange.told_usage
        response = self._object(status)
        response["output"] = [item for item in self._output if item is not None]
        response["usage"] = None if usage is None else usage_object(usage)
        if status == "incomplete":
            response["incomplete_details"] = {"reason": INCOMPLETE[self.finish_reason or ""]}
        if exchange.stream_started and (remarks := openai.told_at_end(exchange)):
            response["pointsman"] = remarks
        return response

    def _object(self, status: str) -> dict[str, Any]:
        body = self._body
        reasoning, text = body.get("reasoning") or {}, body.get("text") or {}
        parallel = body.get("parallel_tool_calls")
        return {
            "id": f"resp_{self.id}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": [],
            "parallel_tool_calls": True if parallel is None else parallel,
            "previous_response_id": None,
            "reasoning": {
                "effort": reasoning.get("effort"),
                "summary": reasoning.get("summary") or reasoning.get("generate_summary"),
            },
            "store": False,
            "text": {"format": text.get("format") or {"type": "text"}},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "truncation": "disabled",
            "usage": None,
            **{name: body.get(name) for name in _ECHOED},
        }

    # -- errors

    @classmethod
    def error_answer(cls, error: ApiError, request_id: str = "") -> Answer:
        return openai.error_answer(error)

    def error_event(self, error: ApiError, exchange: Exchange) -> bytes:
        response = self._response(exchange, "failed")
        # Of a failed answer the format knows but these codes; which it is of ours is told before.
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        response["error"] = {"code": code, "message": error.message}
        told = self._event("error", code=error.code, message=error.message, param=error.param)
        return told + self._event("response.failed", response=response)


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` as clients of Responses read it."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_input},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _message_item(item_id: str, parts: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {"type": "message", "id": item_id, "role": "assistant", "status": status, "content": parts}


def _call_item(item_id: str, call_id: str, name: Any, arguments: str, status: str) -> dict[str, Any]:
    item = {"type": "function_call", "id": item_id, "call_id": call_id, "name": name, "arguments": arguments}
    return {**item, "status": status}
