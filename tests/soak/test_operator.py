"""The operator with as many objects as one platform shall carry: how long from cold, and with how much memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from pointsman.contracts.names import OperatorMetric
from pointsman.operators.kinds import API_VERSION
from support import control_plane
from support.admin import admin
from support.control_plane import NoControlPlane
from support.gateway import Gateway, sample_sum, wait_for
from support.operators import CRDS, Operator, install_account
from support.tenancy import Watched, mode_policy, tenant

COLD = 300.0
"""Seconds that an operator may take, from its start, to have looked at everything."""

MEMORY = 300 * 1024 * 1024
"""Bytes that it may hold."""


def test_many_objects(folder: Path, short: bool, say: Callable[[str, object], None]) -> None:
    tenants, pools = (300, 15) if short else (10_000, 500)
    try:
        with (
            control_plane.private(folder / "plane") as (cluster, _),
            cluster.namespace() as namespace,
            Gateway(folder, pools=()) as gateway,
        ):
            cluster.install_crds(*CRDS)
            install_account(cluster, namespace)
            here = Watched(cluster, namespace)
            here.apply(mode_policy("all", threshold=0.4))
            with ThreadPoolExecutor(8) as pool:
                for done in pool.map(here.apply, [*_tenants(tenants), *_pools(pools)]):
                    assert done is None
            with Operator(cluster, namespace, gateway, folder, lease_seconds=15) as operator:
                began = time.monotonic()
                wait_for(lambda: _ready(here) == (tenants, pools), "all of them", operator.process, seconds=3600)
                say("tenants, each with policy and key, and pools", f"{tenants:,}, {pools:,}")
                say("seconds to make all of them", f"{time.monotonic() - began:.0f}")
                operator.kill()
                last = f"t-{tenants - 1:05}"
                here.merge("tenant", last, {"spec": {"priority": 9}})
                began = time.monotonic()
                operator.start()
                wait_for(lambda: _idle(operator) and _priority(gateway, last) == 9, "the cold start", seconds=COLD)
                say("seconds from a cold start until all is looked at", f"{time.monotonic() - began:.1f}")
                held = psutil.Process(operator.process.popen.pid).memory_info().rss
                most = _most_memory(operator.process.popen.pid)
                say("memory of the operator, then and at most", f"{held / 2**20:.0f} MiB, {most / 2**20:.0f} MiB")
                assert most < MEMORY
    except NoControlPlane as reason:
        pytest.skip(str(reason))


def _tenants(number: int) -> list[dict[str, Any]]:
    return [
        tenant(f"t-{one:05}", limits={"concurrency": 5}, policyRef={"name": "all"}, keys=[{"name": "k"}])
        for one in range(number)
    ]


def _pools(number: int) -> list[dict[str, Any]]:
    """Pools that somebody else runs: what they cost the operator is the same, but for Ray."""
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "ModelPool",
            "metadata": {"name": f"p-{one:05}"},
            "spec": {
                "model": f"m-{one:05}",
                "modes": ["no_think"],
                "engine": "openai",
                "urls": ["http://127.0.0.1:9"],
                "prices": {"input": "1", "output": "1"},
            },
        }
        for one in range(number)
    ]


def _ready(here: Watched) -> tuple[int, int]:
    """How many Tenants are ready, and how many ModelPools the admin API has taken."""
    found = []
    for kind, wanted in (("tenant", "Ready"), ("modelpool", "Synced")):
        conditions = [one.get("status", {}).get("conditions", ()) for one in here.list(kind)]
        found.append(
            sum(any(one["type"] == wanted and one["status"] == "True" for one in all_) for all_ in conditions)
        )
    return found[0], found[1]


def _most_memory(pid: int) -> int:
    """Bytes that the process has held at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def _idle(operator: Operator) -> bool:
    try:
        text = httpx.get(f"http://127.0.0.1:{operator.port}/metrics", timeout=5).text
    except httpx.TransportError:
        return False
    return operator.state() == "leading" and sample_sum(text, OperatorMetric.QUEUED) == 0


def _priority(gateway: Gateway, name: str) -> int:
    document: dict[str, Any] = admin(gateway, "GET", f"/tenants/{name}").json()["document"]
    priority: int = document["priority"]
    return priority
