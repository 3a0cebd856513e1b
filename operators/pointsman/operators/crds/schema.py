"""pydantic models as structural schemas, the part of OpenAPI that an API server checks and fills in by itself.

Walks the models beside the JSON Schema that pydantic makes of them: the one knows classes and defaults, the other
types and bounds. What a JSON Schema cannot say, rules in CEL do: see `rules.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pointsman.contracts.config_types import DIGEST_PATTERN, LANGUAGE_PATTERN, PATTERN_MEANINGS
from pointsman.contracts.docstrings import member_docstrings
from pointsman.operators.crds.rules import (
    LONGEST_ENTRIES,
    LONGEST_LISTS,
    RULES,
    SETS_AND_MAPS,
    Rule,
    key_rule,
    money_rule,
    pattern_rule,
    reserved_arguments,
)
from pointsman.operators.spelling import camel, camel_text, model_of_field, to_camel

Schema = dict[str, Any]

LONGEST_TEXT = 4096
"""Characters of a text that the configuration leaves unbounded: the API server counts what a rule costs at most."""

LONGEST_LIST = 1024
"""Entries of a list or a mapping that the configuration leaves unbounded."""

_LENGTH_OF_PATTERN = {DIGEST_PATTERN: 64, LANGUAGE_PATTERN: 3}


def structural(parts: Iterable[tuple[type[BaseModel], Iterable[str]]], *, rules: Iterable[Rule] = ()) -> Schema:
    """
    The schema of an object made of the given fields of several models, spelled in camelCase.

    `rules` hold between fields of different models.
    """
    schema: Schema = {"type": "object", "properties": {}}
    required: list[str] = []
    said = list(rules)
    for model, fields in parts:
        own = _object(model)
        for name in map(camel, fields):
            schema["properties"][name] = own["properties"][name]
            if name in own.get("required", ()):
                required.append(name)
        said += RULES.get(model, ())
    if required:
        schema["required"] = required
    return _with_rules(schema, said)


@cache
def _whole(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _object(model: type[BaseModel]) -> Schema:
    whole = _whole(model)
    schema: Schema = {
        "type": "object",
        "description": _said(inspect.cleandoc(model.__doc__ or "")),
        "properties": {},
    }
    for name, node in whole["properties"].items():
        schema["properties"][camel(name)] = _field(model, name, node, whole.get("$defs", {}))
    if required := [camel(name) for name in whole.get("required", ())]:
        schema["required"] = required
    return schema


def _field(model: type[BaseModel], name: str, node: Schema, definitions: Schema) -> Schema:
    info = model.model_fields[name]
    schema = _value(node, definitions, model_of_field(model, name))
    if (longest := LONGEST_LISTS.get((model, name))) is not None:
        schema["maxItems"] = longest
    if (longest := LONGEST_ENTRIES.get((model, name))) is not None:
        schema["items"]["maxLength"] = longest
    schema |= SETS_AND_MAPS.get((model, name), {})
    if reserved := reserved_arguments(model, name):
        schema["properties"] = reserved
    description = _said(info.description or "")
    if choice := _choice_in(info.annotation):
        description = f"{description} {_choices(choice)}"
    default = _default(info)
    return {
        **({"description": description.strip()} if description else {}),
        **({} if default is None else {"default": default}),
        **{key: value for key, value in schema.items() if key not in ("description", "default")},
    }


def _default(info: FieldInfo) -> Any:
    """
    What the API server is to fill in; None: nothing.

    Of a part with fields of its own all that it fills in there too: rules look at a default before that is done.
    Empty lists and mappings are not filled in: they would be noise.
    """
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return None
    plain = _filled(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)
    if isinstance(value, BaseModel):
        return to_camel(type(value), plain)
    return None if plain in ([], {}) else plain


def _filled(value: Any) -> Any:
    """`value` in plain shapes, without what is empty or not there."""
    if isinstance(value, dict):
        plain = {key: _filled(item) for key, item in value.items()}
        return {key: item for key, item in plain.items() if item is not None and item not in ([], {})}
    if isinstance(value, tuple | list):
        return [_filled(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _value(node: Schema, definitions: Schema, model: type[BaseModel] | None) -> Schema:
    """The schema of one value; `model` is the class where it, or each entry of it, is an object of ours."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if model is not None and model.__name__ == name:
            return _with_rules(_object(model), RULES.get(model, ()))
        return _value(definitions[name], definitions, model)
    if "anyOf" in node:
        return _one_of([kind for kind in node["anyOf"] if kind.get("type") != "null"], definitions, model)
    match node.get("type"):
        case "array":
            items = node["prefixItems"][0] if "prefixItems" in node else node["items"]
            bounds: Schema = {key: node[key] for key in ("minItems", "maxItems") if key in node}
            return {"type": "array", "maxItems": LONGEST_LIST, **bounds, "items": _value(items, definitions, model)}
        case "object" if "properties" not in node:
            return _mapping(node, definitions)
        case "object":
            properties = {
                camel(name): _value(inner, definitions, None) for name, inner in node["properties"].items()
            }
            descriptions = {camel(name): inner.get("description") for name, inner in node["properties"].items()}
            for name, said in descriptions.items():
                if said:
                    properties[name] = {"description": _said(said), **properties[name]}
            return {"type": "object", "properties": properties, "required": [*map(camel, node.get("required", ()))]}
        case "string":
            return _text(node)
        case "integer" | "number":
            return _number(node)
        case "boolean":
            return {"type": "boolean"}
    return {"x-kubernetes-preserve-unknown-fields": True}  # JSON of any kind


