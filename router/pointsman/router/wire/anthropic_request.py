"""Anthropic's wire format from the engine's side: which requests are valid, and the chat that each asks for.

Every field is listed, as in `openai_request.py`, and any other is refused by name. What a block means is said here;
what a chat is checked for is left to that file, whose errors come back in the caller's words. Nothing here quotes a
value in an error.
"""

from __future__ import annotations

from typing import Any

import orjson

from pointsman.contracts.errors import InvalidRequest
from pointsman.router.wire import fields
from pointsman.router.wire.fields import wrong
from pointsman.router.wire.private_fields import unknown
from pointsman.router.wire.translation import Translate, checked, later, only, plain, same, translated

THINKING_TYPES = ("enabled", "disabled", "adaptive")
ROLES = ("user", "assistant", "system")
MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
MOST_STOPS = 16
DISPLAYS = ("summarized", "omitted")
"""Values of `thinking.display`: whether thinking is shown. It is never summarized here, but shown as it is."""

RENAMED = {
    "stop": "stop_sequences",
    "response_format": "output_config.format",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}
"""Fields of a chat, and what they are called here."""

INNER = {
    ".json_schema.schema": ".schema",
    ".function.parameters": ".input_schema",
    ".function": "",
    ".tool_call_id": ".tool_use_id",
}
"""What stands behind a message's place or a tool's in a chat, and what it is called here."""

_effort = fields.one_of("low", "medium", "high", "xhigh", "max")
_temperature = fields.number(0, 1)
_top_k = fields.integer(0, 2**31 - 1)
_stop_sequences = fields.strings(MOST_STOPS)
_budget = fields.tokens
_TEXT = ("type", "text", "cache_control")


def chat(body: dict[str, Any], places: list[str]) -> dict[str, Any]:
    """
    The chat that `body` asks for; `places` gets the name here of each of its messages' places.

    Raises `InvalidRequest` naming the first field at fault. What a chat is checked for anyway is not checked.
    """
    payload = translated(body, _TRANSLATE)
    if "max_tokens" not in payload:
        raise InvalidRequest("'max_tokens' is missing.", param="max_tokens", code="missing_required_parameter")
    thinking = payload.get("thinking")
    if thinking is not None and thinking.get("budget_tokens", 0) >= _number(payload["max_tokens"]):
        raise wrong("thinking.budget_tokens", "less than 'max_tokens'")
    if "messages" in body:
        payload["messages"] = _messages(body["messages"], body.get("system"), places)
    if payload.get("tool_choice") is not None and not payload.get("tools"):
        raise wrong("tool_choice", "left out where there are no tools")
    return payload


def counted(body: dict[str, Any], places: list[str]) -> dict[str, Any]:
    """The chat whose prompt is that of `body`, which asks how long it is. As `chat`."""
    for name, value in body.items():
        if value is not None and name not in COUNTED_FIELDS:
            raise unknown(name)
    # A budget needs room to be one, and is no part of the prompt.
    thinking = body.get("thinking")
    payload = chat({**body, "thinking": None, "max_tokens": 1}, places)
    if thinking is not None:
        _thinking(thinking, payload)
    return payload


def shows_thinking(body: dict[str, Any]) -> bool:
    """Whether the client of a valid `body` wants to see what was thought."""
    thinking = body.get("thinking")
    return not (thinking and thinking.get("display") == "omitted")


def _number(value: Any) -> int:
    """`value`, where it is one; else more than any, as its own check will say what is wrong with it."""
    return value if fields.is_integer(value) else 1 << 62


# -- fields


def _stop(value: Any, payload: dict[str, Any]) -> None:
    if type(value) is not list or len(value) > MOST_STOPS:
        raise wrong("stop_sequences", f"a list of at most {MOST_STOPS} strings")
    _stop_sequences(value, "stop_sequences")
    if value:
        payload["stop"] = value


def _top_k_of(value: Any, payload: dict[str, Any]) -> None:
    _top_k(value, "top_k")
    if value:  # 0 is no limit, which engines say by another number
        payload["top_k"] = value


