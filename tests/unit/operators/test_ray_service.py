"""What a pool becomes in a cluster: which changes are another version, and what pods ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pointsman.contracts.config import Pool
from pointsman.operators import belongings
from pointsman.operators.documents import ModelPoolObject
from pointsman.operators.ray_service import (
    READ_BY_REPLICAS,
    READ_BY_ROUTERS,
    Counts,
    Defaults,
    ray_service,
    ray_service_name,
    short_name,
    version,
)

SPEC: dict[str, Any] = {
    "model": "qwen3-32b",
    "modes": ["think"],
    "family": "qwen3",
    "engine": "sglang",
    "modelPath": "/models/qwen3-32b",
    "tensorParallel": 4,
    "replicas": 3,
    "gpu": {"type": "NVIDIA-H100-80GB-HBM3", "perNode": 4},
    "prices": {"input": "0.2", "output": "0.6"},
    "deployment": {
        "weights": {"claim": "models", "subPath": "qwen"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 30}],
        "nodeSelector": {"zone": "a"},
        "environment": {"NCCL_DEBUG": "WARN", "POINTSMAN_REPLICA_SECRET": "mine"},
        "secretEnvironment": {"HF_TOKEN": {"secret": "hub", "key": "token"}},
        "podLabels": {"team": "search", "pointsman.dev/pool": "mine"},
        "resources": {"requests": {"cpu": 8}},
    },
}
DEFAULTS = Defaults(image="registry/serving:1", ray_version="2.60.0", secrets="d1")


def pool(name: str = "deep", **changes: Any) -> ModelPoolObject:
    spec = {**SPEC, **{key: value for key, value in changes.items() if key != "deployment"}}
    spec["deployment"] = {**SPEC["deployment"], **changes.get("deployment", {})}
    metadata = {"name": name, "namespace": "models", "uid": "u1", "generation": 1}
    return ModelPoolObject.read({"metadata": metadata, "spec": spec})


def test_every_field_of_a_pool_is_somebodys() -> None:
    """A new field is either a replica's, and changes its version, or a router's, and does not."""
    assert set(Pool.model_fields) == READ_BY_REPLICAS | READ_BY_ROUTERS
    assert not READ_BY_REPLICAS & READ_BY_ROUTERS


@pytest.mark.parametrize(
    ("change", "another"),
    [
        ({"replicas": 7}, False),
        ({"prices": {"input": "9", "output": "9"}}, False),
        ({"maxWaiting": 3}, False),
        ({"deployment": {"startTimeout": 60}}, False),
        ({"deployment": {"maxUnavailable": 2}}, False),
        ({"modelPath": "/models/other"}, True),
        ({"engineArgs": {"mem_fraction_static": 0.8}}, True),
        ({"deployment": {"image": "registry/serving:2"}}, True),
        ({"deployment": {"nodeSelector": {"zone": "b"}}}, True),
        ({"deployment": {"environment": {}}}, True),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_what_is_another_version(change: dict[str, Any], another: bool) -> None:
    changed = version(pool(**change), DEFAULTS).revision != version(pool(), DEFAULTS).revision
    assert changed is another


def test_another_secret_is_another_version_and_tells_nothing() -> None:
    digests = {belongings.digest("s" * 40, url) for url in ("redis://:a@h", "redis://:b@h")}
    assert len(digests) == 2
    assert len({version(pool(), Defaults("i", "2.60.0", each)).revision for each in digests}) == 2


def test_pods_of_replicas() -> None:
    made = ray_service(pool(), version(pool(), DEFAULTS), Counts(3, 3))
    group = made["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    template = group["template"]
    spec, container = template["spec"], template["spec"]["containers"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"], group["numOfHosts"]) == (3, 3, 3, 1)
    assert container["resources"] == {
        "requests": {"cpu": "8", "nvidia.com/gpu": "4"},
        "limits": {"nvidia.com/gpu": "4"},
    }
    assert spec["nodeSelector"] == {"zone": "a", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 30}]
    weights = next(each for each in container["volumeMounts"] if each["name"] == "weights")
    assert weights == {"name": "weights", "mountPath": "/models", "readOnly": True, "subPath": "qwen"}
    environment = {each["name"]: each for each in container["env"]}
    assert len(environment) == len(container["env"])
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"]["value"] == "1"
    assert environment["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "token"}
    secret = environment["POINTSMAN_REPLICA_SECRET"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "deep-replica", "key": "replica-secret"}, "the operator's own goes before"
    assert template["metadata"]["labels"]["pointsman.dev/pool"] == "deep"
    assert template["metadata"]["labels"]["team"] == "search"
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    assert made["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token"}
    head = made["spec"]["rayClusterConfig"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0", "no replica runs beside the head"
    assert "nvidia.com/gpu" not in json.dumps(head)


def test_a_replica_of_several_nodes_gets_one_pod_on_each() -> None:
    large = pool(tensorParallel=16, nodes=2, gpu={"type": "H100", "perNode": 8}, replicas=2)
    made = ray_service(large, version(large, DEFAULTS), Counts(2, 2))
    group = made["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    assert (group["replicas"], group["numOfHosts"]) == (2, 2)
    assert belongings.disruption_budget(large, Counts(2, 2))["spec"]["minAvailable"] == 3  # type: ignore[index]


def test_a_scaled_pool_has_its_bounds_as_an_override() -> None:
    scaled = pool(autoscaling={"minReplicas": 0, "maxReplicas": 5})
    of = version(scaled, DEFAULTS)
    made = ray_service(scaled, of, Counts(0, 5))
    cluster = made["spec"]["rayClusterConfig"]
    application = json.loads(made["spec"]["serveConfigV2"])["applications"][0]
    deployment = application["deployments"][0]
    assert cluster["enableInTreeAutoscaling"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    assert [group["template"]["spec"]["restartPolicy"] for group in groups] == ["Never", "Never"]
    assert (deployment["num_replicas"], deployment["autoscaling_config"]["max_replicas"]) == ("auto", 5)
    assert deployment["autoscaling_config"]["policy"]["policy_kwargs"]["pool"] == "deep"
    assert "autoscaling" not in application["args"]["pool"]
    wider = pool(autoscaling={"minReplicas": 1, "maxReplicas": 9})
    assert version(wider, DEFAULTS).revision == of.revision, "bounds change in place"
    assert belongings.disruption_budget(scaled, Counts(0, 5)) is None


def test_build_pool_takes_what_is_written() -> None:
    """The application's own builder understands the arguments: nothing in them is unknown to it."""
    application = pytest.importorskip("pointsman.serving.pool_application")
    of = version(pool(), DEFAULTS)
    made = ray_service(pool(), of, Counts(3, 3))
    arguments = json.loads(made["spec"]["serveConfigV2"])["applications"][0]["args"]
    read = application.PoolArgs.model_validate(arguments)
    assert read.revision == of.revision
    assert read.pool.model_path == "/models/qwen3-32b"


@pytest.mark.parametrize("name", ["deep", "a.b", "x" * 60, "a_b", "A-", "x" * 37 + "-y"])
def test_names_fit_where_they_are_used(name: str) -> None:
    made = ray_service_name(pool("deep").meta, "0" * 8)
    assert len(made) <= 47
    short = short_name(name)
    assert len(short) <= 38
    assert short.replace("-", "").isalnum()
    assert not short.endswith("-")
    assert short == name or short != short_name(name + "z")
