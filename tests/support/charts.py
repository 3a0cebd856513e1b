"""The Helm chart as tests see it: rendered documents, and the containers of their pods."""

from __future__ import annotations

import base64
import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate.utils
import yaml
from helm_python import Chart

Document = dict[str, Any]

_valid: set[tuple[str, str]] = set()
schemas = kubernetes_validate.utils
schemas.schema_contents = functools.cache(schemas.schema_contents)  # it would read megabytes for each document

CHART = Path(__file__).parents[2] / "charts/pointsman"
DEFAULTS, DEV, H100, MULTI_TENANT = "defaults", "dev", "h100", "multi-tenant"
PROFILES = (DEFAULTS, DEV, H100, MULTI_TENANT)


def check_valid(document: Document, version: str) -> None:
    """Raise where a Kubernetes of `version` would not take `document`, or drop a field of it."""
    what = yaml.safe_dump(document), version
    if what not in _valid:
        kubernetes_validate.validate(document, version, strict=True)
        _valid.add(what)


def profile_file(profile: str) -> Path:
    """The file of values that makes `profile`."""
    return CHART / ("values.yaml" if profile == DEFAULTS else f"values-{profile}.yaml")


def profile_values(profile: str) -> Document:
    """What `profile` sets beyond the chart's defaults."""
    return {} if profile == DEFAULTS else dict(yaml.safe_load(profile_file(profile).read_text()))


def merged(values: Document, further: Document) -> Document:
    """`values` with `further` over them, field by field, as Helm merges them."""
    result = copy.deepcopy(values)
    for name, value in further.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


def rendered(
    profile: str = DEFAULTS, values: Document | None = None, *, name: str = "r", namespace: str = "spaces"
) -> list[Document]:
    """All documents of a release, hooks included, rendered without a cluster."""
    with Chart.load(CHART) as chart:
        files = chart.render(merged(profile_values(profile), values or {}), name=name, namespace=namespace)
    return [
        document
        for path, text in sorted(files.items())
        if path.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def of_kind(documents: list[Document], kind: str, suffix: str = "") -> list[Document]:
    """Those of `kind` whose name ends with `suffix`."""
    return [item for item in documents if item["kind"] == kind and item["metadata"]["name"].endswith(suffix)]


def the(documents: list[Document], kind: str, suffix: str = "") -> Document:
    """The one document of `kind` whose name ends with `suffix`."""
    (found,) = of_kind(documents, kind, suffix)
    return found


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """The specification of every pod, with the name of the object it belongs to."""
    for document in documents:
        if document["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]
        elif document["kind"] == "Pod":
            yield document["metadata"]["name"], document["spec"]


def containers(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Every container, sidecars included, under `OBJECT/CONTAINER`."""
    for name, spec in pods(documents):
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            yield f"{name}/{container['name']}", container


def secret_values(documents: list[Document]) -> dict[str, dict[str, str]]:
    """What the Secrets among `documents` hold, in plain text: name -> key -> value."""
    return {
        item["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in item["data"].items()}
        for item in of_kind(documents, "Secret")
    }