def _thinking(value: Any, payload: dict[str, Any]) -> None:
    fields.mapping(value, "thinking")
    kind = value.get("type")
    if type(kind) is not str or kind not in THINKING_TYPES:
        raise wrong("thinking.type", "one of " + ", ".join(THINKING_TYPES))
    for name, item in value.items():
        if name == "budget_tokens":
            _budget(item, "thinking.budget_tokens")
        elif name == "display":
            if item is not None and item not in DISPLAYS:
                raise wrong("thinking.display", "one of " + ", ".join(DISPLAYS))
        elif name != "type":
            raise unknown(f"thinking.{name}")
    if kind == "enabled" and "budget_tokens" not in value:
        raise InvalidRequest(
            "'thinking.budget_tokens' is missing.",
            param="thinking.budget_tokens",
            code="missing_required_parameter",
        )
    payload["thinking"] = {name: item for name, item in value.items() if name != "display"}


def _output_config(value: Any, payload: dict[str, Any]) -> None:
    fields.mapping(value, "output_config")
    for name, item in value.items():
        if item is None:
            continue
        if name == "effort":
            _effort(item, "output_config.effort")
            payload["output_config"] = {"effort": item}
        elif name == "format":
            _format(item, payload)
        else:
            raise unknown(f"output_config.{name}")


def _format(value: Any, payload: dict[str, Any]) -> None:
    place = "output_config.format"
    fields.mapping(value, place)
    if value.get("type") != "json_schema":
        raise wrong(f"{place}.type", "json_schema")
    only(value, place, ("type", "schema"))
    fields.mapping(value.get("schema"), f"{place}.schema")
    payload["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": value["schema"], "strict": True},
    }


def _tools(value: Any, payload: dict[str, Any]) -> None:
    if type(value) is not list:
        raise wrong("tools", "a list of tools")
    payload["tools"] = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(value)]


def _tool(tool: Any, place: str) -> dict[str, Any]:
    fields.mapping(tool, place)
    if tool.get("type") not in (None, "custom"):
        raise wrong(f"{place}.type", "custom: there are no tools of the platform's own here")
    only(tool, place, _TOOL)
    fields.string(tool.get("name"), f"{place}.name")
    fields.mapping(tool.get("input_schema"), f"{place}.input_schema")
    for name, wanted in _WITHOUT_SERVER_TOOLS.items():
        if tool.get(name) not in (None, wanted):
            told = orjson.dumps(wanted).decode()
            raise wrong(f"{place}.{name}", f"{told}: the platform runs no tools")
    schema, examples = tool["input_schema"], tool.get("input_examples")
    if examples is not None:
        if type(examples) is not list:
            raise wrong(f"{place}.input_examples", "a list")
        schema = {**schema, "examples": examples}  # which is JSON Schema's word for it
    function = {"name": tool["name"], "parameters": schema}
    for name, check in (("description", fields.string), ("strict", fields.boolean)):
        if tool.get(name) is not None:
            check(tool[name], f"{place}.{name}")
            function[name] = tool[name]
    _cache_control_of(tool, place)
    return {"type": "function", "function": function}


_WITHOUT_SERVER_TOOLS = {"allowed_callers": ["direct"], "defer_loading": False}
"""Fields of a tool that other tools, which run on the platform, would make use of; each with its one value here."""

_TOOL = (
    *("type", "name", "description", "input_schema", "input_examples", "strict", "cache_control"),
    "eager_input_streaming",  # as is done anyway: arguments are streamed as they are made
    *_WITHOUT_SERVER_TOOLS,
)


def _context_management(value: Any, payload: dict[str, Any]) -> None:
    """What is to be left out of a conversation: nothing is, so that only an edit that keeps all can be had."""
    fields.mapping(value, "context_management")
    only(value, "context_management", ("edits",))
    edits = value.get("edits") or []
    if type(edits) is not list:
        raise wrong("context_management.edits", "a list of edits")
    for index, edit in enumerate(edits):
        place = f"context_management.edits[{index}]"
        fields.mapping(edit, place)
        only(edit, place, ("type", "keep"))
        if edit.get("type") != "clear_thinking_20251015":
            raise wrong(f"{place}.type", "clear_thinking_20251015: conversations are not shortened here")
        if edit.get("keep") not in ("all", {"type": "all"}):
            raise wrong(f"{place}.keep", "all: conversations are not shortened here")


def _thread(value: Any, payload: dict[str, Any]) -> None:
    raise InvalidRequest(
        "'thread' is not supported: nothing is kept between requests.",
        param="thread",
        code="thread_unsupported_request",  # which Anthropic's SDK knows: it then sends the whole conversation
    )


