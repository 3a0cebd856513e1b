"""What can be wrong with a configuration, in words: the error, its problems, and pydantic's verdicts made plain.

Stands between the schema and the file reader. A message may show what was written, but never a key: where a
pattern does not match, the pattern is put in words and the value left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, get_args

from pydantic import BaseModel, ValidationError

from pointsman.contracts.config import Config
from pointsman.contracts.config_types import PATTERN_MEANINGS, BrokenRules, Location

_JSON_VALUE_TAGS = frozenset({"dict", "list", "str", "int", "float", "bool", "nullable"})


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong.

    `path`: the field, as in `pools[1].prices.output`; empty for the file as a whole. `line` and `column` count
    from 1; 0 where there is none.
    """

    path: str
    message: str
    line: int = 0
    column: int = 0

    @classmethod
    def at(cls, location: Location, message: str, line: int = 0) -> Self:
        """A problem of the field at `location`."""
        return cls(_spelled(location), message, line)

    def __str__(self) -> str:
        place = ""
        if self.line:
            place = f" (line {self.line}, column {self.column})" if self.column else f" (line {self.line})"
        return (f"{self.path}: " if self.path else "") + self.message + place


class ConfigError(Exception):
    """A configuration that cannot be used; `source` names it, `problems` lists all that is wrong."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        if len(problems) == 1:
            super().__init__(f"{source}: {problems[0]}")
        else:
            lines = "".join(f"\n  {problem}" for problem in problems)
            super().__init__(f"{source}: {len(problems)} errors{lines}")


def explain(error: ValidationError, *, of: type[BaseModel] = Config) -> Iterator[tuple[Location, str]]:
    """
    Location and message of everything that `error` found, rules between fields included.

    `of` is what was read: the whole configuration, or a part of it that stands alone.
    """
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        context = detail.get("ctx", {})
        cause = context.get("error")
        if isinstance(cause, BrokenRules):
            for inner, message in cause.problems:
                yield (*location, *inner), message
        elif detail["type"] == "extra_forbidden":
            yield location, _unknown_field(location, of)
        elif detail["type"] == "too_short" and len(detail["input"]) >= context["min_length"]:
            continue  # pydantic counts the valid entries only; the invalid ones have problems of their own
        elif detail["type"] == "invalid-json-value":
            yield _without_tags(location), "must be text, a number, true, false, a list or a mapping"
        else:
            yield location, _message(detail["type"], detail["msg"], context, detail["input"])


def _message(kind: str, said: str, context: dict[str, Any], given: Any) -> str:
    match kind:
        case "missing":
            return "field required"
        case "string_pattern_mismatch":
            return PATTERN_MEANINGS[context["pattern"]]
        case "string_type":
            return f"must be text, not {_described(given)}" + _quoting_hint(given)
        case "bool_type":
            return f"must be true or false, not {_described(given)}"
        case "int_type" | "int_from_float":
            return f"must be a whole number, not {_described(given)}"
        case "float_type" | "decimal_type" | "decimal_parsing":
            return f"must be a number, not {_described(given)}"
        case "tuple_type":
            return f"must be a list, not {_described(given)}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be a mapping (lines of `key: value`), not {_described(given)}"
        case "enum":
            return f"must be {context['expected']}, not {_described(given)}".replace("'", "")
        case "too_short":
            return "must not be empty" if context["min_length"] == 1 else f"needs {context['min_length']} entries"
        case "string_too_short":
            return "must not be empty"
        case "value_error":
            return str(context["error"])
    return re.sub(r"^(?:Input|Decimal input) should (be|have)", _must, said) + _shown(given)


def _must(match: re.Match[str]) -> str:
    return f"must {match[1]}"


def _shown(given: Any) -> str:
    return f", not {given}" if isinstance(given, int | float) and not isinstance(given, bool) else ""


def _described(given: Any) -> str:
    if given is None:
        return "nothing"
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int | float):
        return str(given)
    if isinstance(given, str):
        return repr(given) if len(given) <= 40 else "a long text"
    return "a list" if isinstance(given, list) else "a mapping" if isinstance(given, dict) else "a date"


def _quoting_hint(given: Any) -> str:
    return "" if given is None or isinstance(given, list | dict) else "; put it in quotes"


def _unknown_field(location: Location, root: type[BaseModel]) -> str:
    model = _model_at(location[:-1], root)
    fields = list(model.model_fields) if model else []
    close = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.6)
    if close:
        return f"unknown field; did you mean `{close[0]}`?"
    return f"unknown field; the fields here are {', '.join(fields)}"


def _model_at(location: Location, root: type[BaseModel]) -> type[BaseModel] | None:
    """The model that describes the value at `location` of `root`; None where a plain value stands there."""
    model: type[BaseModel] | None = root
    for step in location:
        if isinstance(step, str) and model is not None:
            field = model.model_fields.get(step)
            model = _model_in(field.annotation) if field else None
    return model


def _model_in(kind: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `tuple[Pool, ...]` or `Gpu | None`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((model for inner in get_args(kind) if (model := _model_in(inner))), None)


def _without_tags(location: Location) -> Location:
    """pydantic puts the kind of each JSON value between the steps; drop those."""
    start = location.index("engine_args") + 1
    return (*location[:start], *(step for step in location[start:] if step not in _JSON_VALUE_TAGS))


def _spelled(location: Location) -> str:
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", step):
            text += f".{step}" if text else step
        else:
            text += f"[{step!r}]"
    return text
