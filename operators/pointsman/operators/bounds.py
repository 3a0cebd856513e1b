"""What of an object goes beyond the bounds that its definition sets and a configuration file does not.

Separate from `conversion.py`, which spells objects: this reads the definitions that the API server will hold them
against. A file may say more than a cluster takes, since the API server wants to know beforehand what its rules can
cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pointsman.operators.crds import definitions
from pointsman.operators.kinds import GROUP

Schema = Mapping[str, Any]


def beyond(objects: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each list, mapping or text in `objects` that is longer than the API server takes it."""
    specs: dict[str, Schema] = {}
    for definition in definitions():
        version = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        specs[definition["spec"]["names"]["kind"]] = version["properties"]["spec"]
    for one in objects:
        if one["apiVersion"].startswith(f"{GROUP}/"):
            for path, said in _beyond(specs[one["kind"]], one["spec"], "spec"):
                yield f"{one['kind']} {one['metadata']['name']}: {path} has {said}: the API server will refuse it"


def _beyond(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case list():
            yield from _longer(schema, "maxItems", len(value), "entries", path)
            for position, item in enumerate(value):
                yield from _beyond(schema.get("items", {}), item, f"{path}[{position}]")
        case dict():
            yield from _longer(schema, "maxProperties", len(value), "entries", path)
            inner = schema.get("additionalProperties")
            for name, item in value.items():
                of_name = schema.get("properties", {}).get(name, inner if isinstance(inner, dict) else {})
                yield from _beyond(of_name, item, f"{path}.{name}")
        case str():
            yield from _longer(schema, "maxLength", len(value), "characters", path)


def _longer(schema: Schema, bound: str, length: int, what: str, path: str) -> Iterator[tuple[str, str]]:
    most = schema.get(bound)
    if most is not None and length > most:
        yield path, f"{length:,} {what}, {most:,} at most"