def _tool_choice(value: Any, payload: dict[str, Any]) -> None:
    fields.mapping(value, "tool_choice")
    kind = value.get("type")
    if type(kind) is not str or kind not in _CHOICES:
        raise wrong("tool_choice.type", "one of " + ", ".join(_CHOICES))
    only(value, "tool_choice", ("type", "name", "disable_parallel_tool_use"))
    if kind == "tool":
        fields.string(value.get("name"), "tool_choice.name")
        payload["tool_choice"] = {"type": "function", "function": {"name": value["name"]}}
    else:
        payload["tool_choice"] = _CHOICES[kind]
    single = value.get("disable_parallel_tool_use")
    if single is not None:
        fields.boolean(single, "tool_choice.disable_parallel_tool_use")
        if single:
            payload["parallel_tool_calls"] = False


_CHOICES = {"auto": "auto", "any": "required", "tool": "", "none": "none"}


def _cache_control(value: Any, place: str) -> None:
    """A mark that a prompt is worth keeping up to here, which engines find out by themselves."""
    fields.mapping(value, place)
    only(value, place, ("type", "ttl"))
    if value.get("type") != "ephemeral":
        raise wrong(f"{place}.type", "ephemeral")
    if value.get("ttl") not in (None, "5m", "1h"):
        raise wrong(f"{place}.ttl", "5m or 1h")


def _cache_control_of(block: dict[str, Any], place: str) -> None:
    value = block.get("cache_control")
    if value is not None:
        _cache_control(value, f"{place}.cache_control")


# -- messages


def _messages(messages: Any, system: Any, places: list[str]) -> list[dict[str, Any]]:
    if type(messages) is not list or not messages:
        raise wrong("messages", "a list of at least one message")
    chat: list[dict[str, Any]] = []
    if system is not None:
        content = _texts(system, "system")
        if content:
            chat.append({"role": "system", "content": content})
            places.append("system")
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        text = _usual_text(message)
        if text is not None:
            chat.append({"role": message["role"], "content": text})
            places.append(place)
            continue
        fields.mapping(message, place)
        only(message, place, ("role", "content"))
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise wrong(f"{place}.role", "one of " + ", ".join(ROLES))
        if type(content) is not list or not content:
            raise wrong(f"{place}.content", "a string or a list of content blocks")
        if role == "assistant":
            chat.append(_turn(content, place))
            places.append(place)
        elif role == "system":
            chat.append({"role": role, "content": _texts(content, f"{place}.content")})
            places.append(place)
        else:
            _user(content, place, chat, places)
    if messages[-1].get("role") == "assistant":
        raise wrong(f"messages[{len(messages) - 1}].role", "user: an answer can't be begun for the model here")
    return chat


def _usual_text(message: Any) -> str | None:
    """What a message says that has one text and nothing else; told at a glance, since conversations are long."""
    if type(message) is not dict or len(message) != 2 or message.get("role") not in ROLES:
        return None
    content = message.get("content")
    if type(content) is list and len(content) == 1:
        block = content[0]
        if type(block) is dict and len(block) == 2 and block.get("type") == "text":
            content = block.get("text")
    return content if type(content) is str else None


def _user(content: list[Any], place: str, chat: list[dict[str, Any]], places: list[str]) -> None:
    """What the user says, and the results of tools before it, which are messages of their own in a chat."""
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(content):
        at = f"{place}.content[{index}]"
        if _type_of(block, at) == "tool_result":
            if parts:
                raise wrong(at, "before blocks of other types: results come first")
            chat.append(_result(block, at))
            places.append(at)
        else:
            parts.append(_part(block, at, ("text", "image", "tool_result")))
    if parts:
        chat.append({"role": "user", "content": plain(parts)})
        places.append(place)


def _result(block: dict[str, Any], place: str) -> dict[str, Any]:
    only(block, place, ("type", "tool_use_id", "content", "is_error", "cache_control"))
    fields.string(block.get("tool_use_id"), f"{place}.tool_use_id")
    _cache_control_of(block, place)
    said, content = block.get("content"), f"{place}.content"
    parts: list[dict[str, Any]]
    if said is None or type(said) is str:
        parts = [{"type": "text", "text": said or ""}]
    elif type(said) is list:
        parts = [_part(item, f"{content}[{index}]", ("text", "image")) for index, item in enumerate(said)]
    else:
        raise wrong(content, "a string or a list of content blocks")
    failed = block.get("is_error")
    if failed is not None:
        fields.boolean(failed, f"{place}.is_error")
    if failed:
        parts.insert(0, {"type": "text", "text": "Error:"})
    return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": plain(parts) if parts else ""}


