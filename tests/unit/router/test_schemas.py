"""Schemas of hostile tenants: judged where that is cheap, let alone elsewhere, never followed anywhere."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.router.pipeline import schemas

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "required": ["v"],
            "properties": {
                "v": {"type": "integer"},
                "left": {"$ref": "#/$defs/node"},
                "right": {"$ref": "#/$defs/node"},
            },
        }
    },
}


def doubling(levels: int) -> dict[str, Any]:
    """Refers to itself twice at each level."""
    defs: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**defs, f"a{levels}": {"type": "string"}}}


def fits(value: Any, schema: Any) -> bool:
    return schemas.fits(value, schema, size=len(json.dumps(value)))


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ({"a": 1}, {"type": "object", "required": ["a"]}, True),
        ({"b": 1}, {"type": "object", "required": ["a"]}, False),
        ({"v": 1, "left": {"v": 2}}, TREE, True),
        ({"v": 1, "left": {"v": 2, "right": {"v": "x"}}}, TREE, False),
        ("aab", {"type": "string", "pattern": "^a+b$"}, True),
        ("aac", {"type": "string", "pattern": "^a+b$"}, False),
        ([1, "x"], {"items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}, True),
        (1.5, doubling(3), False),
    ],
)
def test_values_are_judged_by_their_schema(value: Any, schema: Any, *, expected: bool) -> None:
    assert fits(value, schema) is expected
    assert fits(value, schema) is expected  # from the validators that are kept


def unevaluated(levels: int) -> dict[str, Any]:
    """Looks at each level at all that the levels below it have looked at."""
    schema: dict[str, Any] = {"properties": {"a": {"type": "integer"}}}
    for _ in range(levels):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    return schema


OBJECTS = [{"a": number} for number in range(4000)]


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ({"b": 1}, unevaluated(30)),
        ([{"a": 4001}] * 10_000, {"items": {"enum": OBJECTS}}),
        ([[1, {"a": 4001}]] * 5_000, {"items": {"const": [1, *OBJECTS]}}),
        ("x" * 3_000, {"anyOf": [{"pattern": f"x{{{number % 900}}}y{number}"} for number in range(1000)]}),
        ({"x": 1}, {"patternProperties": {f"[a-z{number}]{{300}}": True for number in range(1000)}}),
        ("x" * 15_000, {"anyOf": [{"pattern": f"(x{{300}}|z)+y{number}"} for number in range(30)]}),
    ],
)
def test_small_schemas_that_cost_seconds_or_hours_are_not_evaluated(value: Any, schema: Any) -> None:
    began = time.process_time()
    assert fits(value, schema) is True
    assert time.process_time() - began < 0.5


def test_usual_patterns_and_lists_of_objects_are_judged() -> None:
    date = {"additionalProperties": {"type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$"}}
    assert fits({str(day): f"2026-11-{day}" for day in range(10, 30)}, date)
    assert not fits({"1": "2026-11-1"}, date)
    assert not fits({"a": 50}, {"enum": OBJECTS[:50]})


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$schema": "http://127.0.0.1:1/meta", "type": "object"},
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}},
        {"$dynamicRef": "#x", "$dynamicAnchor": "x"},
        {"type": "no such type"},
        {"pattern": "(a{1000}){1000}"},
        {"pattern": "(?=a)b"},
        doubling(30),
        {"enum": ["x" * 100_000]},
        True,
        "no schema",
    ],
)
def test_what_can_t_be_judged_is_not_held_against_the_answer_and_costs_no_time(schema: Any) -> None:
    value: Any = {"b": 1}
    for _ in range(40):
        value = {"a": value}
    began = time.process_time()
    assert fits(value, schema) is True
    assert time.process_time() - began < 0.5


def test_a_pattern_takes_linear_time() -> None:
    began = time.process_time()
    assert fits("a" * 50_000, {"type": "string", "pattern": "^(a+)+$"}) is True
    assert fits("a" * 50_000 + "b", {"type": "string", "pattern": "^(a+)+$"}) is False
    assert time.process_time() - began < 1.0


def test_only_so_many_schemas_are_kept() -> None:
    for number in range(schemas.REMEMBERED + 50):
        assert fits(number, {"const": number})
    assert len(schemas._validators) == schemas.REMEMBERED


SUBSCHEMAS = st.recursive(
    st.sampled_from([{"type": "integer"}, {"$ref": "#"}, {"$ref": "#/properties/a"}, True, {}]),
    lambda parts: st.one_of(
        st.builds(lambda a, b: {"allOf": [a, b]}, parts, parts),
        st.builds(lambda a, b: {"properties": {"a": a, "b": b}}, parts, parts),
        st.builds(lambda a: {"items": a}, parts),
        st.builds(lambda a, b: {"if": a, "then": b}, parts, parts),
    ),
    max_leaves=12,
)
VALUES = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.sampled_from("ab"), parts),
    max_leaves=20,
)


@given(schema=SUBSCHEMAS, value=VALUES)
def test_no_schema_takes_long(schema: Any, value: Any) -> None:
    began = time.process_time()
    fits(value, schema)
    assert time.process_time() - began < 0.5
