"""Grafana's dashboards as they are checked in: made by the code beside them, and of metrics that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import promql_parser
import pytest

from pointsman.contracts.names import Metric
from support.boards import BOARDS, CHART, FOLDER, TENANT, board, charted, expressions, parsed, recorded, selectors

BUILD = FOLDER / "build.py"


def test_the_files_are_what_the_code_makes_here_and_in_the_chart(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(BUILD), str(tmp_path)], check=True)
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    for folder in (FOLDER, CHART):
        kept = {file.name: file.read_text() for file in folder.glob("*.json")}
        assert kept == made, f"{folder} is stale: run python dashboards/grafana/build.py"
    assert {f"{name}.json" for name in BOARDS} == made.keys()


@pytest.mark.parametrize("name", BOARDS)
def test_every_expression_asks_for_what_there_is(name: str) -> None:
    known = {value for key, value in vars(Metric).items() if key.isupper()} | recorded()
    asked = set()
    for expression in expressions(name):
        for selector in selectors(parsed(expression)):
            base = re.sub(r"_(bucket|sum|count)$", "", selector.name or "")
            assert selector.name in known or base in known, selector.name
            asked.add(selector.name)
    assert len(asked) > 8


@pytest.mark.parametrize("name", BOARDS)
def test_panels_say_what_they_are_and_lie_side_by_side(name: str) -> None:
    panels = board(name)["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in charted(name):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]


def test_dashboards_are_told_apart() -> None:
    assert (
        len({board(name)["uid"] for name in BOARDS})
        == len({board(name)["title"] for name in BOARDS})
        == len(BOARDS)
    )


def test_a_tenants_dashboard_asks_for_that_tenant_alone_and_nobody_can_change_that() -> None:
    text = (FOLDER / f"{TENANT}.json").read_text()
    assert board(TENANT)["templating"] == {}
    assert not board(TENANT)["links"] if "links" in board(TENANT) else True
    assert set(re.findall(r"\$\{?\w+", text)) <= {"$__rate_interval", "$__range", "$"}
    found = 0
    for expression in expressions(TENANT):
        for selector in selectors(parsed(expression)):
            held = {
                (each.name, each.value) for each in selector.matchers.matchers if str(each.op) == "MatchOp.Equal"
            }
            assert {("namespace", "__namespace__"), ("tenant", "__tenant__")} <= held, expression
            assert not selector.matchers.or_matchers
            found += 1
    assert found > 20


def test_what_is_no_expression_is_told() -> None:
    """Else the tests above might look at anything."""
    with pytest.raises(ValueError, match=r".+"):
        parsed("sum by (mode (rate(x[5m]))")
    assert [each.name for each in selectors(promql_parser.parse("sum(rate(a[5m])) / on () b or vector(0)"))] == [
        "a",
        "b",
    ]
