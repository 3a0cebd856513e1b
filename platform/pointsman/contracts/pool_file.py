"""Reading one pool from a file of its own, or from what a client sent: all that is wrong, by path.

Beside `tenant_file.py`, which does the same for a tenant: the schema is that of the configuration file, and so are
the words. Paths stay as they are written: whoever starts the replicas of such a pool may be on another machine.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from pointsman.contracts.config import Pool
from pointsman.contracts.config_file import dump_yaml, read_text
from pointsman.contracts.config_problems import ConfigError, Problem, explain
from pointsman.contracts.config_types import Location, Revision
from pointsman.contracts.config_yaml import line_of, read_yaml

MOST_REVISIONS = 8
"""Revisions that the requests of a pool may be divided between."""

Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False, strict=True)]
Traffic = Annotated[dict[Revision, Weight], Field(max_length=MOST_REVISIONS)]
"""How the new requests of a pool are divided: the weight of each revision of its replicas. Empty: all are alike."""

_OF_A_KEY = "[key]"
"""What pydantic calls the last step to what is wrong with a key itself."""

_TRAFFIC: TypeAdapter[dict[str, float]] = TypeAdapter(Traffic)


def load_pool(path: Path, *, name: str | None = None) -> Pool:
    """
    The pool in the YAML file at `path`; `name` is its name where the file says none.

    Raises `ConfigError` where the file cannot be read, is no YAML, or breaks the schema; it lists all problems.
    """
    source = str(path)
    root, value = read_yaml(read_text(path), source=source)
    if name is not None and isinstance(value, dict):
        value = {"name": name, **value}
    try:
        return _pool(value, source, most=None, line=lambda location: line_of(root, location))
    except ConfigError as error:
        raise ConfigError(source, sorted(error.problems, key=lambda problem: problem.line)) from None


def parse_pool(value: Any, *, most: int | None = None) -> Pool:
    """
    The pool that the plain `value` (as JSON gives it) describes.

    Raises `ConfigError` with all problems, or the first `most`, each with its path, as in `prices.output`.
    """
    return _pool(value, "pool", most=most, line=lambda location: 0)


def dump_pool(pool: Pool, *, defaults: bool = False) -> str:
    """
    `pool` as YAML that `load_pool` reads back to an equal one.

    `defaults`: whether fields at their default are written too, or only those that were set.
    """
    return dump_yaml(pool.model_dump(mode="python", exclude_unset=not defaults))


def parse_traffic(value: Any) -> dict[str, float]:
    """The weights that the plain `value` describes. Raises `ConfigError` with all problems."""
    try:
        weights = _TRAFFIC.validate_python(value)
    except ValidationError as error:
        problems = [
            Problem.at(("traffic", *(step for step in location if step != _OF_A_KEY)), message)
            for location, message in explain(error, of=Pool)
        ]
        raise ConfigError("traffic", problems) from None
    if weights and not any(weights.values()):
        raise ConfigError("traffic", [Problem("traffic", "gives no revision anything: leave all out, or name one")])
    return weights


def _pool(value: Any, source: str, *, most: int | None, line: Callable[[Location], int]) -> Pool:
    try:
        return Pool.model_validate(value)
    except ValidationError as error:
        found = islice(explain(error, of=Pool), most)
        problems = [Problem.at(location, message, line(location)) for location, message in found]
        raise ConfigError(source, problems) from None
