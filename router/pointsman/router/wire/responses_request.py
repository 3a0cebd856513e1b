"""OpenAI's Responses from the engine's side: which requests are valid, and the chat that each asks for.

Every field is listed, as in `openai_request.py`, and any other is refused by name. Nothing is kept between
requests: what would need that (`store`, `previous_response_id`, `conversation`, `background`, references to items)
is refused. What the assistant said, thought and called in one turn are items of their own here, and one message in
a chat. What a chat is checked for is left to `openai_request.py`, whose errors come back in the caller's words.
Nothing here quotes a value in an error.
"""

from __future__ import annotations

from typing import Any

import orjson

from pointsman.contracts.errors import InvalidRequest
from pointsman.router.wire import fields
from pointsman.router.wire.fields import wrong
from pointsman.router.wire.private_fields import unknown
from pointsman.router.wire.translation import Translate, checked, later, only, plain, same, translated

SUMMARIES = ("auto", "concise", "detailed")
"""Values of `reasoning.summary`. Thinking is never summarized here: as a summary it is shown as it is."""

RENAMED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "logprobs": "include",
}
"""Fields of a chat, and what they are called here."""

INNER = {
    ".image_url.url": ".image_url",
    ".image_url.detail": ".detail",
    ".json_schema": "",
    ".allowed_tools": "",
    ".function": "",
    ".tool_call_id": ".call_id",
}
"""What stands behind an item's place or a tool's in a chat, and what it is called here."""

LOGPROBS = "message.output_text.logprobs"
"""Asks for the log-probabilities of the answer's tokens."""

INCLUDABLE = (
    LOGPROBS,
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "message.input_image.image_url",
)
"""
What may be asked to be included. Thinking is always told in clear, so that it can be sent back; the others would
stand in items that no answer has here.
"""

ROLES = ("user", "assistant", "system", "developer")
ITEM_TYPES = ("message", "reasoning", "function_call", "function_call_output")
_KEPT_NOWHERE = "nothing is kept between requests"


def chat(body: dict[str, Any], places: list[str]) -> dict[str, Any]:
    """
    The chat that `body` asks for; `places` gets the name here of each of its messages' places.

    Raises `InvalidRequest` naming the first field at fault. What a chat is checked for anyway is not checked.
    """
    payload = translated(body, _TRANSLATE)
    if body.get("input") is None:
        raise InvalidRequest("'input' is missing.", param="input", code="missing_required_parameter")
    if "top_logprobs" in payload and "logprobs" not in payload and payload.pop("top_logprobs") != 0:
        raise InvalidRequest(
            f"'top_logprobs' needs 'include' to have {LOGPROBS}.", param="top_logprobs", code="invalid_value"
        )
    payload["messages"] = _Messages(places).of(body["input"], body.get("instructions"))
    return payload


def summarizes(body: dict[str, Any]) -> bool:
    """Whether the client of a valid `body` wants to see what was thought as a summary."""
    reasoning = body.get("reasoning") or {}
    return reasoning.get("summary") is not None or reasoning.get("generate_summary") is not None


# -- fields


def _must_be(name: str, wanted: object, why: str) -> Translate:
    """A field with one value that can be had here; `why` says why there is no other."""

    def translate(value: Any, payload: dict[str, Any]) -> None:
        if type(value) is not type(wanted) or value != wanted:
            told = orjson.dumps(wanted).decode()
            raise InvalidRequest(f"'{name}' must be {told}: {why}.", param=name, code="unsupported_value")

    return translate


def _never(name: str, why: str) -> Translate:
    """A field that can't be used here."""

    def translate(value: Any, payload: dict[str, Any]) -> None:
        raise InvalidRequest(f"'{name}' is not supported: {why}.", param=name, code="unsupported_parameter")

    return translate


def _most(value: Any, payload: dict[str, Any]) -> None:
    payload["max_tokens"] = value


def _include(value: Any, payload: dict[str, Any]) -> None:
    if type(value) is not list:
        raise wrong("include", "a list")
    for index, name in enumerate(value):
        if name not in INCLUDABLE:
            raise wrong(f"include[{index}]", "one of " + ", ".join(INCLUDABLE))
        if name == LOGPROBS:
            payload["logprobs"] = True


