"""Bringing the definitions into a cluster: applied on the server's side, then waited for.

Helm installs what lies in a chart's `crds/` and never touches it again; an upgrade runs this beforehand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from pointsman.operators.cluster import Cluster, NotFound, Resource

DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

PATIENCE = 60.0
"""Seconds that the API server has to take objects of a new definition."""

_LOOK = 0.2
"""Seconds between two looks at it."""


class NotEstablished(Exception):
    """The API server has a definition, and does not serve it."""


async def apply(definitions: Iterable[dict[str, Any]], *, kubeconfig: str | None = None) -> list[str]:
    """
    Apply `definitions` and wait until all are established; their names.

    Fields that somebody else has set are taken over. Raises `ClusterError`, or `NotEstablished` after `PATIENCE`.
    """
    cluster = await Cluster.connect(kubeconfig)
    try:
        names = []
        for definition in definitions:
            await cluster.apply(DEFINITIONS, definition)
            names.append(definition["metadata"]["name"])
        deadline = time.monotonic() + PATIENCE
        for name in names:
            while not await _established(cluster, name):
                if time.monotonic() > deadline:
                    raise NotEstablished(f"{name} is applied, and still not established after {PATIENCE:.0f} s")
                await asyncio.sleep(_LOOK)
        return names
    finally:
        await cluster.close()


async def _established(cluster: Cluster, name: str) -> bool:
    try:
        found = await cluster.get(DEFINITIONS, None, name)
    except NotFound:
        return False
    conditions = found.get("status", {}).get("conditions", ())
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
