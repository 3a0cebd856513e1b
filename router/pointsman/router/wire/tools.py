"""The tools that a request offers: whether they are well described, and what is remembered of them.

Stands beside the request's other fields because tools are the largest of them and change least: an agent sends the
same ones with every turn. What follows from them is worked out once and found again by their bytes. Schemas are a
tenant's own words and may be hostile: nothing that they refer to is fetched, and what they may cost is bounded.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, NamedTuple

import jsonschema_rs
import orjson

from pointsman.contracts.errors import InvalidRequest
from pointsman.router.wire import fields
from pointsman.router.wire.fields import wrong
from pointsman.router.wire.private_fields import unknown

MAX_TOOLS = 512
"""Tools of one request."""

MAX_BYTES = 512 * 1024
"""Bytes of all tools of one request: looking at so many takes a few milliseconds."""

REMEMBERED, REMEMBERED_BYTES = 256, 32 * 1024
"""How many sets of tools are remembered, and the bytes of the largest one that is."""

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_SHOWN_PATH = 8
"""Steps into a schema that an error names."""

_SCHEMA_OF_SCHEMAS = jsonschema_rs.validator_for(
    {"$ref": "https://json-schema.org/draft/2020-12/schema"}, offline=True
)


class Tool(NamedTuple):
    """One function that the model may call."""

    required: tuple[str, ...]
    """Arguments that every call must have."""
    strict: bool
    """Whether every call must fit the whole of `schema`."""
    schema: Any
    """JSON schema of the arguments; None where there is none."""


Toolbox = dict[str, Tool]
"""The tools of one request, by name; not to be changed."""

_known: OrderedDict[bytes, Toolbox] = OrderedDict()


def toolbox_of(tools: list[Any]) -> Toolbox:
    """What `tools`, the field of a request, offers. Raises `InvalidRequest` naming the first part at fault."""
    try:
        written = orjson.dumps(tools)
    except orjson.JSONEncodeError:
        raise InvalidRequest("'tools' is nested too deeply.", param="tools", code="invalid_json") from None
    known = _known.get(written)
    if known is not None:
        _known.move_to_end(written)
        return known
    if len(written) > MAX_BYTES:
        raise wrong("tools", f"at most {MAX_BYTES} bytes long")
    box: Toolbox = {}
    for index, tool in enumerate(tools):
        name, read = _tool(tool, f"tools[{index}]")
        if name in box:
            raise InvalidRequest(
                f"'tools[{index}].function.name' is the name of an earlier tool.",
                param=f"tools[{index}].function.name",
                code="invalid_value",
            )
        box[name] = read
    if len(written) <= REMEMBERED_BYTES:
        _known[written] = box
        if len(_known) > REMEMBERED:
            _known.popitem(last=False)
    return box


def check_tools(value: Any, field: str) -> None:
    """What can be told at a glance; the rest is seen by `toolbox_of`."""
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise wrong(field, f"a list of at most {MAX_TOOLS} tools")


def check_choice(value: Any, field: str) -> None:
    """One of OpenAI's words, the name of one function, or those of the functions that may be called."""
    if isinstance(value, str):
        fields.one_of("none", "auto", "required")(value, field)
        return
    if not isinstance(value, dict):
        raise wrong(field, "none, auto, required, or an object that names functions")
    if value.get("type") != "allowed_tools":
        _named(value, field)
        return
    _only(value, ("type", "allowed_tools"), field)
    place = f"{field}.allowed_tools"
    allowed = value.get("allowed_tools")
    fields.mapping(allowed, place)
    assert isinstance(allowed, dict)
    _only(allowed, ("mode", "tools"), place)
    fields.one_of("auto", "required")(allowed.get("mode"), f"{place}.mode")
    named = allowed.get("tools")
    if not isinstance(named, list) or not 1 <= len(named) <= MAX_TOOLS:
        raise wrong(f"{place}.tools", f"a list of 1 to {MAX_TOOLS} tools")
    for index, tool in enumerate(named):
        _named(tool, f"{place}.tools[{index}]")


def _named(value: Any, place: str) -> None:
    function = _function(value, place, ("name",))
    fields.string(function.get("name"), f"{place}.function.name")


def check_response_format(value: Any, field: str) -> None:
    """OpenAI's `response_format`: text, any JSON object, or JSON that keeps to a schema."""
    fields.mapping(value, field)
    fields.one_of("text", "json_object", "json_schema")(value.get("type"), f"{field}.type")
    if value["type"] != "json_schema":
        _only(value, ("type",), field)
        return
    _only(value, ("type", "json_schema"), field)
    place = f"{field}.json_schema"
    form = value.get("json_schema")
    fields.mapping(form, place)
    assert isinstance(form, dict)
    _only(form, ("name", "description", "schema", "strict"), place)
    _name(form.get("name"), f"{place}.name")
    _words(form, place)
    schema = form.get("schema")
    fields.mapping(schema, f"{place}.schema")
    try:
        size = len(orjson.dumps(schema))
    except orjson.JSONEncodeError:
        raise wrong(f"{place}.schema", "nested less deeply") from None
    if size > MAX_BYTES:
        raise wrong(f"{place}.schema", f"at most {MAX_BYTES} bytes long")
    _check_schema(schema, f"{place}.schema")


