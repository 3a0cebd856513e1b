"""The reference of the configuration as Markdown, written from the schema's own docstrings.

Stands in the command line and not in the contracts: it is about showing the schema, not about using it.
`docs/configuration.md` holds its output; a test compares the two.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from pointsman.contracts import limits, policies
from pointsman.contracts.config import (
    Autoscaling,
    Capabilities,
    Config,
    Currency,
    DecisionLog,
    Engine,
    Family,
    Gpu,
    MetricsAccess,
    Pool,
    Prices,
    Router,
    Tenant,
    Tls,
)
from pointsman.contracts.config_pool_rules import POOL_RULES
from pointsman.contracts.config_rules import FLEET_RULES
from pointsman.contracts.config_types import PATTERN_MEANINGS
from pointsman.contracts.docstrings import member_docstrings
from pointsman.contracts.modes import Mode

MODELS = (
    *(Config, Pool, Prices, Capabilities, Autoscaling, Gpu, Tenant),
    *(policies.Policy, policies.Rule, policies.Match, policies.Saturation, policies.OutputLimits),
    *(policies.Escalation, policies.Candidate, policies.StageLimits, DecisionLog),
    *(limits.Limits, limits.Budgets, limits.Budget, limits.ResponseCache, Router, Tls),
)
CHOICES = (
    *(
        Mode,
        Engine,
        Family,
        policies.WhenSpent,
        policies.WhenUnavailable,
        policies.Trigger,
        policies.Stage,
        MetricsAccess,
    ),
    *(limits.AtSoftMark, limits.WhenBudgetSpent, Currency),
)

INTRODUCTION = """\
# Configuration

<!-- Written by `pointsman config reference` from the schema; edit the docstrings, not this file. -->

A fleet is one YAML file. `pointsman config check FILE` names everything that is wrong with it by path and line,
`pointsman config show FILE` prints it with all defaults filled in, `pointsman config schema` prints a JSON Schema
for editors. Whole fleets to start from are in [examples/](../examples/README.md).

- Unknown fields and keys given twice are errors: a misspelled limit must not silently be no limit.
- Relative paths: `predictor`, and a `chat_template` that is a file, are taken relative to the folder of the file
  itself; so is a `model_path` that begins with `./` or `../`. Any other relative `model_path` is a hub name. `~` is
  the home folder in all three.
- Numbers are numbers: `replicas: "2"` is an error. Prices may be written as numbers or as text.
- YAML anchors and merge keys (`<<: *name`) work; the file is at most 1 MiB of UTF-8.
"""


def reference_markdown() -> str:
    """Every field, every choice and every rule of a configuration file, as one Markdown page."""
    parts = [INTRODUCTION]
    parts += ["\n".join(_model(model)) for model in MODELS]
    parts += ["\n".join(_choice(choice)) for choice in CHOICES]
    parts += ["\n".join(_rules("Rules within a pool", POOL_RULES))]
    parts += ["\n".join(_rules("Rules within a fleet", FLEET_RULES))]
    return "\n".join(parts)


def _model(model: type[BaseModel]) -> Iterator[str]:
    schema = model.model_json_schema()
    required = schema.get("required", [])
    yield f"## {model.__name__}\n"
    yield f"{inspect.cleandoc(model.__doc__ or '')}\n"
    yield "| field | value | meaning |"
    yield "| --- | --- | --- |"
    for name, field in schema["properties"].items():
        mark = " **(required)**" if name in required else ""
        meaning = _one_line(model.model_fields[name].description or "")
        yield f"| `{name}`{mark} | {_kind(field)} | {meaning} |"
    yield ""


def _choice(choice: type[StrEnum]) -> Iterator[str]:
    meanings = member_docstrings(choice)
    yield f"## {choice.__name__}\n"
    yield f"{inspect.cleandoc(choice.__doc__ or '')}\n"
    for member in choice:
        meaning = _one_line(meanings.get(member.name, ""))
        yield f"- `{member}`" + (f": {meaning}" if meaning else "")
    yield ""


def _rules(title: str, rules: tuple[Callable[..., Any], ...]) -> Iterator[str]:
    yield f"## {title}\n"
    for rule in rules:
        yield f"- {_one_line(inspect.cleandoc(rule.__doc__ or ''))}"
    yield ""


def _kind(field: dict[str, Any]) -> str:
    """What may stand in a field, in words, from its JSON Schema."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        kinds = [kind for kind in field["anyOf"] if kind.get("type") != "null"]
        if [kind.get("type") for kind in kinds] == ["number", "string"]:
            return "US dollars" + _bounds(kinds[0])
        return " or ".join(_kind(kind) for kind in kinds)
    match field.get("type"):
        case "integer":
            return "whole number" + _bounds(field)
        case "number":
            return "number" + _bounds(field)
        case "boolean":
            return "true or false"
        case "object" if field.get("additionalProperties") == {"type": "string"}:
            return "mapping of text to text"
        case "object":
            return "mapping"
        case "array" if "prefixItems" in field:
            return ", then ".join(_kind(kind) for kind in field["prefixItems"])
        case "array":
            return "list of " + _kind(field["items"])
    return PATTERN_MEANINGS[field["pattern"]].removeprefix("must be ") if "pattern" in field else "text"


def _bounds(field: dict[str, Any]) -> str:
    start = f"{field['minimum']:,}" if "minimum" in field else f"above {field['exclusiveMinimum']:,}"
    return f", {start} to {field['maximum']:,}"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
