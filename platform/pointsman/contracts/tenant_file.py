"""Reading one tenant from a file of its own, or from what a client sent: all that is wrong, by path.

Beside `policy_file.py`, which does the same for a policy alone. Keys are no part of it: those of a tenant that was
made while the platform runs are made one by one, and have digests of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pointsman.contracts.config import Tenant
from pointsman.contracts.config_file import dump_yaml, read_text
from pointsman.contracts.config_problems import ConfigError, Problem, explain
from pointsman.contracts.config_types import Location
from pointsman.contracts.config_yaml import line_of, read_yaml

KEYS = "key_digests"
_NO_KEYS = "keys are made with `POST /admin/v1/keys` or `pointsman keys create`"


def load_tenant(path: Path, *, name: str | None = None) -> Tenant:
    """
    The tenant in the YAML file at `path`; `name` is its name where the file says none.

    Raises `ConfigError` where the file cannot be read, is no YAML, or breaks the schema; it lists all problems.
    """
    source = str(path)
    root, value = read_yaml(read_text(path), source=source)
    if name is not None and isinstance(value, dict):
        value = {"name": name, **value}
    try:
        return _tenant(value, source, most=None, line=lambda location: line_of(root, location))
    except ConfigError as error:
        raise ConfigError(source, sorted(error.problems, key=lambda problem: problem.line)) from None


def parse_tenant(value: Any, *, most: int | None = None) -> Tenant:
    """
    The tenant that the plain `value` (as JSON gives it) describes.

    Raises `ConfigError` with all problems, or the first `most`, each with its path, as in `limits.concurrency`.
    """
    return _tenant(value, "tenant", most=most, line=lambda location: 0)


def dump_tenant(tenant: Tenant, *, defaults: bool = False) -> str:
    """
    `tenant` without its keys as YAML that `load_tenant` reads back to an equal one.

    `defaults`: whether fields at their default are written too, or only those that were set.
    """
    return dump_yaml(tenant.model_dump(mode="python", exclude_unset=not defaults, exclude={KEYS}))


def _tenant(value: Any, source: str, *, most: int | None, line: Callable[[Location], int]) -> Tenant:
    problems = []
    if isinstance(value, dict) and KEYS in value:
        problems.append(Problem.at((KEYS,), _NO_KEYS, line((KEYS,))))
    try:
        tenant = Tenant.model_validate(value)
    except ValidationError as error:
        found = islice(explain(error, of=Tenant), most)
        problems += [Problem.at(location, message, line(location)) for location, message in found]
        raise ConfigError(source, problems) from None
    if problems:
        raise ConfigError(source, problems)
    return tenant
