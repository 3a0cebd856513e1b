"""The objects as the operator reads and writes them: `ModelPool`, `ModePolicy`, `Tenant`.

What other parts import. A `spec` is the configuration's own schema (`Pool`, `Policy`, `Tenant`) spelled in
camelCase, beside a few fields that only a cluster has. Knows neither the API server nor the admin API; needs no
package but the contracts', so that the command line converts configurations with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError

from pointsman.contracts.config import Pool, Tenant
from pointsman.contracts.config_problems import Problem, explain
from pointsman.contracts.config_types import Location, Name, Strict
from pointsman.contracts.policies import Policy, PolicyDocument
from pointsman.operators import kinds
from pointsman.operators.deployment import Deployment, Upgrade
from pointsman.operators.key_secrets import KeySecret, KeySecrets, PolicyRef
from pointsman.operators.kinds import API_VERSION, GROUP, VERSION, Annotation, Kind
from pointsman.operators.spelling import Problems, camel, camel_location, camel_text, to_snake, unknown_field
from pointsman.operators.statuses import (
    CanaryStatus,
    Condition,
    KeyStatus,
    ModelPoolStatus,
    ModePolicyStatus,
    TenantStatus,
)

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "Annotation",
    "CanaryStatus",
    "Condition",
    "Deployment",
    "InvalidObject",
    "KeySecret",
    "KeyStatus",
    "Kind",
    "Meta",
    "ModePolicyObject",
    "ModePolicyStatus",
    "ModelPoolObject",
    "ModelPoolStatus",
    "PolicyRef",
    "PoolSettings",
    "TenantObject",
    "TenantSettings",
    "TenantStatus",
    "Upgrade",
    "spec_path",
]

Model = TypeVar("Model", bound=BaseModel)

_OPTIONAL_NAME = (
    "Its name in headers, metrics, bills and the admin API, where that can't be an object's (as with `_`). Never "
    "changes. Default: the object's name."
)


class PoolSettings(Strict):
    """What a ModelPool says beside its `Pool`."""

    name: Name | None = Field(None, description=_OPTIONAL_NAME)
    deployment: Deployment = Deployment()
    """How the replicas run. Of no effect on a pool with `urls`."""
    upgrade: Upgrade = Upgrade()
    """How a new version takes over. Of no effect on a pool with `urls`."""


class TenantSettings(Strict):
    """What a Tenant says beside its `Tenant` of the configuration."""

    name: Name | None = Field(None, description=_OPTIONAL_NAME)
    policy_ref: PolicyRef | None = None
    """The ModePolicy of this tenant. Default: none, everything at its default."""
    keys: KeySecrets = ()
    """Keys that the operator makes, each written to a Secret of the tenant's namespace. Default: none."""


class InvalidObject(Exception):
    """
    An object that the API server took and the schema does not: `problems` lists what is wrong, by path.

    No message holds a value that may be a key.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class Meta:
    """Of an object's metadata what the operator needs. `generation` grows with each change of the spec."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    annotations: Mapping[str, str]
    finalizers: tuple[str, ...]
    deleting: bool

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """The metadata of `body`; what is missing (in a file that was never applied) is empty."""
        metadata = body.get("metadata") or {}
        return cls(
            namespace=metadata.get("namespace") or "",
            name=metadata.get("name") or "",
            uid=metadata.get("uid") or "",
            generation=metadata.get("generation") or 0,
            resource_version=metadata.get("resourceVersion") or "",
            annotations=metadata.get("annotations") or {},
            finalizers=tuple(metadata.get("finalizers") or ()),
            deleting=bool(metadata.get("deletionTimestamp")),
        )

    @property
    def paused(self) -> bool:
        """Whether nothing of this object is to be changed for now."""
        return self.annotations.get(Annotation.PAUSED) == "true"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class ModelPoolObject:
    """A ModelPool. `pool.name` is the platform's name for it; `meta.name` the object's."""

    KIND: ClassVar[Kind] = kinds.MODEL_POOL
    PARTS: ClassVar[tuple[type[BaseModel], ...]] = (Pool, PoolSettings)

    meta: Meta
    pool: Pool
    deployment: Deployment
    upgrade: Upgrade

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """The ModelPool in `body`, as the API server or a file gives it. Raises `InvalidObject`."""
        meta = Meta.read(body)
        reading = _Reading(body, cls.PARTS)
        settings = reading.part(PoolSettings)
        pool = reading.part(Pool, {"name": (settings and settings.name) or meta.name})
        if settings is None or pool is None:
            raise InvalidObject(reading.problems)
        return cls(reading.checked(meta), pool, settings.deployment, settings.upgrade)

    @property
    def name(self) -> str:
        """What headers, metrics, bills and the admin API call it."""
        return self.pool.name

    @property
    def external(self) -> bool:
        """Whether somebody else runs its replicas: it is reached by URL, and needs no Ray."""
        return bool(self.pool.urls)


