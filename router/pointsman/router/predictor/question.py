"""Which words of a conversation are the question.

Stands before the excerpt: the system prompt, the history and attached documents say much about the conversation and
little about how hard its next answer is, so only the last user message counts. Reads any shape of message without
raising: judging a request's form is the parser's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pointsman.router.predictor.excerpt import shortened

DOCUMENT_LENGTH = 1500
"""Characters from which one text part among several is taken for an attached document."""
_MOST_PARTS = 64


def question_of(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """
    The text of the last user message, or None where there is none to judge.

    `messages` are OpenAI chat messages as JSON was read; `content` may be a string or a list of parts. Among
    several text parts those of `DOCUMENT_LENGTH` characters or more are left out, unless all are that long. Costs
    nothing for what stands before that message, nor for the length of its text.
    """
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return _text_of(message.get("content"))
    return None


def _text_of(content: object) -> str | None:
    if isinstance(content, str):
        return content if _says_something(content) else None
    if not isinstance(content, (list, tuple)):
        return None
    texts = list(_texts(content[-_MOST_PARTS:]))
    if len(texts) > 1:
        texts = [text for text in texts if len(text) < DOCUMENT_LENGTH] or texts
    if len(texts) > 1:
        return "\n".join(map(shortened, texts))
    return texts[0] if texts else None


def _texts(parts: Iterable[object]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, dict) and part.get("type") in ("text", "input_text"):
            text = part.get("text")
            if isinstance(text, str) and _says_something(text):
                yield text
        elif isinstance(part, str) and _says_something(part):
            yield part


def _says_something(text: str) -> bool:
    """Whether `text` has anything but white space; copies nothing, as `strip` would."""
    return bool(text) and not text.isspace()
