"""What a plan looks like on the wire: SGLang's bodies and events, byte for byte but for the honest name.

`ChatWire` and `CompletionWire` are two equal renderings of one `Plan`. Every object carries
`system_fingerprint: "pointsman-simulated"`, which SGLang does not send. Pure but for the time stamp of creation.
"""

from __future__ import annotations

import time
import uuid
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import orjson

from pointsman.serving.simulated.plan import Plan
from pointsman.serving.simulated.script import END_OF_TURN, Kind, Script, Token

FINGERPRINT = "pointsman-simulated"
DONE = b"data: [DONE]\n\n"


def event(content: dict[str, Any]) -> bytes:
    """`content` as one server-sent event."""
    return b"data: " + orjson.dumps(content) + b"\n\n"


def error_event(message: str, type: str, status: int) -> bytes:
    """The event with which SGLang ends a stream that failed."""
    return event({"error": {"object": "error", "message": message, "type": type, "param": None, "code": status}})


class Wire(ABC):
    """One rendering of a plan."""

    object: str
    chunk_object: str

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.cached_tokens = 0
        """Prompt tokens that the prefix cache knew; set before the first byte is rendered."""
        self._created = int(time.time())
        self._reasoned = [0] * len(plan.scripts)
        self._called = [-1] * len(plan.scripts)

    def step(self, position: int) -> Iterator[bytes]:
        """The events with which the token at `position` of each choice is sent."""
        for index, script in enumerate(self.plan.scripts):
            if position == 0:
                yield from self._opening(index)
            if position < script.completion_tokens:
                token = script.tokens[position]
                self._reasoned[index] += token.kind in (Kind.THINKING, Kind.THINK_END)
                yield from self._token(index, script, position, token)

    def closing(self) -> Iterator[bytes]:
        """The events after the last token."""
        if self.plan.include_usage:
            yield event({**self._head(self.chunk_object), "choices": [], "usage": self._final_usage()})
        yield DONE

    def body(self) -> bytes:
        """The whole answer, not streamed."""
        said = self.plan.scripts[0].completion_tokens
        choices = [self._choice(index, script) for index, script in enumerate(self.plan.scripts)]
        return orjson.dumps(
            {
                **self._head(self.object),
                "choices": choices,
                "usage": self._usage(),
                "metadata": {
                    "weight_version": "simulated",
                    "weight_versions": [{"version": "simulated", "start": 0, "end": said}],
                },
            }
        )

    def _opening(self, index: int) -> Iterator[bytes]:
        """The events before the first token of a choice."""
        yield from ()

    @abstractmethod
    def _token(self, index: int, script: Script, position: int, token: Token) -> Iterator[bytes]: ...

    @abstractmethod
    def _choice(self, index: int, script: Script) -> dict[str, Any]: ...

    @abstractmethod
    def _final_usage(self) -> dict[str, Any]: ...

    def _head(self, object_name: str) -> dict[str, Any]:
        return {
            "id": self.plan.id,
            "object": object_name,
            "created": self._created,
            "model": self.plan.model,
            "system_fingerprint": FINGERPRINT,
        }

    def _usage(self) -> dict[str, Any]:
        scripts = self.plan.scripts
        return _usage(
            self.plan.prompt_tokens,
            sum(script.completion_tokens for script in scripts),
            sum(script.reasoning_tokens for script in scripts),
            {"cached_tokens": self.cached_tokens},
        )

    def _usage_so_far(self, index: int, position: int, details: dict[str, int] | None) -> dict[str, Any]:
        return _usage(self.plan.prompt_tokens, position + 1, self._reasoned[index], details)


class ChatWire(Wire):
    """`/v1/chat/completions`: the role comes first, thinking apart from content, the finish reason by itself."""

    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def _opening(self, index: int) -> Iterator[bytes]:
        yield self._chunk(index, {"reasoning_content": None, "role": "assistant", "content": ""})

    def _token(self, index: int, script: Script, position: int, token: Token) -> Iterator[bytes]:
        top = self.plan.top
        logprobs = None if top is None else {"content": [_chat_logprob(token, top)]}
        usage = (
            self._usage_so_far(index, position, {"cached_tokens": self.cached_tokens})
            if self.plan.continuous_usage
            else None
        )
        if token.kind in (Kind.CALL, Kind.ARGUMENTS):
            if logprobs:
                yield self._chunk(index, {"reasoning_content": None}, logprobs=logprobs, usage=usage)
            opens = token.kind is Kind.CALL
            self._called[index] += opens
            call = _call(token.text if opens else None, "" if opens else token.text, self._called[index])
            yield self._chunk(index, {**_NOTHING, "tool_calls": [call]}, usage=usage, told=True)
        elif token.text and self.plan.tools:
            field = "reasoning_content" if token.kind is Kind.THINKING else "content"
            yield self._chunk(index, {**_NOTHING, field: token.text}, logprobs=logprobs, usage=usage, told=True)
        elif token.text and token.kind is Kind.THINKING:
            yield self._chunk(index, {"reasoning_content": token.text}, logprobs=logprobs, usage=usage)
        elif token.text:
            delta = {"reasoning_content": None, "content": token.text}
            yield self._chunk(index, delta, logprobs=logprobs, usage=usage)
        elif logprobs and self.plan.thinks:
            yield self._chunk(index, {"reasoning_content": None}, logprobs=logprobs, usage=usage)

    def closing(self) -> Iterator[bytes]:
        for index, script in enumerate(self.plan.scripts):
            yield self._chunk(index, {"reasoning_content": None}, finished=script)
        yield from super().closing()

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        usage: dict[str, Any] | None = None,
        finished: Script | None = None,
        told: bool = False,
    ) -> bytes:
        """`told`: whether the chunk has the key `usage` even where there is none to tell."""
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finished.finish_reason if finished else None,
            "matched_stop": _matched_in_stream(finished) if finished else None,
        }
        chunk = {**self._head(self.chunk_object), "choices": [choice]}
        if usage or told:
            chunk["usage"] = usage
        return event(chunk)

    def _choice(self, index: int, script: Script) -> dict[str, Any]:
        top = self.plan.top
        return {
            "index": index,
            "message": {
                "role": "assistant",
                "content": script.text(Kind.ANSWER),
                "reasoning_content": script.text(Kind.THINKING) or None,
                **_calls(script),
            },
            "logprobs": (
                None if top is None else {"content": [_chat_logprob(token, top) for token in script.tokens]}
            ),
            "finish_reason": script.finish_reason,
            "matched_stop": script.matched_stop,
        }

    def _final_usage(self) -> dict[str, Any]:
        return self._usage()