def _one_of(kinds: list[Schema], definitions: Schema, model: type[BaseModel] | None) -> Schema:
    match [kind.get("type") for kind in kinds]:
        case ["number", "string"]:
            rule = money_rule(kinds[0]["maximum"])
            return {"x-kubernetes-int-or-string": True, "maxLength": 24, **_rules_of([rule])}
        case ["integer", "string"]:
            return {"x-kubernetes-int-or-string": True, "maxLength": 32, "pattern": kinds[1]["pattern"]}
    (kind,) = kinds
    return _value(kind, definitions, model)


def _mapping(node: Schema, definitions: Schema) -> Schema:
    bounds = {"maxProperties": node.get("maxProperties", LONGEST_LIST)}
    if patterns := node.get("patternProperties"):
        ((pattern, inner),) = patterns.items()
        values = _value(inner, definitions, None)
        return {"type": "object", "additionalProperties": values, **bounds, **_rules_of([key_rule(pattern)])}
    values = _value(node["additionalProperties"], definitions, None) if node.get("additionalProperties") else {}
    if values.keys() <= {"x-kubernetes-preserve-unknown-fields"}:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"type": "object", "additionalProperties": values, **bounds}


def _text(node: Schema) -> Schema:
    if "enum" in node or "const" in node:
        return {"type": "string", "enum": node.get("enum") or [node["const"]]}
    schema: Schema = {"type": "string", "maxLength": node.get("maxLength", LONGEST_TEXT)}
    if "minLength" in node:
        schema["minLength"] = node["minLength"]
    if "format" in node:
        schema["format"] = node["format"]
    if (pattern := node.get("pattern")) is None:
        return schema
    if pattern in PATTERN_MEANINGS:
        # A rule and no pattern: it says in words what is asked for.
        schema["maxLength"] = node.get("maxLength", _LENGTH_OF_PATTERN.get(pattern, 128))
        return schema if pattern == DIGEST_PATTERN else schema | _rules_of([pattern_rule(pattern)])
    return schema | {"pattern": pattern}


def _number(node: Schema) -> Schema:
    schema: Schema = {"type": node["type"]}
    if node["type"] == "integer":
        schema["format"] = "int64" if node.get("maximum", 2**63) >= 2**31 else "int32"
    else:
        schema["format"] = "double"
    if "exclusiveMinimum" in node:
        schema |= {"minimum": node["exclusiveMinimum"], "exclusiveMinimum": True}
    elif "minimum" in node:
        schema["minimum"] = node["minimum"]
    if "maximum" in node:
        schema["maximum"] = node["maximum"]
    return schema


def _with_rules(schema: Schema, rules: Iterable[Rule]) -> Schema:
    return schema | _rules_of([*rules])


def _rules_of(rules: list[Rule]) -> Schema:
    return {"x-kubernetes-validations": [rule.written() for rule in rules]} if rules else {}


def _choice_in(kind: Any) -> type[StrEnum] | None:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind
    return next((choice for inner in get_args(kind) if (choice := _choice_in(inner))), None)


def _choices(choice: type[StrEnum]) -> str:
    meanings = member_docstrings(choice)
    return " ".join(f"`{member}`: {_said(meanings[member.name])}" for member in choice if member.name in meanings)


def _said(text: str) -> str:
    return camel_text(" ".join(text.split()))
