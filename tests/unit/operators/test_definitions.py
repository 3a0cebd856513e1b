"""The definitions: checked in as they are made, complete, readable. An API server takes them in `tests/cluster`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pointsman.cli.main import app
from pointsman.contracts.config_pool_rules import POOL_RULES
from pointsman.operators.crds import definitions
from pointsman.operators.crds.rules import RULES
from pointsman.operators.documents import ModelPoolObject, ModePolicyObject, TenantObject, spec_path

CRDS = Path(__file__).parents[3] / "charts/pointsman/crds"


def test_the_charts_definitions_are_those_of_the_schema(tmp_path: Path) -> None:
    written = CliRunner().invoke(app, ["operator", "crds", "--write", str(tmp_path)])
    assert written.exit_code == 0
    stale = [file.name for file in tmp_path.iterdir() if file.read_bytes() != (CRDS / file.name).read_bytes()]
    assert not stale, "run `pointsman operator crds --write charts/pointsman/crds`"
    assert {file.name for file in CRDS.iterdir()} == {file.name for file in tmp_path.iterdir()}
    printed = list(yaml.safe_load_all(CliRunner().invoke(app, ["operator", "crds"]).stdout))
    assert printed == definitions()


def test_every_rule_of_a_pool_has_its_like_in_cel() -> None:
    """A new rule in Python is either said in CEL too, or the API server takes what the operator then refuses."""
    told = {rule.of for rules in RULES.values() for rule in rules}
    assert set(POOL_RULES) <= told


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        if not path.endswith(".engineArgs"):  # what an engine calls its own
            yield f"{path}.{name}", inner
            yield from fields(inner, f"{path}.{name}")
    if isinstance(items := schema.get("items"), dict):
        yield from fields(items, f"{path}[]")


@pytest.mark.parametrize("definition", definitions(), ids=lambda definition: definition["spec"]["names"]["kind"])
def test_every_field_is_described_in_kubernetes_spelling(definition: dict[str, Any]) -> None:
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    found = [*fields(schema["spec"], "spec"), *fields(schema["status"], "status")]
    assert len(found) > 20
    for path, field in found:
        assert field.get("description"), path
        assert re.fullmatch(r"[a-z][A-Za-z]*", path.rpartition(".")[2]), path
        for rule in field.get("x-kubernetes-validations", ()):
            assert rule["message"]
    known = {path.rpartition(".")[2] for path, _ in found}
    snakes = (
        {re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name) for name in known} - known - {"no_think"}
    )
    for path, field in found:
        assert not snakes & set(re.findall(r"`([a-z_]+)`", field["description"])), path


def test_fields_that_the_admin_api_names_are_found_in_the_objects() -> None:
    assert spec_path(TenantObject, "limits.requests_per_minute") == "spec.limits.requestsPerMinute"
    assert spec_path(ModelPoolObject, "urls[0]") == "spec.urls[0]"
    assert spec_path(ModePolicyObject, "policy.rules[1].default_mode") == "spec.rules[1].defaultMode"
    assert spec_path(ModePolicyObject, "candidate.policy.max_output.no_think") == (
        "spec.candidate.policy.maxOutput.noThink"
    )
    assert spec_path(ModelPoolObject, "") == "spec"
