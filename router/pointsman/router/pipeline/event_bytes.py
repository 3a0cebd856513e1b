"""What one event of a stream is, told from its bytes as far as that goes.

Stands below `events.py`, which asks for most events of most streams: each answer is a few searches, and no parsing.
A quote inside a text is escaped, so that no text is ever taken for a key.
"""

from __future__ import annotations

from typing import Any

import orjson

REASONING = b'"reasoning_content":"'
"""What stands before the text of an event that is thinking."""

_TEXT = b"data: {"
_OBJECT_STARTS = (_TEXT, b"data:{")
_ENDS = (b"}\n\n\r\n", b"}\r\n\r\n\r\n")  # of an event that is one chunk, with the chunk's own line end
_NO_USAGE = tuple(b'"usage":' + null + end for null in (b"null", b" null") for end in _ENDS)
_SAYS = (b'"content":"', b'"content": "', b'"refusal":"', b'"refusal": "', b'"text":"')
_SAYS_NOTHING = tuple(key + b'"' for key in _SAYS)
_TOOL_CALLS = (b'"tool_calls":[{', b'"tool_calls": [{')
_FINISH = b'"finish_reason":'
_NULLS = (b"null", b" null")


def calls_tool(event: bytes) -> bool:
    """Whether `event` holds any of a tool call."""
    return _TOOL_CALLS[0] in event or _TOOL_CALLS[1] in event


def speaks(event: bytes) -> bool:
    """Whether `event` holds any of an answer."""
    if calls_tool(event):
        return True
    said = sum(map(event.count, _SAYS))
    return bool(said) and said > sum(map(event.count, _SAYS_NOTHING))


def finishes(event: bytes) -> bool:
    """Whether `event` has a finish reason."""
    at = event.rfind(_FINISH)
    return at >= 0 and not event.startswith(_NULLS, at + len(_FINISH))


def finish_reason(chunk: dict[str, Any]) -> str:
    """Why the output ended, or nothing."""
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and isinstance(choice.get("finish_reason"), str):
            return str(choice["finish_reason"])
    return ""


def is_text_chunk(rest: bytes) -> bool:
    """`is_text` of a chunk's data and its line end."""
    return (
        rest.startswith(_TEXT)
        and rest.endswith(_ENDS)
        and rest.find(b"\n") >= len(rest) - 5  # one line, hence one event
        and rest.rfind(b'"error"') < 0
        and not finishes(rest)
        and (rest.rfind(b'"usage"') < 0 or rest.endswith(_NO_USAGE) or not _tells_usage(rest))
    )


def is_text(event: bytes) -> bool:
    """Whether `event` certainly has no usage, error or finish reason, nor is the end: no such key is in it."""
    return (
        event.startswith(_OBJECT_STARTS)
        and event.endswith(b"}")
        and b"\n" not in event
        and b'"error"' not in event
        and not finishes(event)
        and not (b'"usage"' in event and _tells_usage(event))
    )


def _tells_usage(event: bytes) -> bool:
    """Whether a key `usage` has a value."""
    return event.count(b'"usage"') > event.count(b'"usage":null') + event.count(b'"usage": null')


def is_error(chunk: dict[str, Any]) -> bool:
    return bool(chunk.get("error")) or chunk.get("object") == "error"


def parsed(event: bytes) -> dict[str, Any] | None:
    """The JSON object that is the data of `event`, or None where it has none."""
    if not event.startswith(_OBJECT_STARTS):
        return None
    try:
        parsed = orjson.loads(event[5:])
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None