@dataclass(frozen=True, slots=True)
class ModePolicyObject:
    """A ModePolicy: what tenants of its namespace refer to."""

    KIND: ClassVar[Kind] = kinds.MODE_POLICY
    PARTS: ClassVar[tuple[type[BaseModel], ...]] = (Policy, PolicyDocument)

    meta: Meta
    document: PolicyDocument

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """The ModePolicy in `body`. Raises `InvalidObject`."""
        reading = _Reading(body, cls.PARTS)
        policy = reading.part(Policy)
        beside = reading.part(PolicyDocument)
        if policy is None or beside is None:
            raise InvalidObject(reading.problems)
        meta = reading.checked(Meta.read(body))
        return cls(meta, PolicyDocument(policy=policy, candidate=beside.candidate))


@dataclass(frozen=True, slots=True)
class TenantObject:
    """A Tenant. `tenant.name` is the platform's name for it; `tenant.policy` is left at its default."""

    KIND: ClassVar[Kind] = kinds.TENANT
    PARTS: ClassVar[tuple[type[BaseModel], ...]] = (Tenant, TenantSettings)

    meta: Meta
    tenant: Tenant
    policy_ref: PolicyRef | None
    keys: tuple[KeySecret, ...]

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        """The Tenant in `body`. Raises `InvalidObject`."""
        meta = Meta.read(body)
        reading = _Reading(body, cls.PARTS)
        settings = reading.part(TenantSettings)
        tenant = reading.part(Tenant, {"name": (settings and settings.name) or meta.name})
        if settings is None or tenant is None:
            raise InvalidObject(reading.problems)
        return cls(reading.checked(meta), tenant, settings.policy_ref, settings.keys)

    @property
    def name(self) -> str:
        """What bills, metrics and the admin API call it."""
        return self.tenant.name


def spec_fields(parts: tuple[type[BaseModel], ...]) -> dict[str, type[BaseModel]]:
    """
    The fields of a spec, each with the model it comes from.

    Those of the later parts go before equal ones of the earlier; a policy has an object of its own, or is the spec.
    """
    fields = {name: part for part in parts for name in part.model_fields}
    fields.pop("policy", None)
    if Tenant in parts:
        del fields["candidate"]
    return fields


def spec_path(of: type[ModelPoolObject | ModePolicyObject | TenantObject], path: str) -> str:
    """Where `path`, a field as the admin API names it (`limits.concurrency`, `urls[0]`), stands in the object."""
    steps = tuple(int(step) if step.isdecimal() else step for step in re.findall(r"[^.\[\]]+", path))
    if of is ModePolicyObject and steps[:1] == ("policy",):
        steps = steps[1:]
    if not steps:
        return "spec"
    owner = spec_fields(of.PARTS).get(str(steps[0]), of.PARTS[0])
    return _problem(owner, steps, "").path


class _Reading:
    """A spec, taken apart into the models that it is made of; gathers what is wrong with all of them."""

    def __init__(self, body: Mapping[str, Any], parts: tuple[type[BaseModel], ...]) -> None:
        self.problems: list[Problem] = []
        self._own: dict[type[BaseModel], dict[str, Any]] = {part: {} for part in parts}
        spec = body.get("spec") or {}
        if not isinstance(spec, Mapping):
            self.problems.append(Problem("spec", "must be a mapping (lines of `key: value`), not another value"))
            return
        owners = {camel(field): owner for field, owner in spec_fields(parts).items()}
        strays: Problems = []
        for name, value in spec.items():
            if (owner := owners.get(name)) is None:
                strays.append(((name,), unknown_field(str(name), owners)))
            else:
                self._own[owner] |= to_snake(owner, {name: value}, strays)
        self.problems += [Problem.at(("spec", *location), message) for location, message in strays]

    def part(self, model: type[Model], given: Mapping[str, Any] | None = None) -> Model | None:
        """`model` from its own fields of the spec and from what is `given`; None where something is wrong."""
        try:
            return model.model_validate({**self._own[model], **(given or {})})
        except ValidationError as error:
            self.problems += [_problem(model, *found) for found in explain(error, of=model)]
            return None

    def checked(self, meta: Meta) -> Meta:
        """`meta`, where nothing was wrong; else raises `InvalidObject`."""
        if self.problems:
            raise InvalidObject(self.problems)
        return meta


def _problem(model: type[BaseModel], location: Location, message: str) -> Problem:
    """What is wrong at `location` of `model`, in an object's words. A wrong name is usually the object's own."""
    return Problem.at(("spec", *camel_location(model, location)), camel_text(message))
