"""The definitions on a real API server: what it takes, fills in and refuses, and what kubectl says of them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from pointsman.contracts.config import Pool
from pointsman.contracts.config_file import load_config
from pointsman.operators import crds
from pointsman.operators.conversion import config_of, objects_of
from pointsman.operators.crds.applying import apply
from pointsman.operators.documents import API_VERSION, ModelPoolObject, ModePolicyObject, TenantObject
from pointsman.operators.spelling import to_camel
from support.configurations import configurations, doubtful_pools, is_valid
from support.control_plane import Cluster

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))

POOL: dict[str, Any] = {
    "model": "m",
    "modes": ["think"],
    "family": "qwen3",
    "engine": "sglang",
    "modelPath": "Org/Model",
    "prices": {"input": "0.60", "output": 2},
}
WITHOUT: Any = object()


@pytest.fixture(scope="module", autouse=True)
def kinds(cluster: Cluster) -> None:
    """Our kinds, brought there as an upgrade does it; twice, for the second time changes nothing."""
    for _ in range(2):
        asyncio.run(apply(crds.definitions(), kubeconfig=str(cluster.kubeconfig)))


def named(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def create(cluster: Cluster, namespace: str, *objects: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Have the API server check `objects` as if they were created."""
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    how = ("--dry-run=server", "--validate=ignore", "-n", namespace, "-o", "json", "-f", "-")
    return cluster.kubectl("create", *how, stdin=listed, check=False)


