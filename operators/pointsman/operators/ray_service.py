"""A version of a pool as a RayService: pods, placement, resources, and the Ray Serve application that they run.

Pure. Every version of a pool is a RayService of its own, named after its revision, a digest of all that its pods
and replicas are made of: so a new version comes up beside the present one, routers split requests between them,
and going back is taking the new one away. How many replicas run is no part of a version: counts change in place,
as overrides of Ray Serve's configuration, which restart nothing.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import orjson

from pointsman.contracts.autoscaling import autoscaling_fields
from pointsman.contracts.config import Pool
from pointsman.contracts.names import Env
from pointsman.operators.cluster import Object, Resource
from pointsman.operators.deployment import Deployment, Resources
from pointsman.operators.documents import API_VERSION, GROUP, Meta, ModelPoolObject
from pointsman.operators.kinds import MODEL_POOL

RAY_SERVICES = Resource("ray.io", "v1", "rayservices", "RayService")

READ_BY_REPLICAS = frozenset(
    {
        "capabilities",
        "chat_template",
        "engine",
        "engine_args",
        "family",
        "gpu",
        "max_ongoing_requests",
        "model",
        "model_path",
        "modes",
        "name",
        "nodes",
        "pipeline_parallel",
        "reasoning_parser",
        "served_model_name",
        "template_opens_thinking",
        "tensor_parallel",
        "thinking_budget",
        "tool_call_parser",
    }
)
"""Fields of a pool that its replicas are told. Another value of one of them is another version."""

READ_BY_ROUTERS = frozenset(
    {
        "answer_timeout",
        "autoscaling",
        "connect_timeout",
        "default_max_tokens",
        "first_byte_timeout",
        "health_interval",
        "idle_timeout",
        "licence_notice",
        "max_waiting",
        "place_timeout",
        "prices",
        "replicas",
        "urls",
        "wake_timeout",
    }
)
"""Fields that routers alone heed, or that change in place: their replicas keep running."""

POOL_LABEL = f"{GROUP}/pool"
REVISION_LABEL = f"{GROUP}/revision"
ROLE_LABEL = f"{GROUP}/role"

REPLICA_PORTS = (30000, 30007)
"""
Ports on which replicas answer, first and last: what NetworkPolicies open to routers. A pod has one replica; another
may still finish its answers there when it starts.
"""

SERVE_PORT = 8000
"""Port of Ray Serve's own proxies, by which Ray and Kubernetes tell whether a node serves."""

SECRET_KEYS = {Env.REPLICA_SECRET: "replica-secret", Env.REDIS_URL: "redis-url"}
"""Environment variables of serving containers, and the entries of the pool's Secret that they come from."""

_IMPORT_PATH = "pointsman.serving.pool_application:build_pool"

_ENVIRONMENT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HOME": "/var/lib/pointsman",
    "HF_HOME": "/var/lib/pointsman/huggingface",
    "XDG_CACHE_HOME": "/var/lib/pointsman/cache",
}
"""Of every serving container: Ray's HAProxy data path, and caches in the one folder that can be written."""

_NO_PRICES = {"input": 0, "output": 0}
"""In place of a pool's prices, which a replica has no use for and which may change while it runs."""

