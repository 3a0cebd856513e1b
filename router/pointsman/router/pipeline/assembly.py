"""A whole answer put together from the chunks of a stream.

Stands beside the streams because some whole answers are fetched as streams, to be stopped or gone on with on the
way, and because some streams are held back until they are known to stand. Pure: knows the shape of chunks, and
nothing of what is done with the answer.
"""

from __future__ import annotations

from typing import Any


def is_sound(choices: Any, field: str) -> bool:
    """Whether `choices` are what an answer may hold, each with its text and tool calls in `field`."""
    return type(choices) is list and all(type(choice) is dict and _is_sound(choice, field) for choice in choices)


def _is_sound(choice: dict[str, Any], field: str) -> bool:
    said, logprobs, finish = choice.get(field), choice.get("logprobs"), choice.get("finish_reason")
    if said is None:
        said = {}
    if type(said) is not dict or not (finish is None or type(finish) is str):
        return False
    if not all(said.get(name) is None or type(said[name]) is str for name in _TEXTS):
        return False
    if logprobs is not None and (type(logprobs) is not dict or not _is_list_of_dicts(logprobs.get("content"))):
        return False
    calls = said.get("tool_calls")
    return _is_list_of_dicts(calls) and all(
        call.get("function") is None or type(call["function"]) is dict for call in calls or ()
    )


def _is_list_of_dicts(value: Any) -> bool:
    return value is None or (type(value) is list and all(type(item) is dict for item in value))


class _Choice:
    """One choice, as far as it has been said."""

    __slots__ = ("content", "extras", "finish", "logprobs", "reasoning", "refusal", "tools")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.tools: dict[int, dict[str, Any]] = {}
        self.logprobs: list[Any] = []
        self.finish: str | None = None
        self.extras: dict[str, Any] = {}


class Assembly:
    """What was said so far in answer to one request, by however many streams. `size` counts its characters."""

    __slots__ = ("_choices", "_head", "size")

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self.size = 0

    def add(self, chunk: dict[str, Any], *, logprobs: bool = True) -> None:
        """Add the chunk of a chat stream, with its `logprobs` or not; what has no known shape in it is left out."""
        if not self._head:
            self._head = {
                name: value for name, value in chunk.items() if name not in ("choices", "usage", "object")
            }
        for raw in chunk.get("choices") or ():
            if isinstance(raw, dict):
                self._add_choice(raw, logprobs)

    def reasoning(self) -> str:
        """What the first choice has thought."""
        choice = self._choices.get(0)
        return "".join(choice.reasoning) if choice is not None else ""

    def content(self) -> str:
        """What the first choice has answered."""
        choice = self._choices.get(0)
        return "".join(choice.content) if choice is not None else ""

    def answer(self) -> dict[str, Any]:
        """The whole answer, without its usage."""
        choices = [_whole(index, choice) for index, choice in sorted(self._choices.items())]
        return {**self._head, "object": "chat.completion", "choices": choices}

    def _add_choice(self, raw: dict[str, Any], keeps_logprobs: bool) -> None:
        index = raw.get("index")
        choice = self._choices.setdefault(index if type(index) is int else 0, _Choice())
        delta = raw.get("delta")
        if isinstance(delta, dict):
            for name, pieces in (
                ("content", choice.content),
                ("reasoning_content", choice.reasoning),
                ("refusal", choice.refusal),
            ):
                text = delta.get(name)
                if isinstance(text, str) and text:
                    pieces.append(text)
                    self.size += len(text)
            for call in delta.get("tool_calls") or ():
                if isinstance(call, dict):
                    self._add_call(choice, call)
        logprobs = raw.get("logprobs") if keeps_logprobs else None
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            choice.logprobs += logprobs["content"]
        if isinstance(raw.get("finish_reason"), str):
            choice.finish = raw["finish_reason"]
        choice.extras.update((name, value) for name, value in raw.items() if name not in _KNOWN)

    def _add_call(self, choice: _Choice, raw: dict[str, Any]) -> None:
        index = raw.get("index")
        call = choice.tools.setdefault(
            index if type(index) is int else len(choice.tools),
            {"id": None, "type": "function", "function": {"name": "", "arguments": ""}},
        )
        for name in ("id", "type"):
            if isinstance(raw.get(name), str):
                call[name] = raw[name]
        function = raw.get("function")
        if isinstance(function, dict):
            for name in ("name", "arguments"):
                if isinstance(function.get(name), str):
                    call["function"][name] += function[name]
                    self.size += len(function[name])


_TEXTS = ("content", "reasoning_content", "refusal")
_KNOWN = frozenset({"index", "delta", "message", "logprobs", "finish_reason"})
"""What of a choice is put together here, or has no place in a stream; all else is kept as it came."""


def _whole(index: int, choice: _Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(choice.content) or None}
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.refusal:
        message["refusal"] = "".join(choice.refusal)
    if choice.tools:
        message["tool_calls"] = [call for _, call in sorted(choice.tools.items())]
    return {
        "index": index,
        "message": message,
        "logprobs": {"content": choice.logprobs} if choice.logprobs else None,
        "finish_reason": choice.finish,
        **choice.extras,
    }
