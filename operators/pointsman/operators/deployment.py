"""What a pool is beside its model: image, nodes, volumes, upgrades. All that only a cluster knows of it.

Separate from `Pool`, the schema that a configuration file shares: nothing here changes what a client is answered.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from pointsman.contracts.config_types import BrokenRules, Dollars, Flag, Probability, Seconds, Strict, Text

OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?([eE][0-9]+|m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
PATH_PATTERN = r"^/[^:]*$"


def _text_of_whole_number(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ObjectName = Annotated[str, Field(pattern=OBJECT_NAME_PATTERN, max_length=253)]
"""The name of another object."""

Quantity = Annotated[
    str,
    BeforeValidator(_text_of_whole_number),
    Field(pattern=QUANTITY_PATTERN, max_length=32),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": QUANTITY_PATTERN}]}),
]
"""An amount as Kubernetes spells it: `500m`, `8`, `16Gi`."""

AbsolutePath = Annotated[str, Field(pattern=PATH_PATTERN, max_length=1024)]
"""A path in a container or on a node, from the root."""

Variable = Annotated[str, Field(pattern=VARIABLE_PATTERN, max_length=128)]


class PullPolicy(StrEnum):
    """When a node fetches the image."""

    ALWAYS = "Always"
    """Each time a container starts."""
    IF_NOT_PRESENT = "IfNotPresent"
    """Where the node has none."""
    NEVER = "Never"
    """Never: the node has it."""


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    """New ones stay away."""
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    """New ones stay away where they can."""
    NO_EXECUTE = "NoExecute"
    """Running ones are evicted too."""


class TolerationOperator(StrEnum):
    """How a toleration compares."""

    EQUAL = "Equal"
    """Key and value are the taint's."""
    EXISTS = "Exists"
    """The key is the taint's; without a key, every taint."""


class Toleration(Strict):
    """A taint that the pool's pods put up with, as in a pod."""

    key: Annotated[str, Field(min_length=1, max_length=316)] | None = None
    """The taint's key. Default: every taint, with operator `Exists`."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """How it compares. Default: `Equal`."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """The taint's value, with operator `Equal`. Default: the empty one."""
    effect: TaintEffect | None = None
    """The effect that is put up with. Default: all."""
    toleration_seconds: Annotated[int, Field(strict=True, ge=0, le=10**9)] | None = None
    """Seconds until a taint with effect `NoExecute` evicts after all. Default: never."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.operator is TolerationOperator.EQUAL and self.key is None:
            raise BrokenRules([(("key",), "is missing: only operator Exists goes without")])
        if self.operator is TolerationOperator.EXISTS and self.value:
            raise BrokenRules([(("value",), "goes with operator Equal alone")])
        return self


class Resources(Strict):
    """What a container asks for and may use; accelerators follow from the pool."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    """What the scheduler keeps free for it, such as `cpu: 8`, `memory: 64Gi`. Default: nothing."""
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    """What it may use at most. Default: no limit."""


class WeightsVolume(Strict):
    """Where the weights lie: a claim, or a folder of the node."""

    claim: ObjectName | None = None
    """PersistentVolumeClaim of the pool's namespace; to be shared by several nodes it must allow that."""
    host_path: AbsolutePath | None = None
    """Folder of each node, for weights on local disks. Privileged: the cluster may forbid it."""
    sub_path: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Folder inside the volume. Default: its root."""
    mount_path: AbsolutePath = "/models"
    """Where the engine finds it; `modelPath` then begins with this. Default: `/models`."""
    read_only: Flag = True
    """Mounted read-only. Default: yes."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.claim is None) == (self.host_path is None):
            raise BrokenRules([(("claim",), "give this or `hostPath`, one of them")])
        return self


class SecretKey(Strict):
    """One entry of a Secret of the pool's namespace."""

    secret: ObjectName
    """Name of the Secret."""
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    """Which entry of it."""


