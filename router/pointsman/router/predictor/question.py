"""Which words of a conversation are the question.

Stands before the excerpt: the answers and attached documents say much about the conversation and little about how
hard its next answer is, so the last user message counts. Where that is short, as "and with five of them?" is, what
the user said before comes along, behind a mark. Where the system prompt sets a task for whatever the user sends, it
is the question, and the last message comes along as its material. Reads any shape of message without raising:
judging a request's form is the parser's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pointsman.router.predictor import standing_task
from pointsman.router.predictor.excerpt import shortened

DOCUMENT_LENGTH = 1500
"""Characters from which one text part among several is taken for an attached document."""
_MOST_PARTS = 64
MARK = "\n\u241e "
"""What stands between a last turn and what was asked before it."""
TASK_MARK = "\n\u241d "
"""What stands between a task that the system prompt sets and the user's message that it is set for."""
SHORT, SHORT_WIDE = 60, 24
"""Characters of a last turn at most that is read in the light of earlier ones; the latter with ideographs in it."""
_FIRST_WIDE = "\u2e80"
_REACH, _TASK_REACH = SHORT + len(MARK), standing_task.LONGEST + len(TASK_MARK)
_SYSTEM = ("system", "developer")
_MOST_MESSAGES, _MOST_TURNS = 32, 4
_EARLIER = 600
"""Characters from each end of what was asked before that are kept."""


class Parted(NamedTuple):
    """
    A question of `question_of`, taken apart.

    `asked` is what is judged by itself, and `beside` what has a lesser say, or nothing: what the user asked before
    a short last turn, or, where it is `material`, the message that the task of the system prompt is set for.
    """

    asked: str
    beside: str = ""
    material: bool = False


def question_of(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """
    The text of the last user message, or None where there is none to judge.

    Behind a short one stand `MARK` and the user messages before it, of several the last; before one that the system
    prompt, which is the first message, sets a task for stand that task and `TASK_MARK`; `parted` takes them
    apart. `messages` are OpenAI chat messages as JSON was read; `content` may be a string or a list of parts. Among
    several text parts those of `DOCUMENT_LENGTH` characters or more are left out, unless all are that long. Costs
    nothing for the length of a text, nor for what stands before a last user message that is not short.
    """
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if isinstance(message, dict) and message.get("role") == "user":
            text = _text_of(message.get("content"))
            if place and text is not None:
                task = _task_of(messages[0])
                if task is not None:
                    return f"{task}{TASK_MARK}{text}"
                if _is_short(text):
                    earlier = _asked_before(messages, place)
                    if earlier is not None:
                        return f"{text}{MARK}{earlier}"
            return text
    return None


def parted(question: str) -> Parted:
    """A question of `question_of`, or any other text, in its parts."""
    at = question.find(TASK_MARK, 0, _TASK_REACH)
    if at > 0:
        return Parted(question[:at], question[at + len(TASK_MARK) :], material=True)
    at = question.find(MARK, 0, _REACH)
    return Parted(question) if at <= 0 else Parted(question[:at], question[at + len(MARK) :])


def last_message(question: str | None) -> str | None:
    """What the user said last, of a question of `question_of`."""
    if question is None:
        return None
    asked, beside, material = parted(question)
    return beside if material else asked


def _task_of(message: object) -> str | None:
    if not isinstance(message, dict) or message.get("role") not in _SYSTEM:
        return None
    text = _text_of(message.get("content"))
    return None if text is None else standing_task.standing_task(text)


def _is_short(text: str) -> bool:
    return len(text) <= SHORT and (len(text) <= SHORT_WIDE or max(text) < _FIRST_WIDE)


def _asked_before(messages: Sequence[Mapping[str, Any]], end: int) -> str | None:
    """What the user said in the turns before the message at `end`, one a line; None where that is nothing."""
    turns: list[str] = []
    for place in range(end - 1, max(-1, end - 1 - _MOST_MESSAGES), -1):
        message = messages[place]
        if isinstance(message, dict) and message.get("role") == "user":
            text = _text_of(message.get("content"))
            if text is not None:
                turns.append(_ends(text))
            if len(turns) == _MOST_TURNS:
                break
    return _ends("\n".join(reversed(turns))) if turns else None


def _ends(text: str) -> str:
    return text if len(text) <= 2 * _EARLIER else f"{text[:_EARLIER]}\n{text[-_EARLIER:]}"


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
