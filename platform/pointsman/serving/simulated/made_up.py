"""Values that a JSON schema asks for, made up: arguments of tool calls, and answers that are held to a schema.

Stands beside `script.py`, which puts them into tokens. A value has what the schema requires and no more, and texts
in it say that they are simulated. Keywords that would need a search, such as `pattern`, are refused: a value that
breaks them would pretend that the schema was followed. Pure, and knows a schema's form only as far as it needs.
"""

from __future__ import annotations

import math
from typing import Any

from pointsman.serving.simulated import tokens

MAX_DEPTH = 24
"""Levels of a value; a schema that asks for more, as one that requires itself does, is refused."""

MAX_ITEMS = 1000
"""Entries of a list, and characters of a text, at most."""

_NOT_FOLLOWED = frozenset(
    {
        "pattern",
        "patternProperties",
        "propertyNames",
        "not",
        "if",
        "contains",
        "dependentRequired",
        "dependentSchemas",
        "minProperties",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$dynamicRef",
    }
)


class NotFollowed(Exception):
    """The schema asks for more than can be made up; says which keyword, or that it is too much."""


def made_up(schema: Any) -> Any:
    """A value that fits `schema`, the same each time. Raises `NotFollowed`."""
    return _Maker(schema).value(schema, MAX_DEPTH)


class _Maker:
    """Makes values for parts of one schema, to which they may refer."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def value(self, schema: Any, depth: int) -> Any:
        if schema is True:
            return tokens.MARK
        if not isinstance(schema, dict) or depth == 0:
            raise NotFollowed("a value that deep, or none at all")
        schema = self._plain(schema, depth)
        if found := sorted(_NOT_FOLLOWED & schema.keys()):
            raise NotFollowed(found[0])
        if "const" in schema or "enum" in schema:
            return _listed(schema)
        match _kind(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._list(schema, depth)
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _text(schema)

    def _plain(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """`schema` without references and alternatives: the first alternative that a value can be made for."""
        steps = depth
        while "$ref" in schema or "allOf" in schema:
            steps -= 1
            if steps < 0:
                raise NotFollowed("$ref")
            schema = dict(schema)
            parts = schema.pop("allOf", [])
            if "$ref" in schema:
                parts = [*parts, self._target(schema.pop("$ref"))]
            for part in parts:
                schema = _both(schema, part)
        for name in ("anyOf", "oneOf"):
            if name not in schema:
                continue
            rest = {key: item for key, item in schema.items() if key != name}
            problem = NotFollowed(name)
            for part in schema[name]:
                try:
                    chosen = self._plain(_both(rest, part), depth - 1) if depth else rest
                    self.value(chosen, depth - 1)
                except NotFollowed as error:
                    problem = error
                    continue
                return chosen
            raise problem
        return schema

    def _target(self, reference: Any) -> Any:
        at = self._root
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise NotFollowed("$ref")
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(at, dict) or step not in at:
                raise NotFollowed("$ref")
            at = at[step]
        return at

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        known = schema.get("properties", {})
        required = set(schema.get("required", ()))
        names = [name for name in known if name in required] + sorted(required - known.keys())
        other = schema.get("additionalProperties", True)
        return {name: self.value(known.get(name, other), depth - 1) for name in names}

    def _list(self, schema: dict[str, Any], depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", MAX_ITEMS)
        first = schema.get("prefixItems", [])
        items = schema.get("items", True)
        count = least if items is False or depth == 1 else max(least, min(1, most))
        if count > min(most, MAX_ITEMS):
            raise NotFollowed("minItems")
        if schema.get("uniqueItems") and count > 1:
            raise NotFollowed("uniqueItems")
        return [self.value(first[at] if at < len(first) else items, depth - 1) for at in range(count)]


def _both(one: dict[str, Any], other: Any) -> dict[str, Any]:
    """What both schemas ask for, as far as they don't ask for different things under one name."""
    if other is True:
        return one
    if not isinstance(other, dict):
        raise NotFollowed("allOf")
    if _reaches(one, other) or _reaches(other, one):
        raise NotFollowed("allOf")
    merged = {**one, **other}
    for name in one.keys() & other.keys():
        if name in ("properties", "$defs"):
            if any(one[name][key] != other[name][key] for key in one[name].keys() & other[name].keys()):
                raise NotFollowed("allOf")
            merged[name] = {**one[name], **other[name]}
        elif name == "required":
            merged[name] = [*one[name], *other[name]]
        elif name not in ("title", "description", "default", "examples") and one[name] != other[name]:
            raise NotFollowed("allOf")
    return merged


def _reaches(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether what `one` says of all that it does not name would be said of what `other` names."""
    if one.get("additionalProperties", True) is not True:
        return bool(other.get("properties", {}).keys() - one.get("properties", {}).keys())
    return one.get("items", True) is not True and len(other.get("prefixItems", ())) > len(
        one.get("prefixItems", ())
    )


def _listed(schema: dict[str, Any]) -> Any:
    """The first value that a schema lists; one that asks for more than its type besides is not followed."""
    values = [schema["const"]] if "const" in schema else schema["enum"]
    kinds = schema.get("type", list(_TYPES))
    for value in values:
        if "const" in schema and value not in schema.get("enum", values):
            continue
        if any(type(value) in _TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)):
            if schema.keys() - _SAID_OF_LISTED:
                break
            return value
    raise NotFollowed("enum")


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_SAID_OF_LISTED = {"const", "enum", "type", "title", "description", "default", "examples", "deprecated", "$comment"}
_SAID_OF_LISTED |= {"$schema", "$id", "$defs", "definitions"}


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind is None:
        if "properties" in schema or "required" in schema:
            return "object"
        if "items" in schema or "prefixItems" in schema:
            return "array"
        numeric = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
        return "number" if numeric & schema.keys() else "string"
    return str(kind)


def _text(schema: dict[str, Any]) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength", MAX_ITEMS)
    if least > MAX_ITEMS or least > most:
        raise NotFollowed("minLength")
    return tokens.MARK[:most].ljust(least, ".")


def _number(schema: dict[str, Any], *, whole: bool) -> int | float:
    """The number nearest to 1 that `schema` allows."""
    step: int | float | None = schema.get("multipleOf", 1 if whole else None)
    if whole and step is not None and step != int(step):
        raise NotFollowed("multipleOf")
    value: int | float
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    if step is None:
        floor, ceiling = max(low, above), min(high, below)
        value = min(max(1, floor), ceiling)
        if value <= above or value >= below:  # on an open end: as far from it as the other end allows
            value = (
                (floor + ceiling) / 2 if math.isfinite(floor + ceiling) else value + (1 if value <= above else -1)
            )
    else:
        value = step * max(math.ceil(low / step) if math.isfinite(low) else -math.inf, 1)
        if above >= value:
            value = step * (math.floor(above / step) + 1)
        if value > high or value >= below:
            value = step * math.floor(min(high, below) / step)
            value -= step if value >= below else 0
        value = int(value) if whole else value
    if not (low <= value <= high and above < value < below):
        raise NotFollowed("minimum")
    return value
