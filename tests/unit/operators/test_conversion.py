"""A configuration as objects and back: nothing is lost, however it is named and whoever reads the YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from typer.testing import CliRunner

from pointsman.cli.main import app
from pointsman.contracts.config import Config
from pointsman.contracts.config_file import load_config
from pointsman.contracts.config_yaml import read_documents
from pointsman.operators.conversion import config_of, dump_objects, objects_of
from support.configurations import configurations

ROOT = Path(__file__).parents[3]
FILES = sorted(file for file in (*(ROOT / "examples").glob("*.yaml"), ROOT / "platform/pointsman/cli/local.yaml"))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(configurations())
def test_a_configuration_survives_both_ways(config: Config) -> None:
    text = dump_objects(objects_of(config))
    back, notes = config_of(read_documents(text, source="objects"), source="objects")
    assert back == config
    assert not notes
    assert dump_objects(objects_of(back)) == text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_command_goes_both_ways(file: Path, tmp_path: Path) -> None:
    there = CliRunner().invoke(app, ["config", "to-kubernetes", str(file), "--namespace", "models"])
    assert there.exit_code == 0, there.output
    assert {one["metadata"]["namespace"] for one in yaml.safe_load_all(there.stdout)} == {"models"}
    listed = json.dumps({"kind": "List", "apiVersion": "v1", "items": list(yaml.safe_load_all(there.stdout))})
    back = CliRunner().invoke(app, ["config", "from-kubernetes", "-"], input=listed)
    assert back.exit_code == 0, back.output
    (tmp_path / "back.yaml").write_text(back.stdout)
    assert load_config(tmp_path / "back.yaml") == load_config(file)


def test_what_the_api_server_would_find_too_long_is_told(tmp_path: Path) -> None:
    pool = {"name": "p", "model": "m", "modes": ["think"], "engine": "openai", "prices": {"input": 1, "output": 1}}
    urls = [f"http://10.0.{number // 200}.{number % 200}:8000" for number in range(1024)]
    models = [f"m{number}" for number in range(65)]
    rules = [
        {"name": "few", "mode": "think", "match": {"models": ["m"]}},
        {"name": "many", "mode": "think", "match": {"models": models}},
    ]
    long = {
        "pools": [{**pool, "urls": [*urls, f"http://{'a' * 400}"]}, {**pool, "name": "short", "urls": urls}],
        "tenants": [{"name": "t", "key_digests": ["0f" * 32], "policy": {"rules": rules}}],
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(long))
    said = CliRunner().invoke(app, ["config", "to-kubernetes", str(file)])
    assert said.exit_code == 0, said.output
    assert said.stderr.splitlines() == [
        "note: ModelPool p: spec.urls has 1,025 entries, 1,024 at most: the API server will refuse it",
        "note: ModelPool p: spec.urls[1024] has 407 characters, 320 at most: the API server will refuse it",
        "note: ModePolicy t: spec.rules[1].match.models has 65 entries, 64 at most: the API server will refuse it",
    ]


def test_what_only_a_cluster_knows_is_told(tmp_path: Path) -> None:
    objects = objects_of(load_config(ROOT / "examples/policies.yaml"))
    for one in objects:
        match one["kind"]:
            case "ModelPool":
                one["spec"] |= {"deployment": {"image": "serving:1"}, "upgrade": {"shares": []}}
            case "Tenant":
                one["spec"] |= {"keys": [{"name": "ci"}]}
    file = tmp_path / "objects.yaml"
    file.write_text(dump_objects([*objects, {"kind": "Service", "metadata": {"name": "mine"}}]))
    said = CliRunner().invoke(app, ["config", "from-kubernetes", str(file)])
    assert said.exit_code == 0
    assert said.stderr.splitlines() == [
        *(
            f"note: ModelPool {name}: spec.{field} is a cluster's alone and left out"
            for name in ("fast", "deep")
            for field in ("deployment.image", "upgrade.shares")
        ),
        *(f"note: Tenant {name}: spec.keys is a cluster's alone and left out" for name in ("demo", "kiosk")),
        "note: Service mine is left out: it is no part of a configuration",
    ]


def test_what_is_wrong_with_objects_is_told_at_once_by_their_own_names() -> None:
    objects = """\
apiVersion: pointsman.dev/v1alpha1
kind: ModelPool
metadata: {name: fast}
spec: {model: m, modes: [think], engine: openai, max_waiting: 3, prices: {input: 1}}
---
apiVersion: pointsman.dev/v1alpha1
kind: Tenant
metadata: {name: acme}
spec: {policyRef: {name: strict}, limits: {requestsPerMinute: 0}}
---
apiVersion: pointsman.dev/v1alpha1
kind: Tenant
metadata: {name: other}
spec: {policyRef: {name: strict}}
---
kind: ModelPool
metadata: fast
"""
    said = CliRunner().invoke(app, ["config", "from-kubernetes", "-"], input=objects)
    assert said.exit_code == 2
    assert said.stderr.splitlines() == [
        "standard input: 5 errors",
        "  ModelPool fast: spec.max_waiting: unknown field; did you mean `maxWaiting`?",
        "  ModelPool fast: spec.prices.output: field required",
        "  Tenant acme: spec.limits.requestsPerMinute: must be greater than or equal to 1, not 0",
        "  an object is a mapping with `kind` and `metadata`",
        "  Tenant other: spec.policyRef.name: there is no ModePolicy strict among the objects",
    ]
