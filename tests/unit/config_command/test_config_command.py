"""`pointsman config`, called as a user calls it, and the pages that are written from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pointsman.cli.main import app
from pointsman.contracts.config import Config
from pointsman.contracts.config_file import load_config
from pointsman.contracts.modes import Mode

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def pointsman(*arguments: str | Path, columns: int = 160) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": str(columns), "NO_COLOR": "1"})


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "broken.yaml"
    file.write_text(
        "pools:\n  - name: a\n    model: m\n    modes: [think]\n    engine: openai\n    prices: {input: 1}\n"
    )
    return file


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_is_fine(file: Path) -> None:
    said = pointsman("config", "check", file)
    assert said.exit_code == 0, said.stderr
    for pool in load_config(file).pools:
        assert pool.name in said.stdout
        assert not pool.licence_notice or pool.licence_notice.split(":")[0] in said.stdout


def test_a_pool_reads_well_on_a_narrow_terminal() -> None:
    said = pointsman("config", "check", ROOT / "examples/kat-v1-40b.yaml", columns=60)
    lines = said.stdout.splitlines()
    assert lines[:2] == [
        "kat-think: kat in think, engine sglang, 2 replicas of 4 x NVIDIA-H100-80GB-HBM3",
        "  US dollars per 1M tokens: 0.6 input, 0.15 cached input, 2.4 reasoning, 2.4 output",
    ]
    assert lines[3] == "  US dollars per 1M tokens: 0.06 input, 0.015 cached input, 0.2 output"


def test_there_is_an_example_of_each_kind() -> None:
    pools = {pool.name: pool for file in EXAMPLES for pool in load_config(file).pools}
    assert pools["kat-think"].model_path == "Kwaipilot/KAT-V1-40B"
    assert (pools["kat-think"].tensor_parallel, pools["kat-direct"].tensor_parallel) == (4, 1)
    kimi = pools["kimi-k2"]
    assert (kimi.tensor_parallel, kimi.nodes, kimi.tool_call_parser) == (16, 2, "kimi_k2")
    assert kimi.engine_args["trust_remote_code"] is True
    assert kimi.engine_args["mem_fraction_static"] == 0.85
    assert kimi.engine_args["max_prefill_tokens"] == kimi.engine_args["chunked_prefill_size"] == 8192
    assert "Kimi K2" in (kimi.licence_notice or "")
    assert set(pools["qwen3-both"].modes) == set(Mode)
    assert {str(pool.engine) for pool in pools.values()} == {"sglang", "vllm", "ktransformers"}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_is_in_the_table_and_says_that_its_prices_are_examples(file: Path) -> None:
    assert f"[{file.name}]({file.name})" in (ROOT / "examples/README.md").read_text()
    text = file.read_text()
    assert text.count("    prices: # example") == len(load_config(file).pools)


def test_the_hosted_model_lacks_what_its_price_list_does_not_say_and_nothing_else(tmp_path: Path) -> None:
    file = ROOT / "examples/hosted/moonshot-v1.yaml"
    said = pointsman("config", "check", "--json", file)
    assert said.exit_code == 2
    errors = [(error["path"], error["message"]) for error in json.loads(said.stdout)["errors"]]
    assert errors == [(f"pools[{number}].prices.output", "field required") for number in range(3)]

    filled = tmp_path / "moonshot.yaml"
    filled.write_text(file.read_text().replace("cached_input: 0 ", "output: 3\n      cached_input: 0 "))
    checked = pointsman("config", "check", filled)
    assert checked.exit_code == 0
    assert "3 output; context cache: 1 created, 0.15 kept for a minute, 0.0015 a call (each)\n" in checked.stdout
    prices = {pool.name: pool.prices.price_list() for pool in load_config(filled).pools}
    assert {name: str(each.input) for name, each in prices.items()} == {
        "moonshot-v1-8k": "0.2",
        "moonshot-v1-32k": "1.0",
        "moonshot-v1-128k": "2.0",
    }
    for each in prices.values():
        assert (each.cached_input, each.answer) == (0, 3)
        assert [str(each.cache_creation), str(each.cache_storage), str(each.cache_call)] == [
            "1.0",
            "0.15",
            "0.0015",
        ]


def test_all_errors_are_named_by_path(broken: Path) -> None:
    said = pointsman("config", "check", broken)
    assert said.exit_code == 2
    assert said.stdout == ""
    assert said.stderr == f"{broken}: pools[0].prices.output: field required (line 6)\n"


def test_errors_for_scripts(broken: Path) -> None:
    said = pointsman("config", "check", "--json", broken)
    assert said.exit_code == 2
    assert json.loads(said.stdout) == {
        "ok": False,
        "file": str(broken),
        "errors": [{"path": "pools[0].prices.output", "message": "field required", "line": 6, "column": 0}],
    }


def test_pools_for_scripts() -> None:
    said = pointsman("config", "check", "--json", ROOT / "examples/kimi-k2.yaml")
    value = json.loads(said.stdout)
    assert value["ok"] is True
    (pool,) = value["pools"]
    assert (pool["gpus_per_replica"], pool["gpu"], pool["replicas"]) == (16, "NVIDIA-H200", [1, 1])
    assert pool["prices"] == {"input": "0.6", "cached_input": "0.15", "reasoning": "2.5", "output": "2.5"}


def test_notes_are_no_errors(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(
        "pools:\n  - name: a\n    model: m\n    modes: [think]\n    engine: sglang\n    model_path: org/m\n"
        "    chat_template: no.jinja\n    prices: {input: 1, output: 1}\npredictor: no.npz\n"
    )
    said = pointsman("config", "check", "--json", file)
    assert said.exit_code == 0
    assert [note["path"] for note in json.loads(said.stdout)["notes"]] == [
        "pools[0].chat_template",
        "predictor",
        "pools",
    ]
    assert "note: pools: m has no pool for no_think" in pointsman("config", "check", file).stdout


def test_a_file_that_is_not_there() -> None:
    command = [sys.executable, "-m", "pointsman.cli", "config", "check", "/no/such/fleet.yaml"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (said.returncode, said.stderr) == (2, "/no/such/fleet.yaml: there is no such file\n")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_what_is_shown_is_the_same_fleet_with_every_default(file: Path, tmp_path: Path) -> None:
    said = pointsman("config", "show", file)
    shown = tmp_path / "shown.yaml"
    shown.write_text(said.stdout)
    assert load_config(shown) == load_config(file)
    assert "keep_alive_timeout: 75.0" in said.stdout


def test_the_schema_is_one_that_editors_understand() -> None:
    schema = json.loads(pointsman("config", "schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Config.model_fields)


def test_the_reference_in_the_docs_is_not_stale() -> None:
    page = ROOT / "docs/configuration.md"
    said = pointsman("config", "reference")
    assert said.exit_code == 0, said.stderr
    assert page.read_text() == said.stdout, "run: pointsman config reference > docs/configuration.md"


def test_every_field_of_the_reference_has_a_meaning() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if row.endswith("|  |")] == []
    assert "- \n" not in page
