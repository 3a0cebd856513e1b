"""What the operator says of the objects: their status, with conditions as Kubernetes has them.

One schema for what is written and for what the definitions promise. Nothing in a status is a key or a prompt.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from pointsman.contracts.config_types import Probability, Strict
from pointsman.operators.spelling import to_camel

Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A moment in UTC, `2026-01-31T12:00:00Z`."""


class Truth(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Strict):
    """One thing that is true of the object, or not, and why."""

    type: Annotated[str, Field(max_length=316)]
    """What is spoken of; `Ready` sums all up."""
    status: Truth
    """Whether it holds."""
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """Why, in one word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, for people."""
    last_transition_time: Time
    """When `status` last changed."""
    observed_generation: Count | None = None
    """The generation of the spec that this was concluded from."""


class Status(Strict):
    """What every status says."""

    observed_generation: Count | None = None
    """The generation of the spec that was last acted upon."""
    conditions: tuple[Condition, ...] = ()
    """What holds, and why."""

    def written(self) -> dict[str, Any]:
        """The status as it stands in an object: plain values in camelCase, without what is not known."""
        plain: dict[str, Any] = to_camel(type(self), self.model_dump(mode="json", exclude_none=True))
        return plain


class CanaryStatus(Strict):
    """The new version on its way to replace the present one."""

    revision: str
    """The new version."""
    share: Probability
    """Its share of the new requests."""
    since: Time
    """Since when it has that share."""
    requests: Count = 0
    """Its requests that were looked at last."""
    errors: Probability | None = None
    """Share of them that failed."""
    ttft: Annotated[float, Field(ge=0)] | None = None
    """Their time to first token in seconds, 95th percentile."""
    present_errors: Probability | None = None
    """Share of the present version's requests that failed."""
    present_ttft: Annotated[float, Field(ge=0)] | None = None
    """The present version's time to first token in seconds, 95th percentile."""
    looks: Count = 0
    """How often both were looked at since it has that share."""
    looked: Time | None = None
    """When they were looked at last."""
    unobserved: bool = False
    """Whether it has waited too long for requests to judge it by."""


class DrainingStatus(Strict):
    """A version that gets no requests any more and finishes those it has."""

    revision: str
    """Which one."""
    since: Time
    """Since when."""


class ModelPoolStatus(Status):
    """How a pool is."""

    phase: str | None = None
    """One word for people: `Pending`, `Starting`, `Ready`, `Sleeping`, `Upgrading`, `Degraded`, `Paused`,
    `Draining` or `Failed`."""
    replicas: Count | None = None
    """Replicas that are wanted now."""
    ready_replicas: Count | None = None
    """Replicas that answer."""
    selector: str | None = None
    """Labels of the pool's pods, as selectors are written."""
    gpus: Count | None = None
    """Accelerators of the replicas that are wanted now."""
    hourly_usd: str | None = None
    """US dollars an hour for those accelerators; absent where `deployment.gpuHourlyUsd` is."""
    endpoint: str | None = None
    """Where routers find it: a service inside the cluster, or the pool's URLs."""
    revision: str | None = None
    """The version that answers."""
    failed_revision: str | None = None
    """The last version that was rolled back; it is not tried again until the spec changes."""
    failed_message: str | None = None
    """Why it was."""
    canary: CanaryStatus | None = None
    """The version that is being tried."""
    draining: tuple[DrainingStatus, ...] = ()
    """Versions that finish their last answers."""
    version: Count | None = None
    """The pool's version at the admin API."""


class KeyStatus(Strict):
    """A key of a tenant, all but itself."""

    name: str
    """Which one of `spec.keys`."""
    secret_name: str
    """The Secret that holds it."""
    key_id: str
    """Its id at the admin API."""
    rotated_at: Time | None = None
    """When it was made."""
    rotate_at: Time | None = None
    """When it will be replaced."""


class ModePolicyStatus(Status):
    """How a policy is."""

    tenants: Count | None = None
    """Tenants that it holds for."""


class TenantStatus(Status):
    """How a tenant is."""

    version: Count | None = None
    """The tenant's version at the admin API."""
    policy_version: Count | None = None
    """The version of its policy there."""
    keys: tuple[KeyStatus, ...] = ()
    """Its keys."""
