"""Names that cross a process boundary: each is one thing, and is spelled in `contracts/names.py` only."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman.contracts import names

ROOT = Path(__file__).parents[3]
ROOMS = ("platform", "router", "operators", "dashboards")
HOME = ROOT / "platform/pointsman/contracts/names.py"

GROUPS = [names.Header, names.Metric, names.RedisKey, names.Env, names.StateFile]
STANDARD = (
    names.Header.REQUEST_ID,
    names.Header.ANTHROPIC_REQUEST_ID,
    names.Header.ANTHROPIC_VERSION,
    names.Header.API_KEY,
    names.Header.IDEMPOTENCY_KEY,
)
"""Names of ours that others use for the same."""
OURS = re.compile(
    r"x-pointsman-|x-ratelimit-"  # headers
    r"|\bpointsman_[a-z_]*(?:total|seconds|flight|replicas|bytes|requests|tokens|usd|entries|batches|degraded|probability|threshold)\b"
    r"|\bpointsman:[a-z]"  # Redis keys
    r"|\bPOINTSMAN_[A-Z]"  # environment variables
)


def values(group: type) -> list[str]:
    return [value for name, value in vars(group).items() if name.isupper()]


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The strings of a module with their lines, but for docstrings: prose may name what it explains."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def sources() -> list[Path]:
    return [file for room in ROOMS for file in sorted((ROOT / room).glob("pointsman/**/*.py")) if file != HOME]


def test_every_name_is_one_thing() -> None:
    counted = Counter(value for group in GROUPS for value in values(group))
    assert counted
    assert [name for name, count in counted.items() if count > 1] == []


@pytest.mark.parametrize(
    ("group", "form"),
    [
        (
            names.Header,
            r"(x-)?request-id|x-api-key|anthropic-version|idempotency-key|x-ratelimit-[a-z]+-[a-z]+|x-pointsman-[a-z]+(-[a-z]+)*",
        ),
        (names.Metric, r"pointsman_[a-z]+(_[a-z]+)*"),
        (names.RedisKey, r"pointsman:[a-z-]+(:[a-z]+|:\{[a-z]+\})*"),
        (names.Env, r"POINTSMAN_[A-Z]+(_[A-Z]+)*"),
        (names.StateFile, r"[a-z]+(\.[a-z]+)?"),
    ],
)
def test_names_have_the_form_of_their_kind(group: type, form: str) -> None:
    assert values(group)
    assert [name for name in values(group) if not re.fullmatch(form, name)] == []


def test_counters_say_that_they_are_totals_and_times_say_their_unit() -> None:
    assert names.Metric.TTFT.endswith("_seconds")
    assert names.Metric.REQUESTS.endswith("_total")


def test_nobody_else_spells_a_name_of_ours() -> None:
    assert len(sources()) > 10
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text[:60]!r}"
        for file in sources()
        for line, text in strings(ast.parse(file.read_text(), str(file)))
        if OURS.search(text)
    ]
    assert found == []


def test_the_search_would_find_a_name_spelled_elsewhere() -> None:
    tree = ast.parse('"""Docs of x-pointsman-mode."""\nheader = f"x-pointsman-{mode}"\n"pointsman:replicas"\n')
    assert [text for _, text in strings(tree) if OURS.search(text)] == ["x-pointsman-"]
    for group in GROUPS[:4]:
        assert all(OURS.search(name) for name in values(group) if name not in STANDARD)
