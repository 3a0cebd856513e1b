"""Whether a value fits a JSON schema, where the schema is whatever a tenant has sent.

Stands apart because the schema is hostile: it may refer to other hosts, hold patterns that never end, or refer to
itself in ways that double with every level. Nothing is fetched, patterns take linear time, and a schema is only
used where the work that it can cause has been bounded beforehand; where it can't be, nothing is said against the
value.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import jsonschema_rs
import orjson

MAX_SCHEMA = 64 * 1024
"""Bytes of a schema that is looked at."""

MAX_WORK = 20_000_000
"""Evaluations of subschemas along the deepest way through a value, times the bytes of the value."""

MAX_STEPS = 20_000
"""Subschemas, by depth, that are counted before the work is known to be too much."""

MAX_DEPTH = 64
"""Levels of a value that is looked at."""

REMEMBERED = 64
"""Schemas whose validators are kept."""

MAX_PATTERNS = 32
"""Patterns of a schema that is looked at: each takes time to prepare, and memory as long as it is kept."""

_PATTERN_BYTES = 16 * 1024
_MATCHING_BYTES = 32 * 1024
_STATE_WORK, _PATTERN_WORK = 4, 4000
"""Work for each byte of a text: of a state of a pattern, and of any pattern at most. A subschema causes 1."""
_OBJECT_WORK = 50
"""The work of comparing with an object or a list among the values that are allowed."""
_COUNTS = re.compile(r"\{(\d+),?(\d*)\}")

_HERE = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_HERE_ONE = ("not", "if", "then", "else")
_HERE_NAMED = ("dependentSchemas", "dependencies")
_BELOW_ONE = (
    "items",
    "additionalItems",
    "contains",
    "additionalProperties",
    "propertyNames",
)
_BELOW_NAMED = ("properties", "patternProperties")
_UNTOLD = frozenset(
    {
        "$dynamicRef",
        "$recursiveRef",
        "$id",
        "id",
        "$anchor",
        "$dynamicAnchor",
        "unevaluatedItems",  # these two double the work with each level that they stand at
        "unevaluatedProperties",
    }
)

_validators: OrderedDict[bytes, Any] = OrderedDict()


def fits(value: Any, schema: Any, *, size: int) -> bool:
    """Whether `value`, of `size` characters as JSON, fits `schema`; True where bounded time can't tell."""
    try:
        text = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return True
    if len(text) > MAX_SCHEMA:
        return True
    depth = _depth(value)
    if depth > MAX_DEPTH or _Work(schema).of(depth) * max(size, 1) > MAX_WORK:
        return True
    if text in _validators:
        _validators.move_to_end(text)
    else:
        _validators[text] = _validator(schema)
        if len(_validators) > REMEMBERED:
            _validators.popitem(last=False)
    validator = _validators[text]
    try:
        return validator is None or bool(validator.is_valid(value))
    except ValueError:
        return True


def _validator(schema: Any) -> Any:
    """A validator, or None where `schema` is none that can be used."""
    try:
        return jsonschema_rs.validator_for(
            schema,
            offline=True,
            validate_formats=False,
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_MATCHING_BYTES),
        )
    except ValueError:
        return None


def _depth(value: Any) -> int:
    """Levels of `value`, as far as they are of interest."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


class _Unbounded(Exception):
    """The work can't be told."""


class _Work:
    """Counts the evaluations that a schema causes, along the way through a value that causes the most."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._known: dict[tuple[int, int], int] = {}
        self._open: set[tuple[int, int]] = set()
        self._own: dict[int, int] = {}
        self._patterns = 0

    def of(self, depth: int) -> int:
        """Evaluations for a value of so many levels; more than is ever allowed where they can't be told."""
        try:
            return self._count(self._schema, depth)
        except (_Unbounded, RecursionError):
            return MAX_WORK + 1

    def _count(self, schema: Any, depth: int) -> int:
        if not isinstance(schema, dict) or depth < 0:
            return 1
        key = (id(schema), depth)
        known = self._known.get(key)
        if known is not None:
            return known
        if key in self._open or len(self._known) > MAX_STEPS or not _UNTOLD.isdisjoint(schema):
            raise _Unbounded
        self._open.add(key)
        here, below = _parts(schema)
        if "$ref" in schema:
            here.append(self._target(schema["$ref"]))
        work = self._own_work(schema) + sum(self._count(part, depth) for part in here)
        work += sum(self._count(part, depth - 1) for part in below)
        self._open.discard(key)
        self._known[key] = work
        return work

    def _own_work(self, schema: dict[str, Any]) -> int:
        """The work of what `schema` says without subschemas."""
        work = self._own.get(id(schema))
        if work is None:
            patterns = [schema["pattern"]] if "pattern" in schema else []
            if isinstance(named := schema.get("patternProperties"), dict):
                patterns += named
            self._patterns += len(patterns)
            if self._patterns > MAX_PATTERNS:
                raise _Unbounded
            work = 1 + sum(map(_work_of_pattern, patterns))
            work += _OBJECT_WORK * (_containers(schema.get("enum")) + _containers(schema.get("const")))
            self._own[id(schema)] = work
        return work

    def _target(self, reference: Any) -> Any:
        """What a reference within the schema leads to."""
        if not isinstance(reference, str) or not reference.startswith("#") or "%" in reference:
            raise _Unbounded
        at = self._schema
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(at, list) and step.isdecimal() and int(step) < len(at):
                at = at[int(step)]
            elif isinstance(at, dict) and step in at:
                at = at[step]
            else:
                raise _Unbounded
        if reference not in ("#", "#/") and not reference.startswith("#/"):
            raise _Unbounded
        return at


def _work_of_pattern(pattern: Any) -> int:
    """The work of a pattern: each of its states, of which repetitions make many, may be looked at for each byte."""
    if not isinstance(pattern, str) or "\\p" in pattern or "\\P" in pattern:
        return _PATTERN_WORK
    work = _STATE_WORK * len(pattern)
    for low, high in _COUNTS.findall(pattern):
        work *= max(1, int((high or low)[:4]))
        if work >= _PATTERN_WORK:
            return _PATTERN_WORK
    return min(work, _PATTERN_WORK)


def _containers(value: Any) -> int:
    """How many objects and lists `value` consists of."""
    count, left = 0, [value]
    while left:
        item = left.pop()
        if isinstance(item, (dict, list)):
            count += 1
            left += item.values() if isinstance(item, dict) else item
    return count


def _parts(schema: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The subschemas that look at the same value, and those that look at what it holds."""
    here: list[Any] = [schema[name] for name in _HERE_ONE if name in schema]
    for name in _HERE:
        if isinstance(schema.get(name), list):
            here += schema[name]
    for name in _HERE_NAMED:
        if isinstance(schema.get(name), dict):
            here += schema[name].values()
    below: list[Any] = [schema[name] for name in _BELOW_ONE if isinstance(schema.get(name), dict)]
    for name in _BELOW_NAMED:
        if isinstance(schema.get(name), dict):
            below += schema[name].values()
    return here, below
