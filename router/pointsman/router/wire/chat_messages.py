"""The messages of a chat: what each may hold, and that every call of a tool is followed by its result.

Stands apart from the request's other fields because a conversation is the largest part of most requests, and each
message is looked at every time: the usual one is told at a glance. Nothing here quotes a value in an error.
"""

from __future__ import annotations

from typing import Any

import orjson

from pointsman.contracts.errors import InvalidRequest
from pointsman.router.wire import fields
from pointsman.router.wire.fields import wrong
from pointsman.router.wire.private_fields import unknown

ROLES = ("system", "developer", "user", "assistant", "tool")
PARTS = {"text": "text", "image_url": "image_url"}
"""Types of content parts, and the field that holds each one's content."""

DETAILS = ("auto", "low", "high")
"""How closely a model looks at an image."""

INLINE = "data:image/"
"""Begins an image that comes with the request."""

_PLAIN_ROLES = ("user", "system", "assistant")
_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "refusal"})
"""What a message may hold. SDKs send back an assistant's message as it came, with null for what it has not."""

_NOTES = ("annotations", "parsed", "provider_specific_fields", "thinking_blocks")
"""What SDKs add to an assistant's message for themselves, and send back: taken out, of no use to engines."""


def check_messages(value: Any, field: str) -> None:
    """Raise `InvalidRequest`, naming the place, where `value` is no conversation; SDKs' own notes are taken out."""
    if not isinstance(value, list) or not value:
        raise wrong(field, "a list of at least one message")
    open_calls: dict[str, str] = {}  # the last turn's calls without a result, and where each stands
    for index, message in enumerate(value):
        # The usual message, told at a glance: conversations are long.
        if (
            type(message) is dict
            and len(message) == 2
            and type(message.get("content")) is str
            and message.get("role") in _PLAIN_ROLES
        ):
            if open_calls:
                raise _unanswered(open_calls)
            continue
        place = f"{field}[{index}]"
        _message(message, place)
        if message["role"] == "tool":
            _take_result(message, place, open_calls)
            continue
        if open_calls:
            raise _unanswered(open_calls)
        if message.get("tool_calls") is not None:
            open_calls = _calls(message, f"{place}.tool_calls")
    if open_calls:
        raise _unanswered(open_calls)


def image_needs(messages: list[dict[str, Any]]) -> dict[str, str]:
    """The capabilities that the images of checked `messages` need, each with the field of the last such image."""
    needs: dict[str, str] = {}
    for index, message in enumerate(messages):
        content = message.get("content")
        if type(content) is not list:
            continue
        for position, part in enumerate(content):
            if part["type"] == "image_url":
                place = f"messages[{index}].content"
                needs["images"] = place
                if not part["image_url"]["url"].startswith(INLINE):
                    needs["remote_images"] = f"{place}[{position}].image_url.url"
    return needs


def _message(message: Any, field: str) -> None:
    fields.mapping(message, field)
    role = message.get("role")
    if role not in ROLES:
        raise wrong(f"{field}.role", "one of " + ", ".join(ROLES))
    for name in _NOTES:
        message.pop(name, None)
    if role == "developer":
        message["role"] = "system"  # the same in other words, which most chat templates don't know and leave out
    for name, item in message.items():
        if name not in _FIELDS and item is not None:
            raise unknown(f"{field}.{name}")
    for name in ("name", "reasoning_content", "refusal"):
        if message.get(name) is not None:
            fields.string(message[name], f"{field}.{name}")
    for name, owner in (("tool_calls", "assistant"), ("refusal", "assistant"), ("tool_call_id", "tool")):
        if message.get(name) is not None and role != owner:
            raise wrong(f"{field}.{name}", f"in messages of role {owner} only")
    content, refusal = message.get("content"), message.pop("refusal", None)
    if refusal:  # a text like any other to engines, which read no such field
        if isinstance(content, list):
            content = [*content, {"type": "text", "text": refusal}]
        else:
            content = f"{content}\n{refusal}" if content else refusal
        message["content"] = content
    if isinstance(content, str):
        return
    if content is None:
        said = ("tool_calls", "reasoning_content")
        if role != "assistant" or not any(message.get(name) for name in said):
            raise wrong(f"{field}.content", "a string or a list of content parts")
        return
    if not isinstance(content, list) or not content:
        raise wrong(f"{field}.content", "a string or a list of content parts")
    for index, part in enumerate(content):
        if role == "assistant" and type(part) is dict and part.get("type") == "refusal":
            fields.string(part.get("refusal"), f"{field}.content[{index}].refusal")
            content[index] = {"type": "text", "text": part["refusal"]}
        else:
            _part(part, f"{field}.content[{index}]")