def _stream_options(value: Any, payload: dict[str, Any]) -> None:
    fields.mapping(value, "stream_options")
    for name, item in value.items():
        if name != "include_obfuscation":
            raise unknown(f"stream_options.{name}")
        if item is not None:
            fields.boolean(item, "stream_options.include_obfuscation")


def _reasoning(value: Any, payload: dict[str, Any]) -> None:
    fields.mapping(value, "reasoning")
    for name, item in value.items():
        if name in ("summary", "generate_summary"):
            if item is not None and item not in SUMMARIES:
                raise wrong(f"reasoning.{name}", "one of " + ", ".join(SUMMARIES))
        elif name != "effort":
            raise unknown(f"reasoning.{name}")
    if value.get("effort") is not None:
        payload["reasoning"] = {"effort": value["effort"]}


def _text(value: Any, payload: dict[str, Any]) -> None:
    fields.mapping(value, "text")
    for name, item in value.items():
        if item is None:
            continue
        if name == "format":
            _format(item, payload)
        elif name == "verbosity":
            if item != "medium":
                raise wrong("text.verbosity", "medium: models here have no other")
        else:
            raise unknown(f"text.{name}")


def _format(value: Any, payload: dict[str, Any]) -> None:
    place = "text.format"
    fields.mapping(value, place)
    kind = value.get("type")
    if kind == "json_schema":
        only(value, place, ("type", "name", "description", "schema", "strict"))
        schema = {name: item for name, item in value.items() if name != "type" and item is not None}
        payload["response_format"] = {"type": kind, "json_schema": schema}
    elif kind in ("text", "json_object"):
        only(value, place, ("type",))
        payload["response_format"] = {"type": kind}
    else:
        raise wrong(f"{place}.type", "one of text, json_object, json_schema")


def _tools(value: Any, payload: dict[str, Any]) -> None:
    if type(value) is not list:
        raise wrong("tools", "a list of tools")
    payload["tools"] = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(value)]


def _function(value: Any, place: str, known: tuple[str, ...]) -> dict[str, Any]:
    """The function that `value` describes, or only names, as a chat has it; it may hold what is `known`."""
    fields.mapping(value, place)
    if value.get("type") != "function":
        raise wrong(f"{place}.type", "function: there are no tools of the platform's own here")
    only(value, place, ("type", *known))
    function = {name: item for name, item in value.items() if name != "type" and item is not None}
    return {"type": "function", "function": function}


def _tool(tool: Any, place: str) -> dict[str, Any]:
    return _function(tool, place, ("name", "description", "parameters", "strict"))


def _tool_choice(value: Any, payload: dict[str, Any]) -> None:
    if value in ("auto", "none", "required"):
        payload["tool_choice"] = value
    elif type(value) is dict and value.get("type") == "function":
        payload["tool_choice"] = _named(value, "tool_choice")
    elif type(value) is dict and value.get("type") == "allowed_tools":
        only(value, "tool_choice", ("type", "mode", "tools"))
        fields.one_of("auto", "required")(value.get("mode"), "tool_choice.mode")
        if type(value.get("tools")) is not list or not value["tools"]:
            raise wrong("tool_choice.tools", "a list of the tools that may be called")
        allowed = [_named(tool, f"tool_choice.tools[{index}]") for index, tool in enumerate(value["tools"])]
        payload["tool_choice"] = {
            "type": "allowed_tools",
            "allowed_tools": {"mode": value["mode"], "tools": allowed},
        }
    else:
        raise wrong("tool_choice", "auto, none, required, or an object of type function or allowed_tools")


def _named(value: Any, place: str) -> dict[str, Any]:
    named = _function(value, place, ("name",))
    fields.string(value.get("name"), f"{place}.name")
    return named


# -- items