def _turn(content: list[Any], place: str) -> dict[str, Any]:
    """What the assistant has said, thought and called in one turn."""
    texts: list[dict[str, Any]] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for index, block in enumerate(content):
        at = f"{place}.content[{index}]"
        kind = _type_of(block, at)
        if kind == "tool_use":
            calls.append(_call(block, at))
        elif kind == "thinking":
            only(block, at, ("type", "thinking", "signature"))
            fields.string(block.get("thinking"), f"{at}.thinking")
            if block["thinking"]:
                thoughts.append(block["thinking"])
        elif kind == "redacted_thinking":
            fields.string(block.get("data"), f"{at}.data")  # which nobody but its maker can read
        else:
            texts.append(_part(block, at, ("text", "tool_use", "thinking", "redacted_thinking"), only_text=True))
    turn: dict[str, Any] = {"role": "assistant", "content": plain(texts) if texts else None}
    if thoughts:
        turn["reasoning_content"] = "\n\n".join(thoughts)
    if calls:
        turn["tool_calls"] = calls
    elif not texts and not thoughts:
        turn["content"] = ""
    return turn


def _call(block: dict[str, Any], place: str) -> dict[str, Any]:
    only(block, place, ("type", "id", "name", "input", "cache_control", "caller"))
    fields.string(block.get("id"), f"{place}.id")
    fields.string(block.get("name"), f"{place}.name")
    fields.mapping(block.get("input"), f"{place}.input")
    _cache_control_of(block, place)
    try:
        arguments = orjson.dumps(block["input"]).decode()
    except orjson.JSONEncodeError:  # orjson reads four times as deep as it writes
        raise wrong(f"{place}.input", "nested less deeply") from None
    return {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments}}


def _part(block: Any, place: str, known: tuple[str, ...], *, only_text: bool = False) -> dict[str, Any]:
    """A text or an image, as a part of a chat's message; `known` types are told where it is neither."""
    if type(block) is dict and len(block) == 2 and block.get("type") == "text" and type(block.get("text")) is str:
        return block  # the usual block, told at a glance
    kind = _type_of(block, place)
    if kind == "text":
        only(block, place, _TEXT)
        fields.string(block.get("text"), f"{place}.text")
        _cache_control_of(block, place)
        return {"type": "text", "text": block["text"]}
    if kind != "image" or only_text:
        raise wrong(f"{place}.type", "one of " + ", ".join(known))
    only(block, place, ("type", "source", "cache_control"))
    _cache_control_of(block, place)
    source, at = block.get("source"), f"{place}.source"
    fields.mapping(source, at)
    if source.get("type") == "url":
        only(source, at, ("type", "url"))
        fields.string(source.get("url"), f"{at}.url")
        url = source["url"]
    elif source.get("type") == "base64":
        only(source, at, ("type", "media_type", "data"))
        fields.string(source.get("data"), f"{at}.data")
        if source.get("media_type") not in MEDIA_TYPES:
            raise wrong(f"{at}.media_type", "one of " + ", ".join(MEDIA_TYPES))
        url = f"data:{source['media_type']};base64,{source['data']}"
    else:
        raise wrong(f"{at}.type", "base64 or url")
    return {"type": "image_url", "image_url": {"url": url}}


def _texts(value: Any, place: str) -> str | list[dict[str, Any]]:
    """A string or a list of texts."""
    if type(value) is str:
        return value
    if type(value) is not list:
        raise wrong(place, "a string or a list of text blocks")
    if not value:
        return ""
    parts = [_part(block, f"{place}[{index}]", ("text",), only_text=True) for index, block in enumerate(value)]
    return plain(parts)


def _type_of(block: Any, place: str) -> Any:
    fields.mapping(block, place)
    return block.get("type")


_TRANSLATE: dict[str, Translate] = {
    "model": same("model"),
    "messages": later,
    "system": later,
    "max_tokens": same("max_tokens"),
    "stream": same("stream"),
    "stop_sequences": _stop,
    "temperature": same("temperature", _temperature),
    "top_p": same("top_p"),
    "top_k": _top_k_of,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "thinking": _thinking,
    "output_config": _output_config,
    "metadata": same("metadata"),
    "context_management": _context_management,
    "thread": _thread,
    # fields that concern Anthropic's own platform: accepted, since SDKs send them, and of no effect
    "service_tier": checked("service_tier", fields.one_of("auto", "standard_only")),
    "cache_control": checked("cache_control", _cache_control),
}

FIELDS = tuple(_TRANSLATE)
COUNTED_FIELDS = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "cache_control",
        "context_management",
    }
)
"""Fields of a request that asks how long a prompt is."""