class Deployment(Strict):
    """How the replicas of a pool that Pointsman starts are run. Nothing here holds for a pool with `urls`."""

    image: Annotated[Text, Field(max_length=1024)] | None = None
    """Image of the serving containers. Default: the operator's own setting."""
    image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When nodes fetch it. Default: `IfNotPresent`."""
    image_pull_secrets: Annotated[tuple[ObjectName, ...], Field(max_length=16)] = ()
    """Secrets that the registry wants to see. Default: none."""
    ray_version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$", max_length=32)] | None = None
    """Version of Ray in the image. Default: the operator's own setting."""
    service_account: ObjectName | None = None
    """ServiceAccount of the pods. Default: the namespace's own, without a token."""
    node_selector: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)
    """Labels that nodes must have, beside the type of accelerator. Default: none."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] = ()
    """Taints that the pods put up with. Default: none."""
    priority_class: ObjectName | None = None
    """PriorityClass of the pods. Default: the cluster's."""
    runtime_class: ObjectName | None = None
    """RuntimeClass of the pods, such as `nvidia`. Default: the cluster's."""
    gpu_resource: Annotated[Text, Field(max_length=316)] = "nvidia.com/gpu"
    """The resource that accelerators are asked for by. Default: `nvidia.com/gpu`."""
    gpu_label: Annotated[Text, Field(max_length=316)] = "nvidia.com/gpu.product"
    """The node label that must equal `gpu.type`. Default: `nvidia.com/gpu.product`."""
    gpu_hourly_usd: Dollars | None = None
    """US dollars that one accelerator costs an hour, for the hourly price in the status. Default: unknown."""
    resources: Resources = Resources()
    """What the container of a replica's node asks for. Default: accelerators alone."""
    head_resources: Resources = Resources(
        requests={"cpu": "1", "memory": "4Gi"}, limits={"cpu": "2", "memory": "8Gi"}
    )
    """What the container of the Ray head asks for. Default: 1 CPU and 4Gi, at most 2 CPUs and 8Gi."""
    shared_memory: Quantity = "8Gi"
    """Memory at most behind `/dev/shm`, over which the processes of an engine talk. Default: `8Gi`."""
    weights: WeightsVolume | None = None
    """Where the weights lie. Default: in the image, or fetched by the engine."""
    environment: Annotated[dict[Variable, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Environment variables of the engine. Default: none."""
    secret_environment: Annotated[dict[Variable, SecretKey], Field(max_length=64)] = Field(default_factory=dict)
    """Environment variables of the engine that come from Secrets, such as `HF_TOKEN`. Default: none."""
    pod_labels: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)
    """Labels that the pods get beside the operator's. Default: none."""
    pod_annotations: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)
    """Annotations that the pods get. Default: none."""
    max_unavailable: Annotated[int, Field(strict=True, ge=0, le=10_000)] = 1
    """Pods that may be evicted at a time (PodDisruptionBudget). 0: none. Default: 1."""
    start_timeout: Seconds = 1800.0
    """Seconds that a replica has to load its weights before its start counts as failed. Default: 1800."""
    drain_timeout: Seconds = 300.0
    """Seconds that running answers get when the pool is deleted or a version is replaced. Default: 300."""


class Unobserved(StrEnum):
    """What becomes of a new version that gets too few requests to be judged by."""

    WAIT = "wait"
    """It keeps its share until it has had them, and the pool says so."""
    PROMOTE = "promote"
    """It is taken as good, and the pool says so."""


class Upgrade(Strict):
    """
    How a new version of a pool that Pointsman starts replaces the present one: by shares of its new requests, each
    watched for a while, and back to the present one where it answers worse.
    """

    shares: Annotated[tuple[Annotated[Probability, Field(gt=0)], ...], Field(max_length=10)] = (0.1, 0.5)
    """Shares of the requests that the new version gets, one after the other, rising; then all. Empty: all at once.
    Default: 0.1, then 0.5."""
    hold: Seconds = 300.0
    """Seconds for which each share is watched. Default: 300."""
    at_least: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 50
    """Requests of the new version below which nothing is concluded. Default: 50."""
    unobserved: Unobserved = Unobserved.WAIT
    """What becomes of it where a share of three times `hold` has not brought so many. Default: `wait`."""
    errors: Probability = 0.02
    """How much larger the share of its requests that fail may be than the present version's. Default: 0.02."""
    ttft: Annotated[float, Field(strict=True, ge=1, le=100, allow_inf_nan=False)] = 1.5
    """How many times the present version's time to first token its own (95th percentile) may be. Default: 1.5."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(later <= earlier for earlier, later in zip(self.shares, self.shares[1:], strict=False)):
            raise BrokenRules([(("shares",), "must rise from one to the next")])
        return self
