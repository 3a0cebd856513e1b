"""Grafana's dashboards as tests read them: panels, expressions with Grafana's own words put in, and selectors."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dashboards" / "grafana"
CHART = ROOT / "charts" / "pointsman" / "files" / "grafana"
RULES = ROOT / "dashboards" / "prometheus"

BOARDS = ("fleet", "cost", "modes", "router", "tenant")
TENANT = "tenant"


@functools.cache
def board(name: str) -> dict[str, Any]:
    """The dashboard called `name`, as it is checked in."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def charted(name: str) -> list[dict[str, Any]]:
    """Its panels, without headlines."""
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


def expressions(name: str) -> list[str]:
    """All expressions of its panels, as they stand there."""
    return [target["expr"] for panel in charted(name) for target in panel["targets"]]


def filled(expression: str, **words: str) -> str:
    """`expression` with Grafana's words: `$__rate_interval` as `rate_interval`, and the dashboard's variables."""
    values = {"__rate_interval": "1m", "__range": "1h", **words}
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values.get(found[1], ".*"), expression)


def parsed(expression: str) -> promql_parser.Expr:
    """`expression`, read by a parser of PromQL; raises `ValueError` where it is none."""
    return promql_parser.parse(filled(expression))


def selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    """Every selector of series in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        below = getattr(node, name, None)
        if below is not None and not isinstance(below, str):
            yield from selectors(below)
    for below in getattr(node, "args", None) or ():
        yield from selectors(below)


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules for Prometheus that are a `record` or an `alert`."""
    documents = (yaml.safe_load((RULES / file).read_text()) for file in ("recording.yaml", "alerts.yaml"))
    return [
        rule for document in documents for group in document["groups"] for rule in group["rules"] if kind in rule
    ]


def recorded() -> set[str]:
    """Names of the series that rules record."""
    return {rule["record"] for rule in rules("record")}
