"""YAML as a configuration needs it: duplicate keys and alias bombs refused, and a line for every value.

PyYAML keeps the last of two equal keys without a word; in a file of limits and prices that is a trap.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from pointsman.contracts.config_problems import ConfigError, Problem
from pointsman.contracts.config_types import Location

MAX_VALUES = 100_000
"""Values in a file at most, aliases counted each time they are used."""

MAX_DEPTH = 50
"""Mappings and lists inside each other at most; an alias that contains itself has no end."""

_TOO_DEEP = "the YAML is nested too deeply"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without its guess that text such as 2026-01-31 is a date."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, *, source: str) -> tuple[yaml.Node, Any]:
    """
    The YAML `text` as its tree (for lines) and as plain values.

    Raises `ConfigError`, naming `source`: wrong syntax, with line and column; a key given twice; no mapping.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise ConfigError(source, [Problem("", "the file is empty")])
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(source, [Problem("", "must be a mapping (lines of `key: value`)", 1)])
        if problems := list(_problems(root)):
            raise ConfigError(source, problems)
        return root, loader.construct_document(root)
    except _UNREADABLE as error:
        raise _unreadable(error, text, source) from None


def read_documents(text: str, *, source: str) -> list[Any]:
    """
    The documents of a YAML stream, each a mapping, as plain values; empty ones are left out.

    Raises `ConfigError`, naming `source`, as `read_yaml` does.
    """
    documents = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            root = loader.get_node()
            if isinstance(root, yaml.ScalarNode) and root.tag == "tag:yaml.org,2002:null":
                continue
            if not isinstance(root, yaml.MappingNode):
                line = root.start_mark.line + 1 if root else 0
                raise ConfigError(source, [Problem("", "must be a mapping (lines of `key: value`)", line)])
            if problems := list(_problems(root)):
                raise ConfigError(source, problems)
            documents.append(loader.construct_document(root))
    except _UNREADABLE as error:
        raise _unreadable(error, text, source) from None
    return documents


def line_of(root: yaml.Node, location: Location) -> int:
    """The line (from 1) of the value at `location`, or of its nearest ancestor where it is missing."""
    node, line = root, root.start_mark.line
    for step in location:
        found = _child(node, step)
        if found is None:
            break
        line, node = found
    return line + 1


def _child(node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line, node.value[step]
    return None


def _problems(root: yaml.Node) -> Iterator[Problem]:
    """Keys that are no text, keys given twice, and trees that aliases blow up."""
    count = 0
    open_nodes: list[tuple[Location, yaml.Node]] = [((), root)]
    while open_nodes:
        location, node = open_nodes.pop()
        count += 1
        if len(location) > MAX_DEPTH:
            yield Problem("", _TOO_DEEP, node.start_mark.line + 1)
            return
        if count > MAX_VALUES:
            yield Problem("", f"the file holds more than {MAX_VALUES:,} values, aliases included")
            return
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            children: list[tuple[Location, yaml.Node]] = []
            for key, value in node.value:
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    yield Problem.at(location, "a key must be plain text", line)
                    continue
                inner = (*location, key.value)
                if first := seen.get(key.value):
                    yield Problem.at(inner, f"this key is already given on line {first}", line)
                seen.setdefault(key.value, line)
                children.append((inner, value))
            open_nodes.extend(reversed(children))
        elif isinstance(node, yaml.SequenceNode):
            items = [((*location, position), item) for position, item in enumerate(node.value)]
            open_nodes.extend(reversed(items))


_UNREADABLE = (yaml.MarkedYAMLError, yaml.reader.ReaderError, RecursionError, ValueError, OverflowError)


def _unreadable(error: Exception, text: str, source: str) -> ConfigError:
    """What PyYAML's `error` says of `text`, in words."""
    match error:
        case yaml.MarkedYAMLError():
            return ConfigError(source, [_syntax_problem(error)])
        case yaml.reader.ReaderError():
            line = text.count("\n", 0, error.position) + 1
            message = f"the file holds a character that YAML forbids (#x{error.character:04x})"
            return ConfigError(source, [Problem("", message, line)])
        case RecursionError():
            return ConfigError(source, [Problem("", _TOO_DEEP)])
    return ConfigError(source, [Problem("", f"the YAML holds a value that cannot be read: {error}")])


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = error.problem or error.context or "wrong syntax"
    if mark is None:
        return Problem("", f"not YAML: {what}")
    return Problem("", f"not YAML: {what}", mark.line + 1, mark.column + 1)