class CompletionWire(Wire):
    """`/v1/completions`: one chunk a token, the end-of-turn mark's included; the last carries the finish reason."""

    object = "text_completion"
    chunk_object = "text_completion"

    def _token(self, index: int, script: Script, position: int, token: Token) -> Iterator[bytes]:
        last = position == script.completion_tokens - 1
        top = self.plan.top
        choice = {
            "index": index,
            "text": (self.plan.echo[index] if position == 0 else "") + token.text,
            "logprobs": None if top is None else _completion_logprobs((token,), top),
            "finish_reason": script.finish_reason if last else None,
            "matched_stop": script.matched_stop if last else None,
        }
        usage = self._usage_so_far(index, position, None) if self.plan.continuous_usage else None
        yield event({**self._head(self.chunk_object), "choices": [choice], "usage": usage})

    def _choice(self, index: int, script: Script) -> dict[str, Any]:
        top = self.plan.top
        return {
            "index": index,
            "text": self.plan.echo[index] + script.text(Kind.ANSWER),
            "logprobs": None if top is None else _completion_logprobs(script.tokens, top),
            "finish_reason": script.finish_reason,
            "matched_stop": script.matched_stop,
        }

    def _final_usage(self) -> dict[str, Any]:
        return {name: value for name, value in self._usage().items() if value is not None}


_NOTHING: dict[str, Any] = {"role": None, "content": None, "reasoning_content": None}
"""What the delta of a chunk says of text where tools are offered."""


def _call(name: str | None, arguments: str, index: int) -> dict[str, Any]:
    """A call, or in a stream a part of one: the first part has its id and its name."""
    call_id = None if name is None else f"call_{uuid.uuid4().hex[:24]}"
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "index": index, "type": "function", "function": function}


def _calls(script: Script) -> dict[str, Any]:
    """What the message of a whole answer says of its calls. One that was cut is text, as SGLang gives it."""
    calls: list[list[str]] = []
    for token in script.tokens:
        if token.kind is Kind.CALL:
            calls.append([token.text, ""])
        elif token.kind is Kind.ARGUMENTS:
            calls[-1][1] += token.text
    if not calls:
        return {}
    if script.finish_reason != "tool_calls":
        name, arguments = calls[-1]
        return {"content": f'<tool_call>{{"name":"{name}","arguments":{arguments}'}
    return {"tool_calls": [_call(name, arguments, at) for at, (name, arguments) in enumerate(calls)]}


def _matched_in_stream(script: Script) -> int | str | None:
    """What ended a streamed answer: where it is tool calls, SGLang names the token in streams alone."""
    return END_OF_TURN if script.finish_reason == "tool_calls" else script.matched_stop


def _usage(prompt: int, completion: int, reasoning: int, details: dict[str, int] | None) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": details,
        "reasoning_tokens": reasoning,
        "completion_tokens_details": {"reasoning_tokens": reasoning} if reasoning else None,
    }


def _logprob(text: str) -> float:
    """A made-up log-probability in (-2, 0], the same for the same token each time."""
    return -(zlib.crc32(text.encode("utf-8", "replace")) % 1000) / 500


def _alternatives(said: str, count: int) -> list[tuple[str, float]]:
    best = _logprob(said)
    return [(said if rank == 0 else f"{said}~{rank}", best - rank) for rank in range(count)]


def _chat_logprob(token: Token, top: int) -> dict[str, Any]:
    def entry(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "bytes": list(text.encode()), "logprob": logprob}

    return {
        **entry(token.said, _logprob(token.said)),
        "top_logprobs": [entry(text, logprob) for text, logprob in _alternatives(token.said, top)],
    }


def _completion_logprobs(said: tuple[Token, ...], top: int) -> dict[str, Any]:
    return {
        "text_offset": [-1] * len(said),
        "token_logprobs": [_logprob(token.said) for token in said],
        "tokens": [token.said for token in said],
        "top_logprobs": [dict(_alternatives(token.said, top)) for token in said] if top else [],
    }
