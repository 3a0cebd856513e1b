"""What an answer must look like, and what it says: status, mode, tokens. Pure: reads bytes, touches no socket.

Raises `Broken` for whatever an OpenAI client could not make sense of.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pointsman.contracts import errors
from pointsman.contracts.names import Header
from soak.client import Answer, Broken

STATUS_OF_CODE: dict[str, int] = {
    kind.code: kind.status
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ApiError) and kind.code is not None
}


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked. `text`: the body is a completion's, else a chat's. `usage`: a stream ends with its usage."""

    stream: bool = False
    text: bool = False
    usage: bool = True
    mode: str | None = None


@dataclass(slots=True)
class Meaning:
    """
    What an answer says. `status`: of HTTP, or of the error event that ends a stream; `tokens`: what it says it
    billed by class, empty where it says nothing.
    """

    status: int
    tokens: dict[str, int] = field(default_factory=dict)


def read(answer: Answer, question: Question) -> Meaning:
    """The meaning of `answer` to `question`. Raises `Broken` where it has none."""
    _mode(answer, question)
    if answer.status != 200:
        return Meaning(_error_status(_json(answer.body), answer.status))
    kind = answer.header("content-type").partition(";")[0]
    if kind != ("text/event-stream" if question.stream else "application/json"):
        raise Broken(f"content-type {kind}")
    return _stream(answer.body, question) if question.stream else _whole(answer.body, question)


def _mode(answer: Answer, question: Question) -> None:
    """A request is answered in the mode it asks for or not at all."""
    said = answer.header(Header.MODE)
    if question.mode is None or (answer.status != 200 and not said):
        return
    pool = answer.header(Header.POOL)
    if said != question.mode or (pool and pool.startswith("deep") != (said == "think")):
        raise Broken(f"asked for {question.mode}, answered in {said} by pool {pool}")


def _whole(body: bytes, question: Question) -> Meaning:
    answer = _json(body)
    (choice,) = answer["choices"]
    text = choice["text"] if question.text else choice["message"]["content"]
    if not isinstance(text, str) or choice["finish_reason"] not in ("stop", "length"):
        raise Broken("an answer without text or finish reason")
    return Meaning(200, _tokens(answer["usage"]))


def _stream(body: bytes, question: Question) -> Meaning:
    *blocks, rest = body.split(b"\n\n")
    if rest or not blocks or blocks.pop() != b"data: [DONE]":
        raise Broken("a stream without its end")
    shown = 0
    finish = None
    tokens: dict[str, int] = {}
    for block in blocks:
        if not block.startswith(b"data: "):
            raise Broken(f"an event that is none: {block[:40]!r}")
        if finish == "error" or tokens:
            raise Broken("an event after the last one")
        event = _json(block[6:])
        if "error" in event:
            finish, status = "error", _error_status(event)
        elif event["choices"]:
            (choice,) = event["choices"]
            said = choice if question.text else choice["delta"]
            text = said["text"] if question.text else said.get("content")
            shown += bool(text) + bool(said.get("reasoning_content"))
            finish = choice.get("finish_reason") or finish
        else:
            tokens = _tokens(event["usage"])
    if finish == "error":
        return Meaning(status)
    if finish not in ("stop", "length") or bool(tokens) != question.usage:
        raise Broken(f"a stream with finish reason {finish} and usage {tokens}, asked for: {question.usage}")
    if tokens:
        # The simulated engine counts two tokens that it does not show: the marks that end thinking and turn.
        unseen = tokens["reasoning"] + tokens["answer"] - shown
        if unseen not in (0, 1, 2):
            raise Broken(f"{shown} tokens were shown, {tokens} billed")
    return Meaning(200, tokens)


def _tokens(usage: dict[str, Any]) -> dict[str, int]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    return {
        "input": usage["prompt_tokens"] - cached,
        "cached_input": cached,
        "reasoning": reasoning,
        "answer": usage["completion_tokens"] - reasoning,
    }


def _error_status(said: dict[str, Any], status: int | None = None) -> int:
    error = said.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str) or not error.get("type"):
        raise Broken("an error that is none")
    if status is not None:
        return status
    return STATUS_OF_CODE.get(str(error.get("code")), 502)


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise Broken(f"no JSON: {data[:60]!r}") from None
    if not isinstance(value, dict):
        raise Broken("no JSON object")
    return value
