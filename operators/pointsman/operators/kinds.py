"""What the objects are called: group, version, kinds, annotations, finalizer, field manager.

Separate from what stands in them, so that tests and the parts of the operator name them without reading a schema.
"""

from __future__ import annotations

from dataclasses import dataclass

GROUP = "pointsman.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object; `group` and `version` are the same for all of ours."""

    name: str
    singular: str
    plural: str
    short: str

    @property
    def crd_name(self) -> str:
        """The name of the kind's CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


MODEL_POOL = Kind("ModelPool", "modelpool", "modelpools", "mpool")
MODE_POLICY = Kind("ModePolicy", "modepolicy", "modepolicies", "mpol")
TENANT = Kind("Tenant", "tenant", "tenants", "ptenant")
KINDS = (MODEL_POOL, MODE_POLICY, TENANT)


class Annotation:
    """Annotations that people set and the operator heeds."""

    PAUSED = f"{GROUP}/paused"
    """`true`: the operator changes nothing that belongs to the object until it is taken away."""
    ROTATE = f"{GROUP}/rotate"
    """On a Tenant. Another value than before replaces its keys; `NAME` or `NAME@anything` that key alone."""
    ADOPT = f"{GROUP}/adopt"
    """`true`: take over what another writer (`managed_by`) made under the object's name."""


FINALIZER = f"{GROUP}/drain"
"""On a ModelPool: held until its replicas have finished their answers."""

FIELD_MANAGER = "pointsman-operator"
"""The one name under which the operator writes fields."""