_LONGEST_NAME = 38
"""Characters of a pool's name in names of its RayServices: KubeRay takes 47, a revision has 9 of them."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """
    What the operator's settings say where a pool does not: `image` and `ray_version` of serving pods.

    `secrets`: a keyed digest of what the pool's Secret holds, so that another content is another version.
    """

    image: str
    ray_version: str
    secrets: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Replicas of one version: a fixed number, or at least and at most where they are scaled automatically."""

    least: int
    most: int

    @classmethod
    def of(cls, pool: Pool) -> Counts:
        """What the pool asks for."""
        if pool.autoscaling is None:
            return cls(pool.replicas, pool.replicas)
        return cls(pool.autoscaling.min_replicas, pool.autoscaling.max_replicas)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a pool, before anything is said about how many replicas it has."""

    revision: str
    cluster: Object
    """`rayClusterConfig`, without counts and without the labels that name the revision."""
    arguments: Object
    """Arguments of `build_pool`, all but the revision."""


def short_name(name: str, longest: int = _LONGEST_NAME) -> str:
    """`name` as it can begin the name of a Service: lower-case letters, digits and dashes, at most `longest`."""
    plain = re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")
    if plain == name and len(plain) <= longest:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{plain[: longest - 7].rstrip('-')}-{digest}"


def ray_service_name(meta: Meta, revision: str) -> str:
    """The name of the RayService of one version."""
    return f"{short_name(meta.name)}-{revision}"


def secret_name(meta: Meta) -> str:
    """The name of the Secret that replicas of the pool take their credentials from."""
    return f"{short_name(meta.name, 50)}-replica"


def version(pool: ModelPoolObject, defaults: Defaults) -> Version:
    """What the pods and replicas of `pool` are made of now, and the revision that stands for it."""
    cluster = _cluster(pool, defaults)
    told = pool.pool.model_dump(mode="json", include=set(READ_BY_REPLICAS), exclude_defaults=True)
    arguments: Object = {"pool": {**told, "prices": _NO_PRICES}, "drain_timeout": pool.deployment.drain_timeout}
    arguments["ports"] = REPLICA_PORTS
    digest = hashlib.sha256(orjson.dumps([cluster, arguments], option=orjson.OPT_SORT_KEYS)).hexdigest()
    return Version(digest[:8], cluster, arguments)


def ray_service(pool: ModelPoolObject, of: Version, counts: Counts) -> Object:
    """The RayService of one version of `pool` with so many replicas, as it is applied."""
    group = {
        **of.cluster["workerGroupSpecs"][0],
        "replicas": counts.least,
        "minReplicas": counts.least,
        "maxReplicas": max(counts.most, 1),  # KubeRay takes no group that can have no pod
    }
    head = of.cluster["headGroupSpec"]
    cluster = {
        **of.cluster,
        "headGroupSpec": {**head, "template": _labelled(head["template"], of.revision)},
        "workerGroupSpecs": [{**group, "template": _labelled(group["template"], of.revision)}],
    }
    return {
        "apiVersion": RAY_SERVICES.api_version,
        "kind": RAY_SERVICES.kind,
        "metadata": {
            "name": ray_service_name(pool.meta, of.revision),
            "namespace": pool.meta.namespace,
            "labels": {**labels(pool), REVISION_LABEL: of.revision},
            "ownerReferences": [owner(pool)],
        },
        "spec": {
            "serveConfigV2": serve_config(pool.pool, of, counts),
            "excludeHeadPodFromServeSvc": True,
            "upgradeStrategy": {"type": "None"},  # a changed version is another RayService
            "rayClusterConfig": cluster,
        },
    }


def serve_config(pool: Pool, of: Version, counts: Counts) -> str:
    """`serveConfigV2`: one application, whose counts are overrides of what `build_pool` says."""
    deployment: Object = {"name": pool.name}
    if pool.nodes == 1:
        deployment["max_replicas_per_node"] = 1  # where no accelerators keep replicas apart: a pod has one
    if pool.autoscaling is None:
        deployment["num_replicas"] = counts.least
    else:
        deployment["num_replicas"] = "auto"
        bounds = pool.autoscaling.model_copy(
            update={"min_replicas": counts.least, "max_replicas": max(counts.most, 1)}
        )
        deployment["autoscaling_config"] = autoscaling_fields(pool, bounds, of.revision)
    config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": SERVE_PORT},
        "applications": [
            {
                "name": pool.name,
                "import_path": _IMPORT_PATH,
                "route_prefix": None,
                "args": {**of.arguments, "revision": of.revision},
                "deployments": [deployment],
            }
        ],
    }
    return orjson.dumps(config, option=orjson.OPT_INDENT_2).decode()


def labels(pool: ModelPoolObject) -> dict[str, str]:
    """Labels of all that belongs to a pool. Names of pools are valid values of labels."""
    return {
        "app.kubernetes.io/part-of": "pointsman",
        "app.kubernetes.io/managed-by": "pointsman-operator",
        POOL_LABEL: pool.name,
    }


def owner(pool: ModelPoolObject) -> Object:
    """The reference by which Kubernetes deletes what belongs to a pool after the pool itself."""
    return {
        "apiVersion": API_VERSION,
        "kind": MODEL_POOL.name,
        "name": pool.meta.name,
        "uid": pool.meta.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _cluster(pool: ModelPoolObject, defaults: Defaults) -> Object:
    deployment, autoscaled = pool.deployment, pool.pool.autoscaling is not None
    head = _pod(pool, defaults, deployment.head_resources, role="head")
    if not autoscaled:  # else KubeRay gives the head an account by which its autoscaler asks for pods
        head["spec"]["automountServiceAccountToken"] = False
        if deployment.service_account is not None:
            head["spec"]["serviceAccountName"] = deployment.service_account
    cluster: Object = {
        "rayVersion": deployment.ray_version or defaults.ray_version,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": autoscaled,
        "headGroupSpec": {
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0", "num-gpus": "0"},
            "template": head,
        },
        "workerGroupSpecs": [
            {
                "groupName": "replicas",
                "numOfHosts": pool.pool.nodes,
                "rayStartParams": {},
                "template": _worker(pool, defaults),
            }
        ],
    }
    if autoscaled:
        cluster["autoscalerOptions"] = {"version": "v2", "upscalingMode": "Default", "idleTimeoutSeconds": 60}
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            # The autoscaler takes a pod for one node of Ray: one that ends is replaced, not started again.
            group["template"]["spec"]["restartPolicy"] = "Never"
    return cluster


def _worker(pool: ModelPoolObject, defaults: Defaults) -> Object:
    deployment, gpu = pool.deployment, pool.pool.gpu
    template = _pod(pool, defaults, deployment.resources, role="replica")
    spec, container = template["spec"], template["spec"]["containers"][0]
    spec["automountServiceAccountToken"] = False
    if deployment.service_account is not None:
        spec["serviceAccountName"] = deployment.service_account
    # A node serves once Ray Serve's proxy on it has a replica; KubeRay's own liveness probe asks the raylet.
    container["readinessProbe"] = {
        "httpGet": {"path": "/-/healthz", "port": SERVE_PORT},
        "periodSeconds": 5,
        "timeoutSeconds": 3,
        "failureThreshold": 2,
    }
    container["ports"] = [{"name": "serve", "containerPort": SERVE_PORT}]
    if gpu is not None:
        amount = {deployment.gpu_resource: str(gpu.per_node)}
        container["resources"] = {
            "requests": {**container["resources"].get("requests", {}), **amount},
            "limits": {**container["resources"].get("limits", {}), **amount},
        }
        spec["nodeSelector"] = {**spec.get("nodeSelector", {}), deployment.gpu_label: gpu.type}
    # One replica on a node is one actor that takes the pod's accelerators: they are always on one machine.
    # Replicas keep apart where they can, so that one machine lost is one replica lost.
    spec["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {POOL_LABEL: pool.name, ROLE_LABEL: "replica"}},
        }
    ]
    return template


def _pod(pool: ModelPoolObject, defaults: Defaults, resources: Resources, *, role: str) -> Object:
    deployment = pool.deployment
    volumes: list[Object] = [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": deployment.shared_memory}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "state", "emptyDir": {}},
    ]
    mounts: list[Object] = [
        {"name": "shared-memory", "mountPath": "/dev/shm"},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "state", "mountPath": "/var/lib/pointsman"},
    ]
    if role == "replica" and deployment.weights is not None:
        volume, mount = _weights(deployment)
        volumes.append(volume)
        mounts.append(mount)
    container: Object = {
        "name": f"ray-{'head' if role == 'head' else 'worker'}",
        "image": deployment.image or defaults.image,
        "imagePullPolicy": deployment.image_pull_policy.value,
        "env": _environment(pool),
        "resources": _plain(resources),
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "ray stop"]}}},
    }
    spec: Object = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": volumes,
    }
    if deployment.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in deployment.image_pull_secrets]
    if deployment.priority_class is not None:
        spec["priorityClassName"] = deployment.priority_class
    if deployment.tolerations:
        spec["tolerations"] = [
            _camel_toleration(each.model_dump(mode="json", exclude_none=True)) for each in deployment.tolerations
        ]
    if role == "replica":
        if deployment.runtime_class is not None:
            spec["runtimeClassName"] = deployment.runtime_class
        if deployment.node_selector:
            spec["nodeSelector"] = dict(deployment.node_selector)
    annotations = dict(deployment.pod_annotations)
    if defaults.secrets:
        annotations[f"{GROUP}/secrets"] = defaults.secrets
    template_labels = {**deployment.pod_labels, **labels(pool), ROLE_LABEL: role}
    return {"metadata": {"labels": template_labels, "annotations": annotations}, "spec": spec}


def _environment(pool: ModelPoolObject) -> list[Object]:
    """Each name once, as an applied list demands; what the operator gives goes before what the pool says."""
    deployment = pool.deployment
    entries: dict[str, Object] = {
        name: {"value": value} for name, value in {**_ENVIRONMENT, **deployment.environment}.items()
    }
    for name, each in deployment.secret_environment.items():
        entries[name] = {"valueFrom": {"secretKeyRef": {"name": each.secret, "key": each.key}}}
    for name, key in SECRET_KEYS.items():
        entries[name] = {"valueFrom": {"secretKeyRef": {"name": secret_name(pool.meta), "key": key}}}
    return [{"name": name, **entry} for name, entry in entries.items()]


def _weights(deployment: Deployment) -> tuple[Object, Object]:
    weights = deployment.weights
    assert weights is not None
    volume: Object = {"name": "weights"}
    if weights.claim is not None:
        volume["persistentVolumeClaim"] = {"claimName": weights.claim, "readOnly": weights.read_only}
    else:
        volume["hostPath"] = {"path": weights.host_path, "type": "Directory"}
    mount: Object = {"name": "weights", "mountPath": weights.mount_path, "readOnly": weights.read_only}
    if weights.sub_path is not None:
        mount["subPath"] = weights.sub_path
    return volume, mount


def _camel_toleration(toleration: Object) -> Object:
    if (seconds := toleration.pop("toleration_seconds", None)) is not None:
        toleration["tolerationSeconds"] = seconds
    return toleration


def _plain(resources: Resources) -> Object:
    amounts: dict[str, Any] = {"requests": dict(resources.requests), "limits": dict(resources.limits)}
    return {kind: amount for kind, amount in amounts.items() if amount}


def _labelled(template: Object, revision: str) -> Object:
    metadata = template["metadata"]
    return {**template, "metadata": {**metadata, "labels": {**metadata["labels"], REVISION_LABEL: revision}}}
