"""Reading a configuration file, and saying everything that is wrong with it at once.

Every problem carries the path of the field (`pools[1].prices.output`) and the line it stands on. Stands beside
the schema and not in it: the schema knows nothing of YAML, files or lines.

Relative paths: `predictor` and a `chat_template` that is a file are taken relative to the folder of the
configuration file; so is a `model_path` that begins with `./` or `../`. Any other relative `model_path` is a hub
name such as `Qwen/Qwen3-8B`. `~` is the user's home in all three. Whether those files exist is not asked here:
the router reads the same file on machines that hold no weights.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pointsman.contracts.config import BUILTIN_PREFIX, LOCAL_PREFIX, Config, Pool
from pointsman.contracts.config_problems import ConfigError, Problem, explain
from pointsman.contracts.config_yaml import line_of, read_yaml

__all__ = [
    "MAX_BYTES",
    "ConfigError",
    "Problem",
    "dump_config",
    "dump_yaml",
    "load_config",
    "parse_config",
    "read_text",
]

MAX_BYTES = 1024 * 1024
"""Size of a configuration file at most; a fleet of a thousand pools is far below it."""


def load_config(path: Path) -> Config:
    """
    The configuration in the YAML file at `path`, relative paths resolved against its folder.

    Raises `ConfigError` where the file cannot be read, is no YAML, or breaks the schema; it lists all problems.
    """
    return parse_config(read_text(path), source=str(path), folder=path.absolute().parent)


def parse_config(text: str, *, source: str, folder: Path) -> Config:
    """
    The configuration in the YAML `text`; `source` names it in errors, `folder` is what relative paths start from.

    Raises `ConfigError` with all problems.
    """
    root, value = read_yaml(text, source=source)
    try:
        config = Config.model_validate(value)
    except ValidationError as error:
        problems = [Problem.at(location, message, line_of(root, location)) for location, message in explain(error)]
        raise ConfigError(source, sorted(problems, key=lambda problem: problem.line)) from None
    return _resolved(config, folder)


def dump_config(config: Config, *, defaults: bool = False) -> str:
    """
    `config` as YAML that `load_config` reads back to an equal one.

    `defaults`: whether fields at their default are written too, or left out.
    """
    return dump_yaml(config.model_dump(mode="python", exclude_defaults=not defaults))


def dump_yaml(value: Any) -> str:
    """Plain values, as a model's `model_dump` gives them, as YAML."""
    return yaml.dump(_plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def read_text(path: Path, *, most: int = MAX_BYTES) -> str:
    """The text of a file of at most `most` bytes. Raises `ConfigError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise ConfigError(str(path), [Problem("", "there is no such file")]) from None
    except IsADirectoryError:
        raise ConfigError(str(path), [Problem("", "this is a folder, not a file")]) from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ConfigError(str(path), [Problem("", f"the file cannot be read: {reason}")]) from None
    if len(data) > most:
        raise ConfigError(str(path), [Problem("", f"the file is larger than {most:,} bytes")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(str(path), [Problem("", "the file is not UTF-8 text", line)]) from None


def _resolved(config: Config, folder: Path) -> Config:
    pools = tuple(_resolved_pool(pool, folder) for pool in config.pools)
    predictor = config.predictor and _anchored(config.predictor, folder)
    return config.model_copy(update={"pools": pools, "predictor": predictor})


def _resolved_pool(pool: Pool, folder: Path) -> Pool:
    update: dict[str, str] = {}
    if pool.chat_template and not pool.chat_template.startswith(BUILTIN_PREFIX):
        update["chat_template"] = _anchored(pool.chat_template, folder)
    if pool.model_path and not pool.model_path.startswith(LOCAL_PREFIX) and pool.model_path[0] in ".~":
        update["model_path"] = _anchored(pool.model_path, folder)
    return pool.model_copy(update=update) if update else pool


def _anchored(path: str, folder: Path) -> str:
    return os.path.normpath(folder / Path(path).expanduser())


class _Dumper(yaml.SafeDumper):
    """YAML without anchors, with prices as the plain numbers people write."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_decimal(dumper: yaml.SafeDumper, value: Decimal) -> yaml.ScalarNode:
    text = format(value, "f")
    kind = "float" if "." in text else "int"
    return dumper.represent_scalar(f"tag:yaml.org,2002:{kind}", text)


_Dumper.add_representer(Decimal, _represent_decimal)


def _plain(value: Any) -> Any:
    """`value` with enumerations as text and tuples as lists: the shapes that YAML has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return value