class _Messages:
    """Makes messages out of items: those of one turn of the assistant's become one."""

    def __init__(self, places: list[str]) -> None:
        self._places = places
        self._chat: list[dict[str, Any]] = []
        self._turn: dict[str, Any] | None = None

    def of(self, given: Any, instructions: Any) -> list[dict[str, Any]]:
        """The messages for an `input`, behind the `instructions`."""
        if instructions is not None:
            fields.string(instructions, "instructions")
            self._add("instructions", {"role": "system", "content": instructions})
        if type(given) is str:
            self._add("input", {"role": "user", "content": given})
            return self._chat
        if type(given) is not list or not given:
            raise wrong("input", "a string or a list of at least one item")
        for index, item in enumerate(given):
            place = f"input[{index}]"
            fields.mapping(item, place)
            kind = item.get("type") or ("message" if "role" in item else None)
            if kind == "message":
                self._message(item, place)
            elif kind == "reasoning":
                self._reasoning(item, place)
            elif kind == "function_call":
                self._call(item, place)
            elif kind == "function_call_output":
                self._result(item, place)
            elif kind == "item_reference":
                raise InvalidRequest(
                    f"'{place}' refers to another item: {_KEPT_NOWHERE}.", param=place, code="unsupported_value"
                )
            else:
                raise wrong(f"{place}.type", "one of " + ", ".join(ITEM_TYPES))
        if self._turn is not None and not self._turn.get("tool_calls"):
            raise wrong(f"input[{len(given) - 1}]", "the user's: an answer can't be begun for the model here")
        return self._chat

    def _add(self, place: str, message: dict[str, Any]) -> None:
        self._turn = None
        self._chat.append(message)
        self._places.append(place)

    def _of_turn(self, place: str) -> dict[str, Any]:
        """The message of the assistant's present turn; begun by the item at `place`, if by none before."""
        turn = self._turn
        if turn is None:
            turn = {"role": "assistant", "content": None}
            self._add(place, turn)
            self._turn = turn
        return turn

    def _message(self, item: dict[str, Any], place: str) -> None:
        only(item, place, ("type", "role", "content", "id", "status", "phase"))
        role, content = item.get("role"), item.get("content")
        if role not in ROLES:
            raise wrong(f"{place}.role", "one of " + ", ".join(ROLES))
        if type(content) is not str and type(content) is not list:
            raise wrong(f"{place}.content", "a string or a list of parts")
        if role == "assistant":
            self._said(content, place)
        elif type(content) is str:
            self._add(place, {"role": role, "content": content})
        else:
            parts = [_part(part, f"{place}.content[{at}]") for at, part in enumerate(content)]
            self._add(place, {"role": role, "content": plain(parts)})

    def _said(self, content: str | list[Any], place: str) -> None:
        turn = self._of_turn(place)
        texts = [content] if type(content) is str else []
        for at, part in enumerate(content if type(content) is list else ()):
            where = f"{place}.content[{at}]"
            fields.mapping(part, where)
            kind = part.get("type")
            if kind in ("output_text", "input_text"):
                only(part, where, ("type", "text", "annotations", "logprobs", "parsed"))
                fields.string(part.get("text"), f"{where}.text")
                texts.append(part["text"])
            elif kind == "refusal":
                only(part, where, ("type", "refusal"))
                fields.string(part.get("refusal"), f"{where}.refusal")
                turn["refusal"] = turn.get("refusal", "") + part["refusal"]
            else:
                raise wrong(f"{where}.type", "one of output_text, refusal")
        if texts:
            turn["content"] = (turn["content"] or "") + "".join(texts)
        elif turn["content"] is None and not turn.get("refusal"):
            turn["content"] = ""

    def _reasoning(self, item: dict[str, Any], place: str) -> None:
        only(item, place, ("type", "id", "summary", "content", "encrypted_content", "status"))
        told = _thoughts(item.get("content"), f"{place}.content", "reasoning_text")
        summary = _thoughts(item.get("summary"), f"{place}.summary", "summary_text")
        if self._turn is not None and self._turn["content"] is not None:
            self._turn = None  # who thinks after he has spoken begins anew
        if thought := told or summary:
            turn = self._of_turn(place)
            before = turn.get("reasoning_content")
            turn["reasoning_content"] = thought if before is None else f"{before}\n\n{thought}"

    def _call(self, item: dict[str, Any], place: str) -> None:
        only(item, place, ("type", "id", "call_id", "name", "arguments", "parsed_arguments", "status"))
        for name in ("call_id", "name", "arguments"):
            fields.string(item.get(name), f"{place}.{name}")
        try:
            arguments = orjson.loads(item["arguments"] or "{}")
        except orjson.JSONDecodeError:
            arguments = None
        if type(arguments) is not dict:
            raise wrong(f"{place}.arguments", "a JSON object")
        function = {"name": item["name"], "arguments": item["arguments"] or "{}"}
        calls = self._of_turn(place).setdefault("tool_calls", [])
        calls.append({"id": item["call_id"], "type": "function", "function": function})

    def _result(self, item: dict[str, Any], place: str) -> None:
        only(item, place, ("type", "id", "call_id", "output", "status"))
        fields.string(item.get("call_id"), f"{place}.call_id")
        output = item.get("output")
        content: str | list[dict[str, Any]]
        if type(output) is str:
            content = output
        elif type(output) is list:
            content = plain([_part(part, f"{place}.output[{at}]") for at, part in enumerate(output)])
        else:
            raise wrong(f"{place}.output", "a string or a list of parts")
        self._add(place, {"role": "tool", "tool_call_id": item["call_id"], "content": content})


