"""Two spellings of one schema: `max_waiting` in files and in Python, `maxWaiting` in Kubernetes objects.

The schema itself says what is a field and what is a key of a user's own (an engine's argument, a metadata field),
so it is walked along: only fields are spelled anew. Stands below the documents, which are read and written with it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from pointsman.contracts.config import Config
from pointsman.contracts.config_types import Location

Problems = list[tuple[Location, str]]


def camel(field: str) -> str:
    """`max_waiting` as `maxWaiting`."""
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


def to_camel(model: type[BaseModel], value: Any) -> Any:
    """`value`, shaped as `model` but in plain mappings and lists, with the fields' names as Kubernetes has them."""
    if isinstance(value, list | tuple):
        return [to_camel(model, item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        camel(field): to_camel(inner, item) if (inner := model_of_field(model, field)) else item
        for field, item in value.items()
    }


def to_snake(model: type[BaseModel], value: Any, problems: Problems, at: Location = ()) -> Any:
    """The way back. What is no field of `model` is left out, and told in `problems`, with its place below `at`."""
    if isinstance(value, list | tuple):
        return [to_snake(model, item, problems, (*at, number)) for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    fields = _snakes(model)
    spelled = {}
    for name, item in value.items():
        if (field := fields.get(name)) is None:
            problems.append(((*at, name), unknown_field(str(name), fields)))
            continue
        inner = model_of_field(model, field)
        spelled[field] = to_snake(inner, item, problems, (*at, name)) if inner else item
    return spelled


def camel_location(model: type[BaseModel], location: Sequence[str | int]) -> Location:
    """Where the value at `location` of `model` stands in an object."""
    steps: list[str | int] = []
    at: type[BaseModel] | None = model
    for step in location:
        if isinstance(step, str):
            steps.append(camel(step) if at is not None and step in at.model_fields else step)
            at = model_of_field(at, step) if at is not None else None
        else:
            steps.append(step)
    return tuple(steps)


def camel_text(text: str, root: type[BaseModel] = Config) -> str:
    """`text` with the fields below `root` that it names in backquotes spelled as in objects."""
    known = _names_below(root)

    def spelled(match: re.Match[str]) -> str:
        steps = match[1].split(".")
        return f"`{'.'.join(map(camel, steps))}`" if all(step in known for step in steps) else match[0]

    return re.sub(r"`([a-z_.]+)`", spelled, text)


@cache
def model_of_field(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """
    The model inside a field such as `tuple[Rule, ...]` or `Gpu | None`; None where plain values stand there, or a
    mapping, whose keys are the user's own.
    """
    known = model.model_fields.get(field)
    return _model_in(known.annotation) if known else None


def _model_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    if get_origin(kind) is dict:
        return None
    return next((model for inner in get_args(kind) if (model := _model_in(inner))), None)


@cache
def _snakes(model: type[BaseModel]) -> dict[str, str]:
    return {camel(field): field for field in model.model_fields}


@cache
def _names_below(root: type[BaseModel]) -> frozenset[str]:
    """All fields below `root`, but those that are also what a value is called (`no_think`)."""
    return frozenset(_names(root, set())) - {"no_think"}


def _names(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    seen.add(model)
    for field in model.model_fields:
        yield field
        inner = model_of_field(model, field)
        if inner is not None and inner not in seen:
            yield from _names(inner, seen)


def unknown_field(name: str, fields: Iterable[str]) -> str:
    """What to say of `name` where the fields are `fields`."""
    fields = list(fields)
    close = difflib.get_close_matches(name, fields, n=1, cutoff=0.6)
    if close:
        return f"unknown field; did you mean `{close[0]}`?"
    return f"unknown field; the fields here are {', '.join(fields)}"