def _part(part: Any, place: str) -> None:
    if type(part) is dict and len(part) == 2 and part.get("type") == "text" and type(part.get("text")) is str:
        return  # the usual part, told at a glance
    fields.mapping(part, place)
    kind = part.get("type")
    if type(kind) is not str or kind not in PARTS:
        raise wrong(f"{place}.type", "one of " + ", ".join(PARTS))
    part.pop("cache_control", None)  # a mark of other platforms, which engines have no need of
    for name, item in part.items():
        if name not in ("type", PARTS[kind]) and item is not None:
            raise unknown(f"{place}.{name}")
    if kind == "text":
        fields.string(part.get("text"), f"{place}.text")
        return
    place = f"{place}.image_url"
    image = part.get("image_url")
    fields.mapping(image, place)
    for name, item in image.items():
        if name not in ("url", "detail") and item is not None:
            raise unknown(f"{place}.{name}")
    url = image.get("url")
    # A path would be read from the engine's own disk.
    if not isinstance(url, str) or not url.startswith((INLINE, "https://", "http://")):
        raise wrong(f"{place}.url", f"a URL that begins with {INLINE}, https:// or http://")
    if image.get("detail") is not None:
        fields.one_of(*DETAILS)(image["detail"], f"{place}.detail")


def _calls(message: dict[str, Any], field: str) -> dict[str, str]:
    """The ids of the calls of an assistant's message, and where each stands."""
    calls = message["tool_calls"]
    if not isinstance(calls, list):
        raise wrong(field, "a list of tool calls")
    ids: dict[str, str] = {}
    for index, call in enumerate(calls):
        place = f"{field}[{index}]"
        fields.mapping(call, place)
        if call.get("type", "function") != "function":
            raise wrong(f"{place}.type", "function")
        function = call.get("function")
        fields.mapping(function, f"{place}.function")
        for name in ("name", "arguments"):
            if not isinstance(function.get(name), str):
                raise wrong(f"{place}.function.{name}", "a string")
        if not function["name"]:
            raise wrong(f"{place}.function.name", "the name of a tool")
        if not _is_object(function["arguments"]):
            raise wrong(f"{place}.function.arguments", "a JSON object, as a string")
        name = call.get("id")
        if not isinstance(name, str) or not name or name in ids:
            raise wrong(f"{place}.id", "a string that no other call of the message has")
        ids[name] = place
    return ids


def _is_object(text: str) -> bool:
    if text == "{}":
        return True
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _take_result(message: dict[str, Any], place: str, open_calls: dict[str, str]) -> None:
    """Raise `InvalidRequest` where a result belongs to no call of the turn before it."""
    name = message.get("tool_call_id")
    if not isinstance(name, str):
        raise wrong(f"{place}.tool_call_id", "the id of the call whose result this is")
    if open_calls.pop(name, None) is None:
        raise InvalidRequest(
            f"'{place}.tool_call_id' names no call of the assistant's message before it that still needs a result.",
            param=f"{place}.tool_call_id",
            code="invalid_value",
        )


def _unanswered(open_calls: dict[str, str]) -> InvalidRequest:
    place = next(iter(open_calls.values()))
    return InvalidRequest(
        f"'{place}' has no result: each call must be followed by a message of role tool with its id.",
        param=place,
        code="invalid_value",
    )
