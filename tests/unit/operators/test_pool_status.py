"""What the status of a pool says of its replicas."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.operators import pool_status
from pointsman.operators.documents import ModelPoolObject
from pointsman.operators.platform_pools import PlatformPool
from pointsman.operators.pool_status import Look
from pointsman.operators.ray_service import Counts
from pointsman.operators.upgrade import Course, Report

SPEC = {
    "model": "m",
    "modes": ["no_think"],
    "engine": "sglang",
    "modelPath": "/models/m",
    "replicas": 2,
    "gpu": {"type": "NVIDIA-H100-80GB-HBM3", "perNode": 1},
    "prices": {"input": "0.2", "output": "0.6"},
}


def status_of(replicas: dict[str, int] | None, kept: tuple[str, ...], old: dict[str, Any]) -> dict[str, Any]:
    """The status where routers tell of `replicas` by revision (None: of nothing), and the versions `kept` stay."""
    pool = ModelPoolObject.read(
        {"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1}, "spec": SPEC}
    )
    reports = None if replicas is None else {name: Report(replicas=number) for name, number in replicas.items()}
    platform = PlatformPool(version=1, traffic={}, reports=reports, ready=0, running=0)
    versions: dict[str, Counts | None] = dict.fromkeys(kept)
    versions[kept[-1]] = Counts.of(pool.pool)
    return pool_status.run(pool, old, Look(platform, "", Course(kept[-1]), versions, {}))


@pytest.mark.parametrize(
    ("replicas", "kept", "ready"),
    [
        ({"new": 2}, ("new",), 2),
        ({"old": 2, "new": 2}, ("old", "new"), 4),  # the former one finishes what it has begun
        ({"old": 2, "new": 2}, ("new",), 2),  # it is gone, and routers have not noticed yet
        ({"old": 1}, ("new",), 0),
        ({}, ("new",), 0),
        (None, ("new",), 7),  # nobody can be asked: what was true last
    ],
)
def test_replicas_are_those_of_versions_that_stay(
    replicas: dict[str, int] | None, kept: tuple[str, ...], ready: int
) -> None:
    assert status_of(replicas, kept, {"readyReplicas": 7})["readyReplicas"] == ready
