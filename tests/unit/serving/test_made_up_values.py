"""Values made up for a JSON schema fit it, or the schema is refused: they never pretend."""

from __future__ import annotations

import contextlib
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.serving.simulated.made_up import NotFollowed, made_up

SMALL = st.integers(-4, 6)


def _object(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from("abc")
    return st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(names, inner, max_size=3),
            "required": st.lists(names, unique=True, max_size=3),
            "additionalProperties": st.booleans() | inner,
        },
    )


def _list(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "minItems": st.integers(0, 4),
            "maxItems": st.integers(0, 4),
            "uniqueItems": st.booleans(),
        },
    )


LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.builds(lambda value: {"const": value}, SMALL),
    st.builds(lambda values: {"enum": values}, st.lists(SMALL | st.text(max_size=2), min_size=1, max_size=3)),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["null", "string"]}, {"pattern": "^a$"}]),
    st.fixed_dictionaries(
        {"type": st.just("string")}, optional={"minLength": st.integers(0, 20), "maxLength": st.integers(0, 20)}
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={
            "minimum": SMALL | st.floats(-3, 3),
            "maximum": SMALL,
            "exclusiveMinimum": SMALL,
            "exclusiveMaximum": SMALL | st.floats(-3, 3),
            "multipleOf": st.integers(1, 3),
        },
    ),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        _object(inner),
        _list(inner),
        st.builds(
            lambda word, parts: {word: parts},
            st.sampled_from(["anyOf", "allOf"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
    ),
    max_leaves=6,
)


CLOSED = {"type": "object", "additionalProperties": False}


@given(SCHEMAS)
@example({"allOf": [{"type": "object", "properties": {"a": {}}}, {**CLOSED, "required": ["a"]}]})
@example({"allOf": [{"type": "array", "prefixItems": [{}], "minItems": 1}, {"items": {"type": "null"}}]})
def test_what_is_made_up_fits(schema: dict[str, Any]) -> None:
    with contextlib.suppress(NotFollowed):
        value = made_up(schema)
        assert jsonschema_rs.is_valid(schema, value), value


def test_an_object_may_be_closed_beside_its_alternatives() -> None:
    schema = {**CLOSED, "properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert made_up(schema) == {"a": "[simulated]"}


def test_what_clients_send_is_followed() -> None:
    schema = {
        "$defs": {"Place": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
        "type": "object",
        "properties": {
            "place": {"$ref": "#/$defs/Place"},
            "days": {"type": "integer", "minimum": 2},
            "unit": {"enum": ["c", "f"]},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["place", "days", "unit", "note", "tags"],
        "additionalProperties": False,
    }
    said = "[simulated]"
    assert made_up(schema) == {"place": {"name": said}, "days": 2, "unit": "c", "note": said, "tags": [said]}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "http://localhost/schema"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "string", "pattern": "^x$"},
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"oneOf": [{"not": {}}]},
        {"type": "array", "minItems": 10**9},
    ],
    ids=["itself", "elsewhere", "endless", "pattern", "nothing", "not", "too many"],
)
def test_what_can_not_be_followed_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(NotFollowed):
        made_up(schema)
