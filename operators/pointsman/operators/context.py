"""What every part of the operator works with: its settings and the two sides that it stands between."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.operators.admin_client import AdminApi
from pointsman.operators.cluster import Cluster
from pointsman.operators.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """One operator: `cluster` is what people write to, `admin` where the platform is told."""

    settings: Settings
    cluster: Cluster
    admin: AdminApi