def documents(text: str) -> Iterator[Any]:
    """The JSON documents that stand in `text` one behind the other."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, at)
        yield value
        at += len(text[at:]) - len(text[at:].lstrip())


def said_by(body: dict[str, Any]) -> dict[str, Any]:
    """All that an object says, defaults included."""
    match body["kind"]:
        case "ModelPool":
            return ModelPoolObject.read(body).pool.model_dump()
        case "ModePolicy":
            return ModePolicyObject.read(body).document.model_dump()
    return TenantObject.read(body).tenant.model_dump()


def refused(said: str) -> dict[str, str]:
    """What kubectl printed of each object that was refused, by its name."""
    parts = re.split(r"(?m)^(?:Error from server \([A-Za-z]+\): error when creating \"STDIN\": )", said)
    return {match[1]: part for part in parts if (match := re.match(r"\S+ \"(\S+)\" is invalid", part))}


def test_what_the_schema_takes_is_taken_and_reads_back_the_same(cluster: Cluster, namespace: str) -> None:
    """Any configuration: the API server takes its objects, and with its defaults in them they say the same."""
    drawn = []

    @settings(
        max_examples=15,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(configurations())
    def draw(config: Any) -> None:
        drawn.append(config)

    draw()
    objects = []
    for number, config in enumerate(drawn):
        for one in objects_of(config):
            one["metadata"]["name"] = f"c{number}.{one['metadata']['name']}"
            if one["apiVersion"] == API_VERSION:
                objects.append(one)
    answer = create(cluster, namespace, *objects)
    assert answer.returncode == 0, answer.stderr[:3000]
    taken = list(documents(answer.stdout))
    assert len(taken) == len(objects) > 30
    for sent, read in zip(objects, taken, strict=True):
        assert read["metadata"]["name"] == sent["metadata"]["name"]
        assert said_by(read) == said_by(sent)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_lives_in_a_cluster_and_comes_back(cluster: Cluster, namespace: str, file: Path) -> None:
    config = load_config(file)
    cluster.apply(*objects_of(config), namespace=namespace)
    there = json.loads(cluster.kubectl("get", "pointsman,configmap", "-n", namespace, "-o", "json").stdout)
    back, _ = config_of([there], source="cluster")
    by_name = {"key": lambda part: part.name}
    assert sorted(back.pools, **by_name) == sorted(config.pools, **by_name)
    assert sorted(back.tenants, **by_name) == sorted(config.tenants, **by_name)
    assert back.router == config.router


def test_the_pages_example_is_taken(cluster: Cluster, namespace: str) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/kubernetes-objects.md").read_text(), re.DOTALL)
    objects = list(yaml.safe_load_all(block))
    answer = create(cluster, namespace, *objects)
    assert answer.returncode == 0, answer.stderr
    assert {one["kind"] for one in objects} == {"ModelPool", "ModePolicy", "Tenant"}
    assert TenantObject.read(objects[2]).keys[0].name == "ci"


def test_the_api_server_and_the_schema_agree_on_pools(cluster: Cluster, namespace: str) -> None:
    """Pools whose fields are in their bounds, and whose rules hold or not: both give the same verdict."""
    drawn: list[dict[str, Any]] = []

    @settings(
        max_examples=150,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(doubtful_pools())
    def draw(pool: dict[str, Any]) -> None:
        drawn.append(pool)

    draw()
    objects = [named("ModelPool", f"p{number}", to_camel(Pool, pool)) for number, pool in enumerate(drawn)]
    verdicts = refused(create(cluster, namespace, *objects).stderr)
    valid = [is_valid(Pool, pool | {"name": "p"}) for pool in drawn]
    assert 30 < sum(valid) < len(drawn) - 30
    differ = {f"p{n}": drawn[n] for n, fine in enumerate(valid) if fine == (f"p{n}" in verdicts)}
    assert not differ, (differ, [verdicts.get(name) for name in differ])


WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("ModelPool", "a field is missing", {"prices": {"input": 1}}, "spec.prices.output: Required value"),
    ("ModelPool", "a number as text", {"replicas": "2"}, "spec.replicas: Invalid value"),
    ("ModelPool", "below the bounds", {"firstByteTimeout": 0}, "spec.firstByteTimeout: Invalid value"),
    ("ModelPool", "an engine that is none", {"engine": "tgi"}, "spec.engine: Unsupported value"),
    ("ModelPool", "a mode twice", {"modes": ["think", "think"]}, "spec.modes[1]: Duplicate value"),
    ("ModelPool", "dollars as a float", {"prices": {"input": 0.6, "output": 1}}, "spec.prices.input"),
    ("ModelPool", "too many dollars", {"prices": {"input": "1000000.1", "output": 1}}, "from 0 to 1000000"),
    ("ModelPool", "dollars too fine", {"prices": {"input": "0.0000000001", "output": 1}}, "at most nine decimals"),
    ("ModelPool", "no weights", {"modelPath": WITHOUT}, "spec.modelPath: Required value"),
    ("ModelPool", "nobody runs it", {"engine": "vllm"}, "spec.urls: Required value"),
    ("ModelPool", "a URL with a path", {"urls": ["http://a/v1"]}, "spec.urls"),
    ("ModelPool", "an argument of ours", {"engineArgs": {"tp_size": 2}}, "say it in the field `tensorParallel`"),
    (
        "ModelPool",
        "a run on code of requests",
        {"engineArgs": {"enable_custom_logit_processor": "yes"}},
        "with a request",
    ),
    ("ModelPool", "no room", {"defaultMaxTokens": 8192}, "spec.defaultMaxTokens: Invalid value"),
    ("ModelPool", "GPUs that do not add up", {"gpu": {"type": "H100", "perNode": 3}}, "spec.gpu.perNode"),
    ("ModelPool", "bounds in disorder", {"autoscaling": {"minReplicas": 2}}, "spec.autoscaling.minReplicas"),
    (
        "ModelPool",
        "two kinds of weights",
        {"deployment": {"weights": {"claim": "a", "hostPath": "/a"}}},
        "deployment.weights.claim",
    ),
    ("ModelPool", "shares that fall", {"upgrade": {"shares": [0.5, 0.1]}}, "spec.upgrade.shares"),
    (
        "ModelPool",
        "a toleration of nothing",
        {"deployment": {"tolerations": [{"effect": "NoSchedule"}]}},
        "tolerations[0].key",
    ),
    (
        "ModelPool",
        "a variable that is none",
        {"deployment": {"environment": {"A-B": "c"}}},
        "spec.deployment.environment",
    ),
    ("ModePolicy", "a rule that says nothing", {"rules": [{"name": "a"}]}, "spec.rules[0].mode: Required value"),
    (
        "ModePolicy",
        "a rule that says too much",
        {"rules": [{"name": "a", "mode": "think", "threshold": 1}]},
        "spec.rules[0].mode",
    ),
    (
        "ModePolicy",
        "two rules of one name",
        {"rules": [{"name": "a", "mode": "think"}] * 2},
        "spec.rules: Duplicate value",
    ),
    ("ModePolicy", "a band in disorder", {"abstain": [0.6, 0.4]}, "spec.abstain: Invalid value"),
    (
        "ModePolicy",
        "confidence without a bound",
        {"escalation": {"triggers": ["confidence"]}},
        "spec.escalation.minMeanLogprob",
    ),
    (
        "ModePolicy",
        "a ceiling below",
        {"threshold": 0.9, "saturation": {"highestThreshold": 0.8}},
        "saturation.highestThreshold",
    ),
    (
        "ModePolicy",
        "the same in a candidate",
        {"candidate": {"policy": {"abstain": [1, 0]}}},
        "spec.candidate.policy.abstain",
    ),
    (
        "Tenant",
        "a budget in disorder",
        {"budgets": {"daily": {"hardUsd": 1, "softUsd": "1.5"}}},
        "spec.budgets.daily.softUsd",
    ),
    ("Tenant", "no models", {"models": []}, "spec.models"),
    ("Tenant", "a model that is none", {"models": ["a:think"]}, "spec.models[0]"),
    ("Tenant", "two keys of one name", {"keys": [{"name": "a"}, {"name": "a"}]}, "spec.keys[1]: Duplicate value"),
    (
        "Tenant",
        "a path that no key opens",
        {"keys": [{"name": "a", "endpoints": ["/v2"]}]},
        "spec.keys[0].endpoints[0]",
    ),
]


def test_wrong_objects_are_refused_with_the_field_named(cluster: Cluster, namespace: str) -> None:
    objects = []
    for number, (kind, _, change, _) in enumerate(WRONG):
        spec = {**(POOL if kind == "ModelPool" else {}), **change}
        objects.append(
            named(kind, f"w{number}", {name: value for name, value in spec.items() if value is not WITHOUT})
        )
    said = refused(create(cluster, namespace, *objects).stderr)
    wrong = {
        what: said.get(f"w{number}", "was taken")
        for number, (_, what, _, expected) in enumerate(WRONG)
        if expected not in said.get(f"w{number}", "")
    }
    assert not wrong


def test_a_key_pasted_for_its_digest_is_not_repeated(cluster: Cluster, namespace: str) -> None:
    key = "pk-3VtY9nbqXkQm2LrT7aWcEfGhJ4sDpZ8uCvB1xNyRoKiAAAAAA"
    said = create(
        cluster,
        namespace,
        named("Tenant", "a", {"keyDigests": [key]}),
        named("ModePolicy", "b", {"rules": [{"name": "a", "mode": "think", "match": {"keys": [key]}}]}),
    ).stderr
    assert said.count("never the key itself") == 2
    assert key not in said


def test_misspelled_fields_are_refused(cluster: Cluster, namespace: str) -> None:
    text = json.dumps(named("ModelPool", "a", POOL | {"max_waiting": 3}))
    done = cluster.kubectl("create", "--validate=strict", "-n", namespace, "-f", "-", stdin=text, check=False)
    assert done.returncode
    assert re.search(r'unknown field "(spec\.)?max_waiting"', done.stderr)


def test_what_a_pool_is_never_changes(cluster: Cluster, namespace: str) -> None:
    cluster.apply(named("ModelPool", "p", POOL | {"name": "my_pool"}), namespace=namespace)
    for patch, expected in (
        ({"model": "other"}, "spec.model: Invalid value: can't be changed"),
        ({"engine": "simulated"}, "spec.engine"),
        ({"name": "other"}, "spec.name"),
        ({"name": None}, "spec.name"),
        ({"urls": ["http://a:1"]}, "spec.urls"),
    ):
        body = json.dumps({"spec": patch})
        done = cluster.kubectl("patch", "mpool", "p", "-n", namespace, "--type=merge", "-p", body, check=False)
        assert done.returncode, patch
        assert expected in done.stderr
    cluster.kubectl("scale", "mpool", "p", "-n", namespace, "--replicas=3")
    found = cluster.get("modelpool", "p", namespace=namespace)
    assert (found["spec"]["replicas"], ModelPoolObject.read(found).name) == (3, "my_pool")


def test_defaults_are_filled_in_as_the_schema_has_them(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        named("ModelPool", "p", POOL), named("ModePolicy", "p", {}), named("Tenant", "p", {}), namespace=namespace
    )
    pool = cluster.get("modelpool", "p", namespace=namespace)["spec"]
    assert (pool["maxWaiting"], pool["capabilities"]["context"], pool["upgrade"]["shares"]) == (
        1024,
        8192,
        [0.1, 0.5],
    )
    policy = cluster.get("modepolicy", "p", namespace=namespace)["spec"]
    assert (policy["threshold"], policy["escalation"]["triggers"][0]) == (0.5, "empty")
    tenant = cluster.get("tenants.pointsman.dev", "p", namespace=namespace)["spec"]
    assert (tenant["priority"], tenant["budgets"]["atSoftMark"]) == (5, "warn")


def test_kubectl_explains_and_lists(cluster: Cluster, namespace: str) -> None:
    cluster.apply(named("ModelPool", "p", POOL), named("Tenant", "t", {}), namespace=namespace)
    status = {
        "phase": "Ready",
        "readyReplicas": 1,
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Told", "lastTransitionTime": "2026-01-31T12:00:00Z"}
        ],
    }
    for kind, name in (("mpool", "p"), ("ptenant", "t")):
        told = {"conditions": status["conditions"]} if kind == "ptenant" else status
        body = json.dumps({"status": told})
        cluster.kubectl("patch", kind, name, "-n", namespace, "--subresource=status", "--type=merge", "-p", body)
    listed = cluster.kubectl("get", "pointsman", "-n", namespace).stdout
    assert re.search(r"modelpool.pointsman.dev/p +m +\[\"think\"\] +Ready", listed)
    assert re.search(r"tenant.pointsman.dev/t +True", listed)
    said = " ".join(cluster.kubectl("explain", "mpool.spec.thinkingBudget").stdout.split())
    assert "Thinking tokens per request at most" in said
    said = " ".join(cluster.kubectl("explain", "mpol.spec.onThinkingBudgetSpent").stdout.split())
    assert "What happens once `dailyThinkingTokens` are spent." in said
    assert "`degrade`: They are answered without thinking, and say so." in said
