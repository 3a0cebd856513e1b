"""Reading the policy of one tenant from a file of its own, or from what a client sent: all that is wrong, by path.

Beside `config_file.py`, which reads policies that stand in a whole configuration: the schema is the same, and so
are the words.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pointsman.contracts.config_file import dump_yaml, read_text
from pointsman.contracts.config_problems import ConfigError, Problem, explain
from pointsman.contracts.config_yaml import line_of, read_yaml
from pointsman.contracts.policies import PolicyDocument


def load_policy(path: Path) -> PolicyDocument:
    """
    The policy in the YAML file at `path`.

    Raises `ConfigError` where the file cannot be read, is no YAML, or breaks the schema; it lists all problems.
    """
    source = str(path)
    root, value = read_yaml(read_text(path), source=source)
    try:
        return PolicyDocument.model_validate(value)
    except ValidationError as error:
        problems = [
            Problem.at(location, message, line_of(root, location))
            for location, message in explain(error, of=PolicyDocument)
        ]
        raise ConfigError(source, sorted(problems, key=lambda problem: problem.line)) from None


def parse_policy(value: Any, *, most: int | None = None) -> PolicyDocument:
    """
    The policy that the plain `value` (as JSON gives it) describes.

    Raises `ConfigError` with all problems, or the first `most`, each with its path, as in
    `candidate.policy.rules[0].mode`.
    """
    try:
        return PolicyDocument.model_validate(value)
    except ValidationError as error:
        found = islice(explain(error, of=PolicyDocument), most)
        problems = [Problem.at(location, message) for location, message in found]
        raise ConfigError("policy", problems) from None


def dump_policy(document: PolicyDocument, *, defaults: bool = False) -> str:
    """
    `document` as YAML that `load_policy` reads back to an equal one.

    `defaults`: whether fields at their default are written too, or only those that were set.
    """
    return dump_yaml(document.model_dump(mode="python", exclude_unset=not defaults))