def settle_choice(payload: dict[str, Any]) -> Toolbox | None:
    """
    The tools of a request whose fields have been checked one by one, or None where it offers none.

    A request without tools loses the fields that say how to call them, and one that allows some of its tools the
    others: engines know no such choice. Raises `InvalidRequest` where `tool_choice` demands what is not offered.
    """
    tools, choice = payload.get("tools"), payload.get("tool_choice")
    if not tools:
        if choice == "required" or isinstance(choice, dict):
            raise InvalidRequest(
                "'tool_choice' demands a call, but 'tools' offers nothing to call.",
                param="tool_choice",
                code="invalid_value",
            )
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            payload.pop(name, None)
        return None
    box = toolbox_of(tools)
    if not isinstance(choice, dict):
        return box
    if choice["type"] == "function":
        _check_offered(choice, box, "tool_choice.function.name")
        return box
    allowed = choice["allowed_tools"]
    for index, tool in enumerate(allowed["tools"]):
        _check_offered(tool, box, f"tool_choice.allowed_tools.tools[{index}]")
    names = {tool["function"]["name"] for tool in allowed["tools"]}
    payload["tools"] = [tool for tool in tools if tool["function"]["name"] in names]
    payload["tool_choice"] = allowed["mode"]
    return {name: tool for name, tool in box.items() if name in names}


def _check_offered(named: dict[str, Any], box: Toolbox, field: str) -> None:
    if named["function"]["name"] not in box:
        raise InvalidRequest(f"'{field}' names no tool in 'tools'.", param=field, code="invalid_value")


def demands_call(payload: dict[str, Any]) -> bool:
    """Whether the answer must call a tool."""
    choice = payload.get("tool_choice")
    return choice == "required" or type(choice) is dict


def _function(value: Any, place: str, known: tuple[str, ...]) -> dict[str, Any]:
    """The function that `value` describes, or only names; raises `InvalidRequest` for more than what is `known`."""
    fields.mapping(value, place)
    if value.get("type") != "function":
        raise wrong(f"{place}.type", "function")
    _only(value, ("type", "function"), place)
    function: Any = value.get("function")
    fields.mapping(function, f"{place}.function")
    _only(function, known, f"{place}.function")
    described: dict[str, Any] = function
    return described


def _tool(tool: Any, place: str) -> tuple[str, Tool]:
    function = _function(tool, place, ("name", "description", "parameters", "strict"))
    place = f"{place}.function"
    name: Any = function.get("name")
    _name(name, f"{place}.name")
    _words(function, place)
    schema = function.get("parameters")
    if schema is None:
        return name, Tool((), False, None)
    fields.mapping(schema, f"{place}.parameters")
    _check_schema(schema, f"{place}.parameters")
    if schema.get("type", "object") != "object":
        raise wrong(f"{place}.parameters.type", "object: arguments have names")
    return name, Tool(tuple(schema.get("required", ())), function.get("strict") is True, schema)


def _words(value: dict[str, Any], place: str) -> None:
    for name, check in (("description", fields.string), ("strict", fields.boolean)):
        if value.get(name) is not None:
            check(value[name], f"{place}.{name}")


def _name(value: Any, field: str) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise wrong(field, "1 to 64 letters, digits, and any of _ . -")


def _only(value: dict[str, Any], names: tuple[str, ...], place: str) -> None:
    for name, item in value.items():
        if name not in names and item is not None:
            raise unknown(f"{place}.{name}")


def _check_schema(schema: Any, place: str) -> None:
    """Raise `InvalidRequest`, naming the keyword at fault, where `schema` is not JSON Schema."""
    try:
        if _SCHEMA_OF_SCHEMAS.is_valid(schema):
            return
        path = next(iter(_SCHEMA_OF_SCHEMAS.iter_errors(schema))).instance_path
    except (TypeError, ValueError, RecursionError):  # what jsonschema_rs makes of a schema without a bottom
        raise wrong(place, "JSON Schema that is nested less deeply") from None
    steps = [str(step) for step in path[:_SHOWN_PATH]]
    if any(len(step) > 64 or not step.isprintable() for step in steps):
        steps = []
    raise wrong(".".join([place, *steps]), "valid JSON Schema (2020-12)")