def _thoughts(value: Any, place: str, kind: str) -> str:
    """What was thought, of a list of texts of this `kind`."""
    if value is None:
        return ""
    if type(value) is not list:
        raise wrong(place, f"a list of objects of type {kind}")
    texts = []
    for index, part in enumerate(value):
        at = f"{place}[{index}]"
        fields.mapping(part, at)
        only(part, at, ("type", "text"))
        if part.get("type") != kind:
            raise wrong(f"{at}.type", kind)
        fields.string(part.get("text"), f"{at}.text")
        texts.append(part["text"])
    return "\n\n".join(texts)


def _part(part: Any, place: str) -> dict[str, Any]:
    """A text or an image, as a part of a chat's message."""
    fields.mapping(part, place)
    kind = part.get("type")
    if kind == "input_text":
        only(part, place, ("type", "text"))
        fields.string(part.get("text"), f"{place}.text")
        return {"type": "text", "text": part["text"]}
    if kind != "input_image":
        raise wrong(f"{place}.type", "one of input_text, input_image")
    only(part, place, ("type", "image_url", "detail"))
    fields.string(part.get("image_url"), f"{place}.image_url")
    image = {"url": part["image_url"]}
    if part.get("detail") is not None:
        image["detail"] = part["detail"]
    return {"type": "image_url", "image_url": image}


_TRANSLATE: dict[str, Translate] = {
    "model": same("model"),
    "input": later,
    "instructions": later,
    "max_output_tokens": _most,
    "stream": same("stream"),
    "temperature": same("temperature"),
    "top_p": same("top_p"),
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": same("parallel_tool_calls"),
    "reasoning": _reasoning,
    "text": _text,
    "metadata": same("metadata"),
    "user": same("user"),
    "include": _include,
    "top_logprobs": same("top_logprobs"),
    "stream_options": _stream_options,
    "store": _must_be("store", False, _KEPT_NOWHERE),
    "background": _must_be("background", False, _KEPT_NOWHERE),
    "truncation": _must_be("truncation", "disabled", "nothing of a conversation is left out here"),
    "previous_response_id": _never("previous_response_id", _KEPT_NOWHERE),
    "conversation": _never("conversation", _KEPT_NOWHERE),
    "prompt": _never("prompt", _KEPT_NOWHERE),
    # fields that concern OpenAI's own platform, and its own tools: accepted, since SDKs send them, and of no effect
    "max_tool_calls": checked("max_tool_calls", fields.integer(1)),
    "service_tier": same("service_tier"),
    "safety_identifier": same("safety_identifier"),
    "prompt_cache_key": same("prompt_cache_key"),
    "prompt_cache_retention": checked("prompt_cache_retention", fields.string),
}

FIELDS = tuple(_TRANSLATE)
