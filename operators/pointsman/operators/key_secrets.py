"""What a Tenant says of its keys and of its policy: by reference, never themselves.

Separate from the tenant of the configuration file, which knows keys by their digests alone.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pointsman.contracts.config_types import Strict
from pointsman.contracts.keys import KeyScope
from pointsman.operators.deployment import ObjectName

MOST_KEYS = 32
"""Keys that one Tenant names at most."""

DAY = 86_400


class PolicyRef(Strict):
    """Which ModePolicy is meant."""

    name: ObjectName
    """Name of a ModePolicy of the same namespace."""


class KeySecret(KeyScope):
    """
    A key that the operator makes and keeps in a Secret: entry `key` there is what clients send. What is not limited
    here may be all that the tenant may.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
    """Unique name within the tenant; the label that the admin API shows."""
    secret_name: ObjectName | None = None
    """The Secret to write. Default: the tenant object's name, a dash, and `name`."""
    rotate_every: Annotated[int, Field(strict=True, ge=3600, le=10 * 366 * DAY)] | None = None
    """Seconds after which the key is replaced by a new one, in the same Secret. Default: never."""
    overlap: Annotated[int, Field(strict=True, ge=0, le=90 * DAY)] = DAY
    """Seconds for which a replaced key stays good. Default: 86400, a day."""


KeySecrets = Annotated[tuple[KeySecret, ...], Field(max_length=MOST_KEYS)]
